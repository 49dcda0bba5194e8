"""Published detectors: every tensor in its place, the same outputs, the same detections."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
import tiny

torch = pytest.importorskip("torch")

from pse_jax import models  # noqa: E402
from pse_jax.categories import COCO  # noqa: E402
from pse_jax.config import ModelConfig  # noqa: E402
from pse_jax.config_checks import validate  # noqa: E402
from pse_jax.detector import detect  # noqa: E402
from pse_jax.errors import WeightsError  # noqa: E402
from pse_jax.models.resnet import BLOCKS  # noqa: E402
from pse_jax.points import level_shapes  # noqa: E402
from pse_jax.weights import published  # noqa: E402
from pse_jax.weights.presets import FORMATS, preset  # noqa: E402
from pse_jax.weights.start import check_meaning, load_into  # noqa: E402
from tests.weights import torch_fcos  # noqa: E402

FILES = {"fcos": "FCOS_R_50_FPN_1x.pth", "fcos-improved": "FCOS_imprv_R_50_FPN_1x.pth"}
WIDTH, CHANNELS = 8, 64  # of the small references
SHORT = (1, 2, 1, 1)  # bottlenecks a stage; with towers of two layers: compiles much faster
TOP_K = 60  # candidates per level: few enough that some are cut
LANDSCAPE, PORTRAIT = (96, 160), (160, 96)
# (image, original image), height before width: two sizes on one canvas
SIZES = {
    LANDSCAPE: (((90, 150), (75, 135)), ((61, 96), (48, 42))),
    PORTRAIT: (((150, 90), (135, 75)), ((96, 61), (42, 48))),
}


def translate(form, tensors, **options):
    arrays = torch_fcos.as_arrays(tensors)
    return published.translate(arrays, FILES.get(form, "weights.pth"), **options)


def nested(flat):
    """{"a/b": 1} -> {"a": {"b": 1}}; the model itself raises if anything is missing."""
    tree = {}
    for path, leaf in flat.items():
        *folders, name = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf
    return tree


@pytest.mark.parametrize(
    "form, canvas",
    [
        ("fcos", LANDSCAPE),
        ("fcos-improved", PORTRAIT),
        ("adelaidet", LANDSCAPE),
        ("torchvision", LANDSCAPE),
        ("torchvision", PORTRAIT),  # its grid depends on the canvas
        ("mmdet", PORTRAIT),
        ("mmdet-improved", LANDSCAPE),
    ],
)
def test_outputs_and_detections_are_those_of_pytorch(form, canvas, monkeypatch):
    monkeypatch.setitem(BLOCKS, 50, SHORT)
    variant = dataclasses.replace(torch_fcos.VARIANTS[form], tower_convs=2)
    with torch.no_grad():
        reference = torch_fcos.Reference(variant, SHORT, WIDTH, CHANNELS).randomise(7)
    detector = translate(form, torch_fcos.renamed(reference))
    assert detector.form == form and detector.categories == COCO
    config = dataclasses.replace(
        detector.config, inference=dataclasses.replace(detector.config.inference, top_k=TOP_K)
    )
    config.model.dtype = "float32"
    model, variables = models.create(config.model, 80), nested(detector.found)

    def everything(variables, batch):
        pixels = models.preprocess(batch["image"], batch["size_hw"], config.model)
        return model.apply(variables, pixels), detect(config, 80, variables, batch)

    images = np.random.default_rng(1).integers(0, 256, (2, *canvas, 3), dtype=np.uint8)
    batch = {
        "image": images,
        "size_hw": np.array([size for size, _ in SIZES[canvas]], np.int32),
        "original_hw": np.array([original for _, original in SIZES[canvas]], np.int32),
        "image_valid": np.array([True, True]),
    }
    ours, found = jax.jit(everything, compiler_options=tiny.FAST)(variables, batch)
    for i, (size, original) in enumerate(SIZES[canvas]):
        with torch.no_grad():
            outputs = reference(torch_fcos.pixels_of(images[i], size, variant))
        compare_levels(ours, i, outputs, canvas, form)
        expected = torch_fcos.detections(outputs, canvas, size, original, variant, TOP_K)
        compare_detections(found, i, expected, form)


def compare_levels(ours, i, outputs, canvas, form):
    bounds = np.cumsum([0, *(rows * columns for rows, columns in level_shapes(*canvas))])
    picked = list(COCO.ids) if form == "torchvision" else slice(None)
    for level in range(5):
        rows = slice(bounds[level], bounds[level + 1])
        pairs = (
            (np.asarray(ours.class_logits)[i, rows], outputs[0][level].numpy()[:, picked]),
            (np.asarray(ours.distances)[i, rows], outputs[1][level].numpy()),
            (np.asarray(ours.quality_logits)[i, rows], outputs[2][level].numpy()[:, 0]),
        )
        for a, b in pairs:
            assert np.abs(b).max() > 1e-2
            error = np.abs(a - b).max() / np.abs(b).max()
            assert error < 1e-4, (form, level, error)


def compare_detections(found, i, expected, form):
    """The same ones, in any order."""
    valid = np.asarray(found.valid)[i]
    boxes, labels, scores = (
        np.array(x)[i][valid] for x in (found.boxes_xyxy, found.labels, found.scores)
    )
    boxes[:, 2:] -= boxes[:, :2]
    if form == "torchvision":
        labels = np.array(COCO.ids)[labels]
    assert len(labels) == len(expected) > 20, (form, len(labels), len(expected))
    free = np.ones(len(labels), bool)
    for label, score, *box in expected:
        near = (
            free
            & (labels == label)
            & (np.abs(scores - score) < 1e-4)
            & (np.abs(boxes - box).max(axis=1) < 0.01)
        )
        assert near.any(), (form, label, score, box)
        free[np.flatnonzero(near)[0]] = False


@functools.cache
def full_size(form):
    """A file's tensors at their published sizes."""
    return torch_fcos.renamed(torch_fcos.Reference(torch_fcos.VARIANTS[form]))


