"""How often training sees each image, and at which size: repeat factors, jitter, 64 processes."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from coco_files import write
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.config import Config, DataConfig, OptimizerConfig
from pse_jax.config_checks import validate
from pse_jax.data import coco
from pse_jax.data.epochs import Repeated, separated
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, choose_buckets, resized_sizes
from pse_jax.data.sampling import category_factors, images_with, plan_for, repeat_factors
from pse_jax.data.transforms import resized_hw
from pse_jax.errors import ConfigError

SIDES = (224, 256, 320)


def sizes_of(counts, shapes=((240, 320), (320, 240), (320, 320))):
    return np.array([s for s, n in zip(shapes, counts, strict=False) for _ in range(n)])


def make_plan(sizes, batch, seed=0, steps=60, sides=(), factors=None, flip=0.5):
    buckets = choose_buckets(sizes, 256, 400, 3)
    jitter = [resized_sizes(sizes, side, 400) for side in sides]
    return TrainPlan(buckets, batch, seed, flip, steps, jitter, factors)


def same(a, b):
    return (a.shape_hw, a.scale) == (b.shape_hw, b.scale) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("images", "flipped")
    )


def test_repeat_factors_are_those_of_lvis(tmp_path):
    """A data set of 100 images: class 0 in all of them, class 1 in 25, class 2 in 4, 3 in none."""
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 20, "height": 20} for i in range(100)
        ],
        "categories": [{"id": c, "name": f"c{c}"} for c in range(4)],
        "annotations": [
            {"id": 10 * i + c, "image_id": i, "category_id": c, "bbox": [2, 2, 9, 9],
             "area": 81, "iscrowd": 0}
            for i in range(100) for c in range(3) if i < (100, 25, 4)[c]
        ],
    }  # fmt: skip
    double = dict(content["annotations"][2], id=9999)  # a second box is no second image
    content["annotations"].append(double)
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "images").mkdir()
    dataset = coco.load(tmp_path / "a.json", tmp_path / "images", require_images=False)
    assert images_with(dataset).tolist() == [100, 25, 4, 0]
    np.testing.assert_allclose(category_factors(dataset, 0.36), [1, 1.2, 3, 1])
    np.testing.assert_allclose(category_factors(dataset, 0.1), [1, 1, np.sqrt(2.5), 1])
    wanted = [3.0] * 4 + [1.2] * 21 + [1.0] * 75
    np.testing.assert_allclose(repeat_factors(dataset, 0.36), wanted)


some_factors = st.lists(
    st.one_of(st.just(1.0), st.floats(1, 3.5), st.just(2.0)), min_size=24, max_size=60
)


@given(some_factors, st.integers(1, 6), st.integers(0, 9))
def test_every_epoch_has_every_image_floor_or_ceil_of_its_factor(factors, batch, seed):
    factors = np.array(factors)
    order = Repeated(factors, batch, seed, 0)
    images = np.array([order.at(position) for position in range(5 * 60 * 4 // batch * batch)])
    for start, end in zip(order.starts, order.starts[1:], strict=False):
        counts = np.bincount(images[start:end], minlength=len(factors))
        if end <= len(images):
            assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()
            assert abs(end - start - factors.sum()) < 1.001
    for rows in images.reshape(-1, batch):
        assert len(set(rows.tolist())) == batch
    later = Repeated(factors, batch, seed, 0)
    assert later.at(len(images) - 1) == images[-1] and later.at(7) == images[7]


def test_factors_hold_on_average_and_epochs_differ():
    factors = np.array([1.9, 1.1, 1.0, 2.5, 1.3] * 8)
    plan = make_plan(sizes_of([40]), 4, steps=3000, factors=factors)
    order = plan.orders[0]
    order.at(1000)
    counts = np.array([order.copies(epoch) for epoch in range(150)])
    # Systematic sampling: the mean of 150 draws of variance at most 1/4.
    np.testing.assert_allclose(counts.mean(axis=0), factors, atol=4 * 0.5 / np.sqrt(150))
    assert abs(counts.sum() / 150 - factors.sum()) < 0.1
    first, second = ([order.at(p) for p in range(*order.starts[e : e + 2])] for e in range(2))
    assert first != second
    first = np.array(first)
    # Copies of an image lie apart, not side by side: at least a quarter of an epoch.
    for image in np.flatnonzero(factors == 2.5):
        places = np.flatnonzero(first == image)
        assert np.diff(places).min() > len(first) / 4 - plan.batch_size


def test_buckets_take_turns_by_their_repeated_images():
    sizes, factors = sizes_of([40, 20]), np.array([1.0] * 40 + [2.0] * 20)
    plan = make_plan(sizes, 4, steps=400, factors=factors)
    assert plan.epoch == 80
    drawn = np.bincount(plan.turns[:, 0])
    assert drawn.tolist() == [200, 200]


def test_factors_of_one_and_jitter_leave_the_order_of_images_as_it_was():
    sizes = sizes_of([37, 29, 8])
    plain = make_plan(sizes, 4)
    jittered = make_plan(sizes, 4, sides=SIDES)
    for step in range(60):
        a, b = plain[step], jittered[step]
        assert a.images.tolist() == b.images.tolist() and a.flipped.tolist() == b.flipped.tolist()


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.integers(1, 7),
    st.lists(st.integers(0, 9), max_size=4, unique=True),
)
def test_exchanges_separate_what_one_exchange_can(images, size, before):
    order = np.array(images)
    groups = np.arange(len(order)) // size
    found = separated(order, groups, np.array(before, int))
    assert sorted(found.tolist()) == sorted(images)
    held = [set(found[groups == g].tolist()) | (set(before) if g == 0 else set())
            for g in range(groups[-1] + 1)]  # fmt: skip
    for place, (image, group) in enumerate(zip(found.tolist(), groups.tolist(), strict=True)):
        rest = [*found[groups == group].tolist(), *(before if group == 0 else [])]
        if rest.count(image) < 2:
            continue
        for other_place, (other, there) in enumerate(
            zip(found.tolist(), groups.tolist(), strict=True)
        ):
            possible = there != group and image not in held[there]
            assert not (possible and other not in held[group]), (place, other_place)


def test_a_jittered_step_is_one_of_the_scales_in_one_bucket():
    sizes = sizes_of([50, 30, 20])
    plan, again = (make_plan(sizes, 4, steps=300, sides=SIDES) for _ in range(2))
    seen = np.zeros(len(SIDES), int)
    for step in (*range(300), 7):
        batch = plan[step]
        assert same(batch, again[step])
        seen[batch.scale] += 1
        scale = plan.scales[batch.scale]
        wanted = [resized_hw(*map(int, sizes[i]), SIDES[batch.scale], 400) for i in batch.images]
        assert scale.resized_hw[batch.images].tolist() == [list(hw) for hw in wanted]
        height, width = np.max(scale.resized_hw[plan.buckets.bucket == plan.turns[step, 0]], axis=0)
        assert batch.shape_hw == (-(-height // 32) * 32, -(-width // 32) * 32)
    assert (seen > 60).all()  # of 300 draws among three, 100 expected
    assert {plan[step].shape_hw for step in range(300)} == set(plan.shapes_hw)
    assert plan.largest is plan.scales[2]
    short = make_plan(sizes, 4, steps=20, sides=SIDES)
    assert all(same(short[step], plan[step]) for step in range(20))
    other = make_plan(sizes, 4, seed=1, steps=20, sides=SIDES)
    assert [other[s].scale for s in range(20)] != [plan[s].scale for s in range(20)]


@pytest.mark.parametrize(
    "repeats, sides", [(False, ()), pytest.param(True, SIDES, marks=pytest.mark.slow)]
)
def test_64_processes_share_out_an_epoch_without_a_word(repeats, sides):
    """Each plans for itself: one bucket at every step; every image as often as an epoch has it."""
    rng = np.random.default_rng(0)
    sizes = sizes_of([350, 150, 140])
    factors = np.where(rng.random(640) < 0.1, 2.0, 1.0) if repeats else None
    copies = np.ones(640, int) if factors is None else factors.astype(int)
    plans = [make_plan(sizes, 64, 5, 15, sides, factors) for _ in range(64)]
    seen = [[], [], []]
    for step in range(15):
        batches = [plan[step] for plan in plans]
        assert len({(batch.shape_hw, batch.scale) for batch in batches}) == 1
        images = [int(batch.images[process]) for process, batch in enumerate(batches)]
        assert len(set(images)) == 64
        seen[plans[0].turns[step, 0]] += images
    for members, images in zip(plans[0].members, seen, strict=True):
        size = int(copies[members].sum())
        assert len(images) >= size > 0
        for start in range(0, len(images) - size + 1, size):  # an epoch of the bucket
            counts = np.bincount(images[start : start + size], minlength=640)
            assert (counts[members] == copies[members]).all() and counts.sum() == size


def test_jittered_batches_have_their_boxes_on_their_pixels(tmp_path):
    """The pipeline resizes to the scale of the step: everything has the same factor."""
    dataset = coco.load(*write(tmp_path))
    config = Config(
        data=DataConfig(batch_size=2, short_side=64, long_side=128, jitter=(48, 64, 96))
    )
    config.optimizer = OptimizerConfig(steps=12)
    plan = plan_for(dataset, config)
    loaded = list(batches(dataset, plan, rows=slice(0, 2), threads=2, prefetch=1))
    assert len({batch["image"].shape for batch in loaded}) == len(plan.shapes_hw) > 1
    for step, batch in enumerate(loaded):
        side = (48, 64, 96)[plan[step].scale]
        assert batch["image"].shape[1:3] == plan[step].shape_hw
        for row in range(2):
            size = tuple(map(int, batch["original_hw"][row]))
            assert tuple(batch["size_hw"][row]) == resized_hw(*size, side, 128)
            boxes, _ = dataset.boxes_of(int(batch["index"][row]))
            wide = np.sort(boxes[:, 2] - boxes[:, 0]) * batch["size_hw"][row][1] / size[1]
            given = batch["boxes"][row][batch["box_valid"][row]]
            np.testing.assert_allclose(np.sort(given[:, 2] - given[:, 0]), wide, rtol=1e-5)


def test_the_log_says_how_many_programs_and_which_images_are_repeated(tmp_path, caplog):
    dataset = coco.load(*write(tmp_path))
    config = Config(data=DataConfig(batch_size=1, short_side=64, long_side=128))
    config.optimizer = OptimizerConfig(steps=3)
    with caplog.at_level(logging.INFO):
        plan_for(dataset, config)
        assert not caplog.text
        config.data = dataclasses.replace(config.data, jitter=(48, 64), repeat_threshold=0.9)
        plan = plan_for(dataset, config)
    shapes = len({plan[step].shape_hw for step in range(3)} | set(plan.shapes_hw))
    assert "short sides of 48, 64 px, drawn for each batch" in caplog.text
    assert f"{shapes} image shapes, each compiled when it first comes" in caplog.text
    assert "images are repeated, an epoch has" in caplog.text


@pytest.mark.parametrize(
    "value, words",
    [
        ((640, 640), "greater than 0 and all different"),
        ((0, 640), "greater than 0 and all different"),
        ((640, 1400), r"at most long_side \(1333\), each"),
        ([640], "whole numbers"),
    ],
)
def test_sizes_that_cannot_be_drawn(value, words):
    config = Config()
    config.data.jitter = value
    with pytest.raises(ConfigError, match=words):
        validate(config)
    config.data.jitter = (800, 640)
    validate(config)
