"""The batch plan: a pure function of (seed, step), fair to every image, in a few static shapes."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.data.plan import EvalPlan, TrainPlan, choose_buckets

SIZES_HW = np.array([(480, 640)] * 50 + [(640, 480)] * 30 + [(500, 500)] * 13 + [(427, 640)] * 7)


@pytest.fixture(scope="module")
def buckets():
    return choose_buckets(SIZES_HW, 800, 1333, 3)


def make_plan(buckets, seed=3, steps=80, batch_size=4):
    return TrainPlan(buckets, batch_size, seed, 0.5, steps)


def same(a, b):
    return a.shape_hw == b.shape_hw and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("images", "flipped", "valid")
    )


@given(
    sizes=st.lists(st.tuples(st.integers(40, 900), st.integers(40, 900)), min_size=1, max_size=40),
    count=st.integers(1, 5),
)
def test_every_image_fits_its_bucket_and_there_are_few(sizes, count):
    chosen = choose_buckets(np.array(sizes), 256, 400, count)
    assert 1 <= len(chosen.shapes_hw) <= count
    assert all(side % 32 == 0 for shape in chosen.shapes_hw for side in shape)
    canvas = np.array(chosen.shapes_hw)[chosen.bucket]
    assert (chosen.resized_hw <= canvas).all()
    assert set(chosen.bucket.tolist()) == set(range(len(chosen.shapes_hw)))


def test_buckets_are_those_that_pad_least():
    sizes = np.array([(320, 320)] * 10 + [(320, 352)] * 10 + [(640, 320)] * 10)
    assert choose_buckets(sizes, 320, 640, 3).shapes_hw == ((320, 320), (320, 352), (640, 320))
    assert choose_buckets(sizes, 320, 640, 2).shapes_hw == ((320, 352), (640, 320))
    assert choose_buckets(sizes, 320, 640, 1).shapes_hw == ((640, 352),)


def test_a_step_is_a_pure_function_of_seed_and_step(buckets):
    plan, again = make_plan(buckets), make_plan(buckets)
    forwards = [plan[step] for step in range(80)]
    for step in (79, 40, 3, 40):  # in the middle, backwards, twice
        assert same(again[step], forwards[step])
    other = make_plan(buckets, seed=4)
    assert not all(same(other[step], forwards[step]) for step in range(80))


def test_a_longer_run_begins_as_a_shorter_one(buckets):
    short, long = make_plan(buckets, steps=20), make_plan(buckets, steps=80)
    assert len(short) == 20 and len(long) == 80
    assert all(same(short[step], long[step]) for step in range(20))


def test_no_image_of_a_bucket_is_used_twice_before_all_were_used_once(buckets):
    plan = make_plan(buckets)
    used = np.zeros(len(SIZES_HW), int)
    for step in range(len(plan)):
        batch = plan[step]
        np.add.at(used, batch.images, 1)
        of_it = buckets.bucket == buckets.shapes_hw.index(batch.shape_hw)
        assert of_it[batch.images].all() and batch.valid.all()
        # A batch may end one pass and begin the next: then the bucket's counts span three values.
        assert used[of_it].max() - used[of_it].min() <= 1
    assert used.min() >= 2


def test_epochs_are_shuffled_differently(buckets):
    plan = make_plan(buckets, batch_size=1, steps=300)
    first = [int(plan[step].images[0]) for step in range(300) if plan.turns[step, 0] == 0]
    size = int((buckets.bucket == 0).sum())
    assert sorted(first[:size]) == sorted(first[size : 2 * size])
    assert first[:size] != first[size : 2 * size]


def test_buckets_have_their_share_after_any_number_of_steps(buckets):
    plan = make_plan(buckets, steps=200)
    share = np.bincount(buckets.bucket) / len(SIZES_HW)
    drawn = np.zeros(len(share))
    for step in range(200):
        drawn[plan.turns[step, 0]] += 1
        assert np.abs(drawn - (step + 1) * share).max() <= 1


def test_about_half_of_the_images_are_flipped(buckets):
    flips = np.concatenate([make_plan(buckets, steps=100)[step].flipped for step in range(100)])
    assert 0.42 < flips.mean() < 0.58
    assert not TrainPlan(buckets, 4, 0, 0.0, 5)[2].flipped.any()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_out_one_batch_of_one_shape(buckets, processes):
    whole = make_plan(buckets, batch_size=8)
    rows = 8 // processes
    for step in range(10):
        parts = [make_plan(buckets, batch_size=8)[step] for _ in range(processes)]
        assert {part.shape_hw for part in parts} == {whole[step].shape_hw}
        shares = [part.images[k * rows : (k + 1) * rows] for k, part in enumerate(parts)]
        assert np.concatenate(shares).tolist() == whole[step].images.tolist()


def test_a_data_set_smaller_than_a_batch():
    alone = choose_buckets(np.array([(320, 320)] * 3), 320, 640, 4)
    images = TrainPlan(alone, 8, 0, 0.5, 1)[0].images
    assert np.bincount(images).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_the_log_says_what_was_done_about_small_buckets(caplog):
    sizes = np.array([(320, 320)] * 8 + [(320, 640)] * 2)
    with caplog.at_level(logging.INFO):
        TrainPlan(choose_buckets(sizes, 320, 640, 4), 2, 0, 0.5, 1)
        assert not caplog.text
        TrainPlan(choose_buckets(sizes, 320, 640, 4), 8, 0, 0.5, 1)
        assert "1 of 2 image shapes merged into another" in caplog.text
        caplog.clear()
        TrainPlan(choose_buckets(sizes[:3], 320, 640, 4), 8, 0, 0.5, 1)
        assert "the 3 images are fewer than a batch of 8" in caplog.text
        assert "--config.data.batch_size=3" in caplog.text


def buckets_of(counts, shapes=((320, 320), (320, 640), (640, 320), (640, 640))):
    sizes = [shape for shape, count in zip(shapes, counts, strict=False) for _ in range(count)]
    return choose_buckets(np.array(sizes), 320, 640, len(counts))


some_counts = st.lists(st.integers(1, 40), min_size=1, max_size=4)


@given(some_counts, st.integers(1, 17), st.integers(0, 9))
def test_no_batch_holds_an_image_twice_and_all_have_their_turn(counts, batch_size, seed):
    made = buckets_of(counts)
    total = len(made.bucket)
    plan = TrainPlan(made, batch_size, seed, 0.5, steps=150)
    assert (plan.buckets.resized_hw <= np.array(plan.buckets.shapes_hw)[plan.buckets.bucket]).all()
    seen = [[] for _ in plan.members]
    for step in range(len(plan)):
        images = plan[step].images
        largest = -(-batch_size // total)  # 1 unless the data set is smaller than a batch
        assert np.bincount(images).max() <= max(largest, 1)
        seen[plan.turns[step, 0]] += images.tolist()
    for members, images in zip(plan.members, seen, strict=True):
        assert len(members) >= min(batch_size, total)
        for start in range(0, len(images) - len(members) + 1, len(members)):  # an epoch
            assert sorted(images[start : start + len(members)]) == members.tolist()
    assert sum(map(len, plan.members)) == total  # none is lost


def plain_images(made, batch_size, seed, bucket, turn):
    """A batch of one permutation an epoch, end to end, whatever it repeats."""
    members = np.flatnonzero(made.bucket == bucket)
    positions = range(turn * batch_size, (turn + 1) * batch_size)
    return [
        members[
            np.random.default_rng((seed, 0, bucket, n // len(members))).permutation(len(members))
        ][n % len(members)]
        for n in positions
    ]


@given(st.lists(st.integers(40, 90), min_size=1, max_size=4), st.integers(1, 20), st.integers(0, 9))
def test_a_plan_that_never_repeated_an_image_in_a_batch_is_as_it_was(counts, batch_size, seed):
    """Runs that began before resume bit for bit; what did repeat one changes places, no more."""
    made = buckets_of(counts)
    plan = TrainPlan(made, batch_size, seed, 0.5, steps=60)
    assert plan.buckets.shapes_hw == made.shapes_hw and (plan.buckets.bucket == made.bucket).all()
    changed = set()
    for step, (bucket, turn) in enumerate(plan.turns.tolist()):
        plain = plain_images(made, batch_size, seed, bucket, turn)
        epoch = (turn + 1) * batch_size // counts_of(made)[bucket]  # at the end of the batch
        if len(set(plain)) < len(plain):
            changed.add((bucket, epoch))
        elif (bucket, epoch) not in changed and (bucket, epoch - 1) not in changed:
            assert plan[step].images.tolist() == plain


def counts_of(made):
    return np.bincount(made.bucket).tolist()


def test_a_bucket_smaller_than_a_batch_joins_the_neighbour_that_pads_least():
    made = buckets_of([20, 3, 20], ((320, 320), (320, 352), (640, 320)))
    plan = TrainPlan(made, 8, 0, 0.5, 60)
    assert plan.buckets.shapes_hw == ((320, 352), (640, 320))
    assert np.bincount(plan.buckets.bucket).tolist() == [23, 20]
    assert len(made.shapes_hw) == 3  # the evaluation's stay
    assert TrainPlan(made, 3, 0, 0.5, 60).buckets.shapes_hw == made.shapes_hw


@given(batch_size=st.integers(1, 17), count=st.integers(1, 3))
def test_evaluation_covers_every_image_exactly_once(batch_size, count):
    chosen = choose_buckets(SIZES_HW, 800, 1333, count)
    plan = EvalPlan(chosen, batch_size)
    seen = []
    for step in range(len(plan)):
        batch = plan[step]
        assert len(batch.images) == len(batch.valid) == batch_size
        assert batch.valid[0] and not batch.flipped.any()
        assert (chosen.resized_hw[batch.images] <= np.array(batch.shape_hw)).all()
        seen += batch.images[batch.valid].tolist()
    assert sorted(seen) == list(range(len(SIZES_HW)))
