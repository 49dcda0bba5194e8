"""Published ResNets against an independent PyTorch network under each format's names."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
import tiny
import torch
from weights import torch_resnet
from weights.torch_resnet import caffe_blobs, folded, random_resnet, unfolded, write

from pse_jax import models
from pse_jax.config import ModelConfig
from pse_jax.errors import WeightsError
from pse_jax.models.resnet import ResNet
from pse_jax.weights import backbones
from pse_jax.weights.fit import check_settings
from pse_jax.weights.start import load_into

WIDTH = 8
SIZES_HW = ((64, 64), (64, 96))
MODEL = dataclasses.replace(
    tiny.MODEL, depth=50, width=WIDTH, norm="frozen_bn", channel_order="bgr"
)
AS_TORCHVISION = {
    "stride_in_1x1": False,
    "channel_order": "rgb",
    "pixel_mean": (123.675, 116.28, 103.53),
    "pixel_std": (58.395, 57.12, 57.375),
}
AS_DETECTRON2 = {"pixel_mean": (103.53, 116.28, 123.675)}


def model_config(**fields):
    return dataclasses.replace(MODEL, **fields)


@functools.cache
def template(depth, width=WIDTH):
    """Zeros in place of a whole detector's variables."""
    model = models.create(dataclasses.replace(MODEL, depth=depth, width=width), 3)
    shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


@functools.cache
def compiled(depth, stride_in_1x1):
    net = ResNet(ModelConfig(depth=depth, width=WIDTH, stride_in_1x1=stride_in_1x1))
    return jax.jit(net.apply, compiler_options=tiny.FAST)


def assert_same_features(variables, reference, depth, stride_in_1x1):
    """C3, C4 and C5 to 1e-4, relative to each value and to the mean of the small ones."""
    backbone = {name: tree["backbone"] for name, tree in variables.items()}
    for height, width in SIZES_HW:
        image = np.random.default_rng(height + width).normal(0, 1, (1, height, width, 3))
        image = image.astype(np.float32)
        ours = compiled(depth, stride_in_1x1)(backbone, image)
        with torch.no_grad():
            theirs = reference(torch.from_numpy(image.transpose(0, 3, 1, 2)))
        for a, b in zip(ours, theirs, strict=True):
            b = b.numpy().transpose(0, 2, 3, 1)
            assert a.shape == b.shape and np.abs(b).mean() > 0.1
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).mean())


CAFFE = {
    "Detectron's R-50.pkl": (folded, {}),
    "detectron2's R-50.pkl": (unfolded("s", "b", "rm", "riv"), AS_DETECTRON2),
    "detectron2, spelt out": (
        unfolded("gamma", "beta", "running_mean", "running_var"),
        AS_DETECTRON2,
    ),
}


@pytest.mark.parametrize(("norm", "expects"), CAFFE.values(), ids=CAFFE)
def test_caffe2_names_give_the_same_features(tmp_path, norm, expects):
    reference = random_resnet(50, WIDTH, stride_in_1x1=True)
    blobs = caffe_blobs(reference, norm) | {"weight_order": None}
    blobs["conv1_w_momentum"] = np.ones((3, 3), np.float32)
    file = write(tmp_path / "weights", blobs, "python 2 pickle")
    variables, report = load_into(model_config(**expects), template(50), file)
    assert_same_features(variables, reference, 50, True)
    assert len(report.loaded) == 53 + 2 * 53
    unused = {"conv1_b", "fc1000_w", "fc1000_b", "weight_order", "conv1_w_momentum"}
    assert set(report.unexpected) == unused


@pytest.mark.parametrize(
    ("depth", "container"),
    [(50, "torch"), (18, "safetensors"), (34, "old torch"), (101, "safetensors")],
)
def test_torchvision_names_give_the_same_features(tmp_path, depth, container):
    reference = random_resnet(depth, WIDTH)
    file = write(tmp_path / "weights", reference.state_dict(), container)
    variables, report = load_into(
        model_config(depth=depth, **AS_TORCHVISION), template(depth), file
    )
    assert_same_features(variables, reference, depth, False)
    assert {"fc.weight", "fc.bias", "bn1.num_batches_tracked"} <= set(report.unexpected)


@pytest.mark.parametrize(
    # torchvision's own numbers of parameters, and of entries of the state dict
    ("depth", "parameters", "entries"),
    [
        (18, 11_689_512, 122),
        (34, 21_797_672, 218),
        (50, 25_557_032, 320),
        (101, 44_549_160, 626),
    ],
)
def test_every_array_of_a_full_sized_backbone_is_used(depth, parameters, entries):
    with torch.device("meta"):
        reference = torch_resnet.ResNet(depth)
    assert sum(p.numel() for p in reference.parameters()) == parameters
    assert len(reference.state_dict()) == entries
    arrays = {
        name: np.broadcast_to(np.float32(0.5), tuple(tensor.shape))
        for name, tensor in reference.state_dict().items()
    }
    backbone = backbones.translate(arrays, "torchvision", "a file")
    shapes = {path: array.shape for path, array in backbone.found.items()}
    expected = {
        "/".join(key.key for key in keys): leaf.shape
        for keys, leaf in jax.tree_util.tree_leaves_with_path(
            jax.eval_shape(
                lambda: models.init(
                    models.create(ModelConfig(depth=depth, fpn_channels=32), 3), jax.random.key(0)
                )
            )
        )
        if keys[1].key == "backbone"
    }
    assert backbone.depth == depth and shapes == expected


