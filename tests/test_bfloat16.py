"""In bfloat16, the type of GPUs and TPUs: the same detector as in float32, to stated tolerances.

bfloat16 has eight significant bits: one rounding is wrong by up to 1/512, 0.2 %.
"""

import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType

from pse_jax import distributed, models, postprocess
from pse_jax.config import ModelConfig
from pse_jax.losses.detection import detection_losses
from pse_jax.models.head import EXPONENTS, Head, Predictions, to_distances
from pse_jax.models.layers import Conv, FrozenBatchNorm
from pse_jax.points import level_shapes, locations
from pse_jax.targets import assign
from pse_jax.training import optimizer
from pse_jax.training.objective import batch_losses
from pse_jax.training.step import create_state, make_train_step

SIDE, IMAGES = 64, 8
HALF = jnp.bfloat16


def draw(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def relative(found, expected):
    found, expected = (np.asarray(a, np.float64) for a in (found, expected))
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_gradient_of_a_bias_is_the_sum_over_all_locations(rng, kernel):
    """Summed in bfloat16, 4,096 ones are 256: that many terms in, one more is rounded away."""
    layer, x = Conv(2, kernel, dtype=HALF), draw(rng, 1, 64, 64, 3).astype(HALF)
    params = {"kernel": draw(rng, kernel, kernel, 3, 2), "bias": jnp.zeros(2)}
    slope = jax.jit(jax.grad(lambda p: layer.apply({"params": p}, x).sum(dtype=jnp.float32)))
    assert slope(params)["bias"].tolist() == [4096, 4096]


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_a_convolution_of_bfloat16_has_the_gradients_of_the_same_numbers_in_float32(
    rng, kernel, stride, size
):
    """The kernel's is not rounded at all, that of the features once."""
    x = draw(rng, 2, *size, 3).astype(HALF)
    weight = draw(rng, kernel, kernel, 3, 4).astype(HALF).astype(jnp.float32)

    def gradients(dtype):
        layer = Conv(4, kernel, stride, use_bias=False, dtype=dtype)
        out = lambda x, w: layer.apply({"params": {"kernel": w}}, x)  # noqa: E731
        value, back = jax.vjp(out, x.astype(dtype), weight)
        slope = jnp.sin(jnp.arange(value.size, dtype=jnp.float32)).astype(HALF)
        return value, *back(slope.reshape(value.shape).astype(dtype))

    half, full = (jax.jit(partial(gradients, d), compiler_options=tiny.FAST)() for d in
                  (HALF, jnp.float32))  # fmt: skip
    assert [a.dtype for a in half] == [HALF, HALF, jnp.float32]
    for found, expected, tolerance in zip(half, full, (2**-8, 2**-8, 1e-6), strict=True):
        assert relative(found, expected) < tolerance


def test_a_perfect_prediction_of_a_large_box_is_its_box():
    """log(200..600 px) rounded to eight bits would be off by up to 9.4 px."""
    wanted = np.random.default_rng(0).uniform(200, 600, (200, 4)).astype(np.float32)
    config = ModelConfig(fpn_channels=2, head_convs=0, head_groups=1)
    pyramid = [jnp.zeros((1, *hw, 2), HALF) for hw in level_shapes(64, 64)]

    def put_out(distances):
        zeros = jnp.zeros((3, 3, 2, 4))
        params = {
            "class_conv": {"kernel": zeros[..., :3], "bias": jnp.zeros(3)},
            "box_conv": {"kernel": zeros, "bias": jnp.log(distances)},
            "scales": jnp.ones(5),
        }
        return Head(3, config, HALF).apply({"params": params}, pyramid).distances[0, 0]

    found = jax.jit(jax.vmap(put_out))(wanted)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_a_frozen_batch_norm_shifts_no_channel(rng):
    """Scale and bias are not rounded, the result once: the mean over pixels is right to 0.1 %.

    With both rounded, it is wrong by up to 0.4 % of the deviation here.
    """
    values = {"scale": draw(rng, 32) * 0.1 + 1, "bias": draw(rng, 32)}
    x = draw(rng, 1, 128, 128, 32).astype(HALF)
    found = FrozenBatchNorm(HALF).apply({"frozen": values}, x)
    exact = np.asarray(x, np.float64) * values["scale"] + np.asarray(values["bias"])
    shift = (np.asarray(found, np.float64) - exact).mean((0, 1, 2)) / exact.std((0, 1, 2))
    assert np.abs(shift).max() < 1e-3


def test_an_exponential_that_would_overflow_has_finite_gradients():
    """At 100 and -200, exp is infinite and 0 in float32; between, nothing changes."""
    scaled = jnp.asarray([[-200.0, 100.0, 88.0, 7.0]])
    value, back = jax.vjp(lambda s: to_distances(s, 8, "exp"), scaled)
    np.testing.assert_array_equal(value[0, 3], jnp.exp(7.0))
    assert np.isfinite(value).all() and (value > 0).all()
    for slope in (0.0, 1.0):  # masked, and not
        assert np.isfinite(back(jnp.full((1, 4), slope))[0]).all()
    area = (2 * np.exp(np.float32(EXPONENTS[1]))) ** 2
    assert 0 < np.float32(1) / (area * area)  # the gradient of an IoU divides by its square


def test_a_location_of_the_background_whose_exponential_overflows_spoils_no_gradient():
    config, batch = tiny.make_config(), tiny.make_batch(1)
    points, levels = (jnp.asarray(a) for a in locations(SIDE, SIDE, config.model.grid))
    boxes = (jnp.asarray(batch[key][0]) for key in ("boxes", "labels", "box_valid"))
    targets = assign(points, levels, *boxes, config.targets)
    scaled = jnp.where(targets.positive[:, None], 2.0, 100.0) * jnp.ones((1, len(points), 4))

    def loss(scaled):
        logits = jnp.zeros((1, len(points), tiny.CLASSES))
        predictions = Predictions(logits, to_distances(scaled, 8, "exp"))
        one = jax.tree.map(lambda a: a[None], targets)
        return detection_losses(predictions, one, jnp.ones(1, bool), config).total

    value, slope = jax.jit(jax.value_and_grad(loss))(scaled)
    assert targets.positive.any() and not targets.positive.all() and np.isfinite(value)
    assert np.isfinite(slope).all()
    assert ((slope != 0).any(-1)[0] == targets.positive).all()


def coloured_boxes(seed, images=IMAGES):
    """Two rectangles an image, of the colours red, green and blue: what a tiny detector learns."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 110, (images, SIDE, SIDE, 3), dtype=np.uint8)
    boxes, labels = np.zeros((images, 2, 4), np.float32), rng.integers(0, 3, (images, 2), np.int32)
    for i, j in np.ndindex(images, 2):
        wh = rng.integers(16, 48, 2)
        x, y = rng.integers(0, SIDE - wh)
        boxes[i, j] = [x, y, x + wh[0], y + wh[1]]
        pixels[i, y : y + wh[1], x : x + wh[0], labels[i, j]] = rng.integers(180, 255)
    size = np.full((images, 2), SIDE, np.int32)
    return {
        "image": pixels,
        "size_hw": size,
        "original_hw": size,
        "image_valid": np.ones(images, bool),
        "boxes": boxes,
        "labels": labels,
        "box_valid": np.ones((images, 2), bool),
        "unreadable": np.zeros(images, bool),
    }


def mesh_of(devices):
    return jax.make_mesh(
        (devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def in_type(dtype, norm="gn"):
    config = tiny.make_config(dtype=dtype, norm=norm)
    config.inference.score_threshold = 0.01
    return config, models.create(config.model, 3)


@dataclasses.dataclass
class Program:
    """Loss, predictions and gradients of a batch, compiled for a type and a number of devices."""

    dtype: str
    devices: int

    def __post_init__(self):
        (config, model), mesh = in_type(self.dtype), mesh_of(self.devices)
        self.mesh = mesh

        def objective(params, batch):
            losses = batch_losses({"params": params}, batch, model, config, mesh)
            images = models.preprocess(batch["image"], batch["size_hw"], config.model)
            found = model.apply({"params": params}, images)
            return losses.total, (found.class_logits, found.distances)

        run = jax.value_and_grad(objective, has_aux=True)

        shapes = jax.eval_shape(lambda: models.init(model, jax.random.key(0)))["params"]
        params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        self.compiled = (
            jax.jit(run).lower(*self.arguments(params, coloured_boxes(0))).compile(tiny.FAST)
        )

    def arguments(self, params, batch):
        same = distributed.replicated(self.mesh)
        return jax.device_put(params, same), distributed.to_devices(batch, self.mesh)

    def __call__(self, params, batch):
        return jax.device_get(self.compiled(*self.arguments(params, batch)))


@pytest.fixture(scope="module")
def programs():
    return {key: Program(*key) for key in (("float32", 1), ("bfloat16", 1), ("bfloat16", 4))}


@pytest.fixture(scope="module")
def trained(programs):
    """What each program gives of a detector that 60 steps in float32 have taught something."""
    step, batch = programs["float32", 1], coloured_boxes(1000)
    params = jax.device_get(tiny.make_variables(in_type("float32")[1])["params"])
    (before, _), _ = step(params, batch)
    for seed in range(60):
        _, slope = step(params, coloured_boxes(seed))
        scale = 0.02 / max(1.0, np.sqrt(sum((g**2).sum() for g in jax.tree.leaves(slope))) / 10)
        params = jax.tree.map(lambda p, g, scale=scale: p - scale * g, params, slope)
    found = {key: program(params, batch) for key, program in programs.items()}
    assert found["float32", 1][0][0] < 0.6 * before
    return found


def by_parameter(function, found, expected):
    """A number for each parameter's gradient, by its path, the largest first."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.tree.map(function, found, expected))
    pairs = [(float(value), jax.tree_util.keystr(path)) for path, value in leaves]
    return sorted(pairs, reverse=True)


def systematic(found, expected):
    """How far a gradient is too long or too short, whatever noise is on it."""
    return abs(np.vdot(found, expected) / np.vdot(expected, expected) - 1)


@pytest.mark.slow
def test_gradients_of_a_trained_detector(trained):
    (loss, _), half = trained["bfloat16", 1]
    (exact, _), full = trained["float32", 1]
    assert loss == pytest.approx(exact, rel=1e-3)
    flat = [np.concatenate([g.ravel() for g in jax.tree.leaves(tree)]) for tree in (half, full)]
    assert relative(*flat) < 0.03
    for worst, tolerance in (
        (by_parameter(relative, half, full)[0], 0.25),
        (by_parameter(systematic, half, full)[0], 0.1),
    ):
        assert worst[0] < tolerance, worst
    # The sums over many locations, of which each was a third too short or worse.
    for bias in ("class_conv", "box_conv"):
        assert relative(half["head"][bias]["bias"], full["head"][bias]["bias"]) < 0.01
    for name in ("class_tower", "box_tower"):
        assert systematic(*(g["head"][name]["conv0"]["bias"] for g in (half, full))) < 0.02


@pytest.mark.slow
def test_gradients_do_not_depend_on_the_number_of_devices(trained):
    """Each device's rows are computed alike; only float32 sums are taken in another order."""
    (one, _), alone = trained["bfloat16", 1]
    (four, _), shared = trained["bfloat16", 4]
    worst = by_parameter(relative, shared, alone)[0]
    assert worst[0] < 0.01, worst
    assert four == pytest.approx(one, rel=1e-5)


@pytest.mark.slow
def test_detections_of_a_trained_detector(trained):
    """The same boxes to a third of a pixel and scores to 0.5 %; and no two scores are equal."""
    inference, grid = in_type("float32")[0].inference, tiny.MODEL.grid

    @jax.jit
    @jax.vmap
    def detections(logits, distances):
        size, valid = jnp.full(2, SIDE), jnp.asarray(True)
        predictions = Predictions(logits, distances)
        return postprocess.detections(predictions, size, valid, (SIDE, SIDE), inference, grid)

    half, full = (
        jax.device_get(detections(*trained[dtype, 1][0][1])) for dtype in ("bfloat16", "float32")
    )
    assert full.valid.sum() > 100
    scores = half.scores[half.valid]
    assert len(np.unique(scores)) > 0.98 * len(scores)
    for i in range(IMAGES):
        for score, box, label in zip(
            full.scores[i][:3], full.boxes_xyxy[i][:3], full.labels[i][:3], strict=True
        ):
            same = half.valid[i] & (half.labels[i] == label)
            apart = np.abs(half.boxes_xyxy[i] - box).max(-1) + 1e6 * ~same
            nearest = int(np.argmin(apart))
            assert apart[nearest] < 0.34
            assert half.scores[i][nearest] == pytest.approx(score, abs=0.005)


def test_what_is_summed_over_devices_is_float32():
    text = Program("bfloat16", 4).compiled.as_text()
    types = re.findall(r" = (\(?[^=]*?) all-reduce\(", text)
    assert types and set(re.findall(r"\b[a-z]+\d+(?=\[)", " ".join(types))) <= {"f32", "s32"}


@pytest.mark.parametrize("norm", ["gn", "frozen_bn"])
def test_every_sum_over_locations_and_images_is_float32(norm):
    """In the training step as it is given to the compiler of any device."""
    (config, model), mesh = in_type("bfloat16", norm), mesh_of(4)
    sgd = optimizer.create(config.optimizer, config.model)
    state = jax.eval_shape(partial(create_state, model, sgd), jax.random.key(0))
    state = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=distributed.replicated(mesh)),
        state,
    )
    batch = distributed.to_devices(coloured_boxes(0), mesh)
    step = make_train_step(model, sgd, config, mesh)
    text = step.lower(state, batch).as_text()  # pyright: ignore

    sums = re.findall(r"stablehlo\.reduce\(.*applies stablehlo\.add .*: \(tensor<(.*?)>", text)
    assert len(sums) > 50 and not [s for s in sums if s.endswith("bf16")]
    products = re.findall(r"stablehlo\.(?:convolution|dot_general).* -> tensor<(.*?)>", text)
    half = [shape.split("x") for shape in products if shape.endswith("bf16")]
    assert len(half) > 30 and len(products) > len(half) + 20
    # What is bfloat16 is of one image: nothing is summed over images, and so over devices.
    assert {shape[0] for shape in half} == {str(IMAGES)}
