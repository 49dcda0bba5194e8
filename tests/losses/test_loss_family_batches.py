"""The family in the objective of a batch: padding, devices, and what a switch leaves alone."""

import jax
import jax.numpy as jnp
import loss_oracles as oracles
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType

from pse_jax import boxes, distributed, models
from pse_jax.config import Config, LossConfig, TargetConfig
from pse_jax.losses.detection import detection_losses
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS
from pse_jax.models import Predictions
from pse_jax.points import locations
from pse_jax.targets import Targets, assign
from pse_jax.training.objective import batch_losses

SLOTS = 4
FAMILY = {name: ("focal", name) for name in ("none", *ASSOCIATIONS)}
FAMILY |= {name: (name, "none") for name in CLASSIFICATIONS if name != "focal"}
FAMILY["pearson of the own class"] = ("tal", "pearson")
NAMES = list(FAMILY)


def config_of(name):
    classification, association = FAMILY[name]
    score = "target" if "own" in name else "max"
    return Config(
        loss=LossConfig(
            classification=classification, association=association, score=score, beta=0.8, k=0.9
        )
    )


def make_batch(images=8, locations=24, classes=3, seed=0):
    """Three valid images with positives, one without, and `images` - 4 of padding full of junk."""
    rng = np.random.default_rng(seed)
    positive = rng.random((images, locations)) < 0.5
    positive[3] = False
    f32 = lambda *shape: np.float32(rng.uniform(4, 40, shape))  # noqa: E731
    targets = {
        "positive": positive,
        "label": rng.integers(0, classes, positive.shape, np.int32),
        "distances": f32(*positive.shape, 4),
        "stride": np.full(positive.shape, 8, np.float32),
        "matched": rng.integers(0, SLOTS, positive.shape, np.int32),
    }
    logits = np.float32(rng.normal(0, 2, (*positive.shape, classes)))
    return logits, f32(*positive.shape, 4), targets, np.arange(images) < 4


def evaluate(logits, distances, targets, image_valid):
    """{name: (terms, gradients of classification + association by logits and distances)}."""

    def terms(logits, distances, config):
        predictions = Predictions(logits, distances)
        losses = detection_losses(predictions, Targets(**targets, slots=SLOTS), image_valid, config)
        return losses.classification + losses.association, vars(losses)

    gradients = jax.grad(terms, argnums=(0, 1), has_aux=True)
    return {name: gradients(logits, distances, config_of(name))[::-1] for name in NAMES}


@pytest.fixture(scope="module")
def runs():
    """The batch without its padding, with it, and with it on eight devices; and the program."""
    whole, compiled, found = make_batch(), None, {}
    plain = jax.tree.map(lambda leaf: leaf[:4], whole)
    for name, batch, devices in (("plain", plain, 1), ("padded", whole, 1), ("eight", whole, 8)):
        mesh = jax.make_mesh(
            (devices,), ("data",), (AxisType.Auto,), devices=jax.devices()[:devices]
        )
        batch = jax.device_put(batch, distributed.split(mesh))
        compiled = jax.jit(evaluate).lower(*batch).compile(tiny.FAST)
        found[name] = jax.device_get(compiled(*batch))
    return whole, found, compiled.as_text()  # pyright: ignore


@pytest.mark.parametrize("name", NAMES)
def test_against_numpy(runs, name):
    (logits, distances, targets, image_valid), found, _ = runs
    loss = config_of(name).loss
    iou = np.asarray(
        boxes.distance_iou(*map(jnp.asarray, (distances, targets["distances"]))), np.float64
    )
    positive = targets["positive"] & image_valid[:, None]
    one_hot = (targets["label"][..., None] == np.arange(3)) & positive[..., None]
    wanted = oracles.classification(logits, one_hot, iou, targets["matched"], logits, loss)
    losses = found["padded"][name][0]
    assert losses["positives"] == positive.sum() > 20
    assert losses["classification"] == pytest.approx(
        wanted[image_valid].sum() / positive.sum(), rel=2e-6
    )
    tied = logits[one_hot] if loss.score == "target" else logits[positive].max(axis=-1)
    couples = ASSOCIATIONS[loss.association].couples if loss.association != "none" else ""
    if couples == "batch":
        wanted = oracles.batch_association(tied, iou[positive], loss)
    elif couples == "object":
        scores, matched = logits.max(axis=-1), targets["matched"]
        wanted = oracles.object_association(scores, iou, positive, matched, loss)
        wanted = wanted.sum() / positive.sum()
    else:
        wanted = oracles.association(tied, iou[positive], tied, loss).sum() / positive.sum()
    assert losses["association"] == pytest.approx(wanted, rel=2e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_neither_padding_nor_devices_change_anything(runs, name):
    _, found, _ = runs
    plain, by_plain = found["plain"][name]
    for other in ("padded", "eight"):
        losses, by_other = found[other][name]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), losses, plain)
        for slope, alone in zip(by_other, by_plain, strict=True):
            np.testing.assert_allclose(slope[:4], alone, rtol=1e-5, atol=1e-8)
            assert (slope[4:] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_boxes_learn_exactly_nothing_from_the_family(runs, name):
    by_logit, by_distance = runs[1]["padded"][name][1]
    assert (by_distance == 0).all() and (by_logit != 0).any()


def test_a_switch_changes_nothing_else(runs):
    every = [losses for losses, _ in runs[1]["padded"].values()]
    for term in ("box", "quality", "positives"):
        assert len({float(losses[term]) for losses in every}) == 1
    pulls = {np.abs(by_logit).sum() for _, (by_logit, _) in runs[1]["padded"].values()}
    assert len(pulls) == len(NAMES)


def test_no_loss_of_the_family_gathers_the_batch(runs):
    assert "all-gather" not in runs[2] and "all-reduce" in runs[2]


def test_through_the_whole_detector(one_device_mesh):
    """Correlation, and a target made of scores and IoUs: neither reaches the boxes' branch."""
    config = tiny.make_config(norm="frozen_bn", frozen_stages=5)  # compiles sooner
    config.loss.classification, config.loss.association = "tal", "pearson"
    model = models.create(config.model, tiny.CLASSES)
    variables = tiny.make_variables(model)

    def term(params, batch):
        losses = batch_losses(
            {**variables, "params": params}, batch, model, config, one_device_mesh
        )
        return losses.classification + losses.association

    gradient = jax.jit(jax.grad(term), compiler_options=tiny.FAST)
    head = gradient(variables["params"], tiny.make_batch())["head"]
    for name, part in head.items():
        slopes = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(part)])
        assert np.isfinite(slopes).all()
        assert (slopes != 0).any() == name.startswith("class"), name
    assert {"box_tower", "box_conv", "scales", "class_tower", "class_conv"} == set(head)


def test_the_assignment_names_the_object_of_each_location(rng):
    points_xy, levels = (jnp.asarray(a) for a in locations(128, 160))
    corner = rng.uniform(0, 60, (6, 2))
    boxes_xyxy = jnp.float32(np.concatenate([corner, corner + rng.uniform(25, 60, (6, 2))], 1))
    valid = jnp.asarray([True, False, True, True, False, True])
    found = assign(points_xy, levels, boxes_xyxy, jnp.arange(6), valid, TargetConfig())
    assert found.slots == 6 and found.positive.sum() > 20
    np.testing.assert_array_equal(found.matched, found.label)  # labels that are the boxes' indices
    assert len(set(np.asarray(found.matched)[np.asarray(found.positive)].tolist())) > 2
