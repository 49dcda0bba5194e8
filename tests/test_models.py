"""The detector: sizes, initial values, output shapes, what is frozen, the pixels it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from pse_jax import models
from pse_jax.config import ModelConfig
from pse_jax.models.resnet import ResNet


def shapes_of(config, classes):
    model = models.create(config, classes)
    return jax.eval_shape(lambda: models.init(model, jax.random.key(0)))


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def paper_shapes():
    return shapes_of(ModelConfig(), 80)


def test_parameters_of_the_papers_detector(paper_shapes):
    params = paper_shapes["params"]
    assert models.count_parameters(params, ModelConfig()) == (32_241_945, 32_019_545)
    assert count(params["backbone"]) == 23_454_912
    assert count(params["fpn"]) == 3_868_672
    assert count(params["head"]) == 4_920_666 - 2_305  # without the centre-ness convolution
    assert count(paper_shapes["frozen"]) == 2 * 26_560
    assert {leaf.dtype for leaf in jax.tree.leaves(paper_shapes)} == {jnp.dtype("float32")}


def test_the_stem_and_the_first_stage_are_frozen(paper_shapes):
    params = paper_shapes["params"]
    assert models.count_parameters(params, ModelConfig(frozen_stages=0))[1] == 32_241_945
    assert models.count_parameters(params, ModelConfig(frozen_stages=1))[1] == 32_241_945 - 9_408
    everything = count(params["fpn"]) + count(params["head"])
    assert models.count_parameters(params, ModelConfig(frozen_stages=5))[1] == everything


@pytest.mark.parametrize(
    ("depth", "convolutions"),
    # torchvision's totals less its classifier and its two values a batch-norm channel
    [
        (18, 11_689_512 - 513_000 - 2 * 4_800),
        (34, 21_797_672 - 513_000 - 2 * 8_512),
        (101, 44_549_160 - 2_049_000 - 2 * 52_672),
    ],
)
def test_parameters_of_other_backbones(depth, convolutions):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(ResNet(ModelConfig(depth=depth)).init, jax.random.key(0), image)
    assert count(shapes["params"]) == convolutions


@pytest.mark.parametrize(("size", "points"), [((1344, 800), 22_400), ((64, 96), 129)])
def test_output_shapes_off_the_square(paper_shapes, size, points):
    model = models.create(ModelConfig(dtype="bfloat16"), 80)
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)

    def run(variables, images):
        found = model.apply(variables, images)
        return found.class_logits, found.distances

    logits, distances = jax.eval_shape(run, paper_shapes, images)
    assert logits.shape == (2, points, 80) and distances.shape == (2, points, 4)
    assert logits.dtype == distances.dtype == jnp.float32


@pytest.fixture(scope="module")
def fresh():
    """Initial parameters of a small detector, flat: "head/class_conv/bias" -> values."""
    config = ModelConfig(depth=10, width=16, fpn_channels=64, head_convs=2, head_groups=8)
    model = models.create(config, 20)
    key = jax.random.key(0, impl="rbg")  # compiles much faster than the default
    variables = jax.jit(lambda k: models.init(model, k), compiler_options=tiny.FAST)(key)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(k.key for k in path): np.asarray(leaf) for path, leaf in leaves}


def test_initial_convolutions_of_backbone_and_pyramid(fresh):
    """kaiming_uniform(a=1): uniform up to sqrt(3 / fan_in)."""
    kernels = {p: v for p, v in fresh.items() if p.endswith("kernel") and "/head/" not in p}
    assert len(kernels) == 12 + 8
    for path, kernel in kernels.items():
        bound = np.sqrt(3 / np.prod(kernel.shape[:3]))
        assert np.abs(kernel).max() <= bound * (1 + 1e-6), path
        assert np.abs(kernel).max() > 0.98 * bound, path
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.1), path
    biases = [v for p, v in fresh.items() if "/fpn/" in p and p.endswith("bias")]
    assert len(biases) == 8 and not any(b.any() for b in biases)


def test_initial_head(fresh):
    """N(0, 0.01) weights, zero biases but for the prior's, GroupNorm 1 and 0, scales 1."""
    head = {p.removeprefix("params/head/"): v for p, v in fresh.items() if "/head/" in p}
    kernels = [v for p, v in head.items() if p.endswith("kernel")]
    assert len(kernels) == 6
    for kernel in kernels:
        assert kernel.std() == pytest.approx(0.01, rel=0.1)
        assert abs(kernel.mean()) < 0.001
    np.testing.assert_allclose(head.pop("class_conv/bias"), -4.59512, rtol=1e-6)
    np.testing.assert_array_equal(head["scales"], np.ones(5, np.float32))
    rest = {p: v for p, v in head.items() if p.endswith("bias")}
    assert len(rest) == 9 and not any(v.any() for v in rest.values())
    scales = [v for p, v in head.items() if p.endswith("/scale")]
    assert len(scales) == 4 and all((v == 1).all() for v in scales)


def test_frozen_batch_norm_starts_as_the_identity(fresh):
    frozen = {p: v for p, v in fresh.items() if p.startswith("frozen/")}
    assert len(frozen) == 2 * 12
    assert all((v == (1 if p.endswith("scale") else 0)).all() for p, v in frozen.items())
    assert not any("norm" in p for p in fresh if p.startswith("params/backbone"))


def test_frozen_stages_get_exactly_no_gradient(rng):
    model = ResNet(ModelConfig(depth=10, width=4, frozen_stages=2))
    images = jnp.asarray(rng.normal(size=(1, 64, 64, 3)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32)  # noqa: E731
    variables = jax.tree.map(draw, shapes)

    def loss(params):
        maps = model.apply({**variables, "params": params}, images)
        return sum(m.sum() for m in maps)

    gradients = jax.jit(jax.grad(loss), compiler_options=tiny.FAST)(variables["params"])
    for name, tree in gradients.items():
        moved = [bool((leaf != 0).any()) for leaf in jax.tree.leaves(tree)]
        frozen = name in ("stem", "layer1")
        assert not any(moved) if frozen else all(moved), name


def test_preprocess_by_eye():
    pixels = np.zeros((1, 2, 3, 3), np.uint8)
    pixels[0, 0, 0] = [10, 20, 30]
    size = jnp.asarray([[1, 2]])
    found = models.preprocess(jnp.asarray(pixels), size, ModelConfig())
    blue, green, red = 102.9801, 115.9465, 122.7717
    np.testing.assert_allclose(found[0, 0, 0], [30 - blue, 20 - green, 10 - red], rtol=1e-5)
    np.testing.assert_allclose(found[0, 0, 1], [-blue, -green, -red], rtol=1e-6)
    assert (found[0, 0, 2] == 0).all() and (found[0, 1] == 0).all()  # after the mean is taken off
    config = ModelConfig(channel_order="rgb", pixel_mean=(1.0, 2.0, 3.0), pixel_std=(2.0, 4.0, 0.5))
    found = models.preprocess(jnp.asarray(pixels), size, config)
    np.testing.assert_allclose(found[0, 0, 0], [4.5, 4.5, 54.0])


def test_compute_type():
    types = [models.create(ModelConfig(dtype=t), 2).dtype for t in ("float32", "bfloat16", "auto")]
    assert [jnp.dtype(t).name for t in types] == ["float32", "bfloat16", "float32"]
    assert models.create(tiny.MODEL, 2).dtype == np.float32