def small_state():
    return {k: v.numpy() for k, v in random_resnet(18, 4).state_dict().items()}


def refusal(arrays, kind="torchvision"):
    with pytest.raises(WeightsError) as raised:
        backbones.translate(arrays, kind, "x.pth")
    return str(raised.value)


def test_other_resnets_are_refused_by_name():
    state = small_state()
    deep_stem = {k: v for k, v in state.items() if k != "conv1.weight"}
    deep_stem |= {"conv1.0.weight": state["conv1.weight"], "conv1.1.weight": np.ones(4, "f4")}
    assert "conv1.0.weight" in refusal(deep_stem) and "resnet50d" in refusal(deep_stem)
    moved = {"downsample.1": "downsample.2", "downsample.0": "downsample.1"}  # 0 is the pooling
    pooled = {re.sub(r"downsample\.\d", lambda m: moved[m[0]], k): v for k, v in state.items()}
    assert "layer2.0.downsample.2.bias" in refusal(pooled) and "pool" in refusal(pooled)
    attention = state | {"layer1.0.se.conv_reduce.weight": np.ones((1, 4, 1, 1), "f4")}
    assert "layer1.0.se.conv_reduce.weight" in refusal(attention)
    deeper = state | {k.replace("4.1", "4.2"): v for k, v in state.items() if "layer4.1" in k}
    assert "(2, 2, 2, 3) basic blocks" in refusal(deeper)
    bare = {k: v for k, v in state.items() if k != "layer1.0.bn1.running_var"}
    assert "lacks layer1.0.bn1.running_var; is the file complete?" in refusal(bare)
    flat = state | {"layer1.0.conv1.weight": np.ones((4, 4), "f4")}
    assert "layer1.0.conv1.weight has shape (4, 4)" in refusal(flat)
    uneven = state | {"layer1.0.bn1.bias": np.ones(5, "f4")}
    assert "layer1.0.bn1.bias, " in refusal(uneven) and "differ in shape" in refusal(uneven)
    caffe = caffe_blobs(random_resnet(50, 4), folded)
    assert "res2_0_branch2a_gn_s" in refusal(
        caffe | {"res2_0_branch2a_gn_s": np.ones(4)}, "detectron"
    )


def test_other_files_are_not_taken_for_backbones():
    assert backbones.kind_of(["patch_embed.proj.weight", "head.weight"]) is None
    assert backbones.kind_of(["backbone.body.layer1.0.conv1.weight"]) is None


WRONG = {
    "--config.model.stride_in_1x1=false": {"stride_in_1x1": True},
    "--config.model.channel_order=rgb": {"channel_order": "bgr"},
    "--config.model.pixel_mean='(123.675,116.28,103.53)'": {
        "pixel_mean": (103.53, 116.28, 123.675)
    },
    "--config.model.pixel_std='(58.395,57.12,57.375)'": {"pixel_std": (1.0, 1.0, 1.0)},
    "--config.model.norm=frozen_bn": {"norm": "gn"},
    "--config.model.depth=50": {"depth": 101},
}


@pytest.mark.parametrize("flag", WRONG)
def test_a_model_with_one_wrong_setting_is_refused_with_the_flag(flag):
    expects, right = backbones.expects("torchvision", 50), model_config(**AS_TORCHVISION)
    check_settings(right, expects, "x.pth")
    with pytest.raises(WeightsError) as raised:
        check_settings(dataclasses.replace(right, **WRONG[flag]), expects, "x.pth")
    assert flag in str(raised.value) and str(raised.value).count("--config") == 1


def test_the_paper_configuration_takes_msra_weights_only():
    check_settings(ModelConfig(), backbones.expects("detectron", 50), "R-50.pkl")
    for other in ("detectron2", "torchvision"):
        with pytest.raises(WeightsError, match=r"--config\.model.pixel_mean"):
            check_settings(ModelConfig(), backbones.expects(other, 50), "x.pth")


def test_stride_in_1x1_does_not_matter_to_basic_blocks():
    right = model_config(**AS_TORCHVISION | {"depth": 18, "stride_in_1x1": True})
    check_settings(right, backbones.expects("torchvision", 18), "x.pth")


def test_a_backbone_of_another_width_is_refused_with_both_shapes(tmp_path):
    file = write(tmp_path / "w", random_resnet(18, 4).state_dict(), "torch")
    with pytest.raises(
        WeightsError, match=r"bn1.weight in the file\) has shape \(4,\), in the model \(8,\)"
    ):
        load_into(model_config(depth=18, **AS_TORCHVISION), template(18), file)