TENSORS = {  # in a file; and parameters, without batch norms
    "fcos": (324, 32_244_250),
    "fcos-improved": (324, 32_244_250),
    "adelaidet": (326, 32_244_250),
    "torchvision": (319, 32_269_600),
    "mmdet": (369, 32_242_202),
    "mmdet-improved": (377, 32_244_250),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_tensor_of_a_published_file_is_used(form):
    tensors = full_size(form)
    norms = re.compile(r"running|num_batches|pixel_|\.bn\d|downsample\.1|(conv\d|shortcut)\.norm")
    count = sum(t.numel() for name, t in tensors.items() if not norms.search(name))
    assert (len(tensors), count) == TENSORS[form]
    detector = translate(form, tensors)
    assert detector.form == form and not detector.unused
    assert (detector.config.model.depth, detector.config.model.width) == (50, 64)
    validate(detector.config)
    model = models.create(detector.config.model, 80)
    shapes = jax.eval_shape(lambda key: models.init(model, key), jax.random.key(0))
    ours = {"/".join(k.key for k in path): leaf.shape for path, leaf in leaves(shapes)}
    assert ours == {path: array.shape for path, array in detector.found.items()}


def leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def test_torchvision_classes_are_picked_by_category_id():
    tensors = small("torchvision")
    tensors["head.classification_head.cls_logits.bias"] = torch.arange(91.0)
    bias = translate("torchvision", tensors).found["params/head/class_conv/bias"]
    assert bias.tolist() == list(COCO.ids)
    assert (bias[11], bias[79]) == (13, 90) and 12 not in bias
    assert COCO.names[11] == "stop sign" and COCO.names[-1] == "toothbrush"


def small(form, blocks=(3, 4, 6, 3), seed=0):
    with torch.no_grad():
        variant = torch_fcos.VARIANTS[form]
        return torch_fcos.renamed(torch_fcos.Reference(variant, blocks, 8, 64).randomise(seed))


def test_names_of_older_versions_give_the_same_arrays():
    for form, pattern, old in (
        ("torchvision", r"(blocks\.\d)\.0\.", r"\1."),
        ("mmdet", r"conv_(cls|reg|centerness)", r"fcos_\1"),
    ):
        new = small(form)
        renamed = {re.sub(pattern, old, name): tensor for name, tensor in new.items()}
        assert renamed.keys() != new.keys()
        a, b = (translate(form, tensors).found for tensors in (new, renamed))
        assert a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_resnet_101_is_told_by_its_blocks():
    detector = translate("adelaidet", small("adelaidet", blocks=(3, 4, 23, 3)))
    assert detector.config.model.depth == 101
    with pytest.raises(WeightsError, match=r"\(3, 4, 7, 3\) bottleneck blocks"):
        translate("adelaidet", small("adelaidet", blocks=(3, 4, 7, 3)))


def test_pixel_mean_is_taken_from_the_file():
    tensors = small("adelaidet")
    tensors["pixel_mean"] = torch.tensor([1.0, 2.5, 3.0]).reshape(3, 1, 1)
    detector = translate("adelaidet", tensors)
    assert detector.config.model.pixel_mean == (1.0, 2.5, 3.0)
    assert any("pixel_mean is the file's own" in note for note in detector.notes)


def test_base_or_improved_is_never_guessed():
    arrays = torch_fcos.as_arrays(small("fcos"))
    with pytest.raises(WeightsError, match=r"--format fcos .*--format fcos-improved"):
        published.translate(arrays, "model_final.pth")
    for name, form, asked in (
        ("x/FCOS_imprv_R_50_FPN_1x.pth", "fcos-improved", None),
        ("FCOS_R_50_FPN_1x.pth", "fcos", None),
        ("model_final.pth", "fcos-improved", "fcos-improved"),
        ("FCOS_imprv_R_50_FPN_1x.pth", "fcos", "fcos"),
    ):
        detector = published.translate(arrays, name, form=asked)
        assert detector.form == form
        why = "as --format says" if asked else name.split("/")[-1]
        assert why in detector.notes[0]


def test_a_wrong_or_unknown_format_is_refused():
    arrays = torch_fcos.as_arrays(small("mmdet"))
    with pytest.raises(WeightsError, match=r"cannot be --format adelaidet.*mmdet's names"):
        published.translate(arrays, "a.pth", form="adelaidet")
    with pytest.raises(WeightsError, match="use one of fcos, fcos-improved, adelaidet"):
        published.translate(arrays, "a.pth", form="mmdetection")
    backbone = {"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}
    with pytest.raises(
        WeightsError, match=r"not a known FCOS detector.*--config.model.init_from=FILE"
    ):
        published.translate(backbone, "resnet50.pth")


def test_a_missing_tensor_is_named_with_the_nearest():
    arrays = torch_fcos.as_arrays(small("fcos"))
    arrays["backbone.fpn.fpn_inner3.weights"] = arrays.pop("backbone.fpn.fpn_inner3.weight")
    message = r"lacks backbone.fpn.fpn_inner3.weight \(the nearest name is .*fpn_inner3.weights\)"
    with pytest.raises(WeightsError, match=message):
        published.translate(arrays, "FCOS_R_50_FPN_1x.pth")
    retina = torch_fcos.as_arrays(small("torchvision"))
    for leaf in ("weight", "bias"):
        del retina[f"head.regression_head.bbox_ctrness.{leaf}"]
    with pytest.raises(WeightsError, match=r"lacks head.regression_head.bbox_ctrness.weight"):
        published.translate(retina, "retinanet.pth")


def test_a_file_without_centerness_gives_a_model_without_quality_branch():
    arrays = torch_fcos.as_arrays(small("fcos"))
    arrays = {name: array for name, array in arrays.items() if "centerness" not in name}
    detector = published.translate(arrays, "own.pth", form="fcos")
    assert detector.config.model.quality == "none" and not detector.config.inference.sqrt_score
    assert "params/head/quality_conv/kernel" not in detector.found


@pytest.mark.parametrize("form", FORMATS)
def test_presets_are_valid_configurations(form):
    config = preset(form)
    validate(config)
    variant = torch_fcos.VARIANTS[form]
    np.testing.assert_allclose(config.model.pixel_mean, variant.mean, rtol=1e-6)
    np.testing.assert_allclose(config.model.pixel_std, variant.std, rtol=1e-6)


def template_of(model, classes):
    created = models.create(model, classes)
    shapes = jax.eval_shape(lambda key: models.init(created, key), jax.random.key(0))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 9.0, np.float32), shapes)


def test_fine_tuning_with_other_classes_reinitialises_the_class_convolution(tmp_path):
    file = tmp_path / "detector.pth"
    torch.save(small("fcos"), file)
    model = ModelConfig(width=8, fpn_channels=64)  # the paper's: no quality branch
    variables, report = load_into(model, template_of(model, 3), file)
    assert report.reinitialised == ["params/head/class_conv/bias", "params/head/class_conv/kernel"]
    assert "shape (3, 3, 64, 80), in the model (3, 3, 64, 3)" in str(report)
    assert sorted(report.unexpected) == [f"rpn.head.centerness.{k}" for k in ("bias", "weight")]
    for path, leaf in leaves(variables):
        random = [key.key for key in path][2] == "class_conv"
        assert (leaf == 9.0).all() == random, path

    same, report = load_into(model, template_of(model, 80), file)
    assert not report.reinitialised
    assert not (same["params"]["head"]["class_conv"]["kernel"] == 9.0).any()


def test_fine_tuning_is_refused_where_the_model_would_misread_the_file():
    detector = translate("torchvision", small("torchvision"))
    with pytest.raises(WeightsError) as caught:
        check_meaning(detector, ModelConfig(width=8, fpn_channels=64), "f.pth")
    for flag in ("stride_in_1x1=false", "distances=relu", "grid=torchvision", "channel_order=rgb"):
        assert f"--config.model.{flag}" in str(caught.value)
    check_meaning(detector, detector.config.model, "f.pth")
    on_class = dataclasses.replace(detector.config.model, quality_tower="class")
    with pytest.raises(WeightsError, match=r"set --config.model.quality_tower=box,"):
        check_meaning(detector, on_class, "f.pth")
