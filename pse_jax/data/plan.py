"""Which images make up which batch, at which static shape: a pure function of (seed, step).

Nothing about the data is saved in a checkpoint: a run that stops may resume from any step, with
another number of processes, and sees the same batches.
"""

import dataclasses
import logging
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from pse_jax.config import DataConfig
from pse_jax.data.transforms import resized_hw
from pse_jax.points import ALIGNMENT

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Buckets:
    """The few canvas shapes, and for every image its own size and its canvas."""

    shapes_hw: tuple[tuple[int, int], ...]  # px, multiples of 32
    resized_hw: Int[np.ndarray, "n 2"]
    bucket: Int[np.ndarray, " n"]  # index into shapes_hw
    rule: str = "fcos"  # by which images are resized (transforms.py)


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """One batch of the plan. Rows that are not `valid` only fill it up."""

    shape_hw: tuple[int, int]
    images: Int[np.ndarray, " b"]  # indices into the data set
    flipped: Bool[np.ndarray, " b"]
    valid: Bool[np.ndarray, " b"]


def choose_buckets(
    sizes_hw: Int[np.ndarray, "n 2"],
    short_side: int,
    long_side: int,
    count: int,
    rule: str = "fcos",
) -> Buckets:
    """At most `count` canvases that hold every resized image, with little padding.

    Starts with one canvas for every size that occurs (rounded up to multiples of 32) and merges,
    one pair at a time, the two whose union costs the fewest padded pixels over the data set.
    """
    resized = np.array(
        [resized_hw(int(h), int(w), short_side, long_side, rule) for h, w in sizes_hw]
    )
    rounded = -(-resized // ALIGNMENT) * ALIGNMENT
    shapes, member, counts = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    while len(shapes) > count:
        pairs = [(i, j) for i in range(len(shapes)) for j in range(i)]
        a, b = min(pairs, key=lambda pair: _padding(shapes, counts, *pair))
        shapes, counts, member = _merged(shapes, counts, member, a, b)
    return Buckets(_pairs(shapes), resized, member, rule)


def fill_batches(buckets: Buckets, batch_size: int) -> Buckets:
    """The same buckets if each has a batch of images, so that none is needed twice in a batch.

    Otherwise the one with the fewest joins the neighbour with which it costs the fewest padded
    pixels, in the canvas that holds both, until all have enough or one is left.
    """
    shapes, member = np.array(buckets.shapes_hw), buckets.bucket
    counts = np.bincount(member, minlength=len(shapes))
    while len(shapes) > 1 and counts.min() < batch_size:
        few = int(counts.argmin())
        others = [k for k in range(len(shapes)) if k != few]
        near = min(others, key=lambda k: _padding(shapes, counts, few, k))
        shapes, counts, member = _merged(shapes, counts, member, max(few, near), min(few, near))
    return dataclasses.replace(buckets, shapes_hw=_pairs(shapes), bucket=member)


def _padding(shapes: np.ndarray, counts: np.ndarray, a: int, b: int) -> int:
    """The padded pixels that merging two buckets costs."""
    union = np.maximum(shapes[a], shapes[b]).prod()
    apart = counts[a] * shapes[a].prod() + counts[b] * shapes[b].prod()
    return int((counts[a] + counts[b]) * union - apart)


def _merged(
    shapes: np.ndarray, counts: np.ndarray, member: np.ndarray, a: int, b: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes, counts and each image's bucket, with bucket a moved into b < a."""
    shapes, counts = shapes.copy(), counts.copy()
    shapes[b], counts[b] = np.maximum(shapes[a], shapes[b]), counts[a] + counts[b]
    member = np.where(member == a, b, member)
    member = np.where(member > a, member - 1, member)
    return np.delete(shapes, a, axis=0), np.delete(counts, a), member


def _pairs(shapes: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple((int(h), int(w)) for h, w in shapes)


def buckets_for(sizes_hw: Int[np.ndarray, "n 2"], data: DataConfig) -> Buckets:
    """`choose_buckets` as the configuration says."""
    return choose_buckets(sizes_hw, data.short_side, data.long_side, data.buckets, data.resize)


class TrainPlan:
    """Endless shuffled batches, each within one bucket.

    Buckets take turns so that after any number of steps each has had its share of the images, and
    every image of a bucket is used once before any is used twice. No batch holds an image twice,
    unless the whole data set is smaller than a batch: then each holds all as equally as can be.
    """

    def __init__(self, buckets: Buckets, batch_size: int, seed: int, flip: float, steps: int):
        _say(buckets, filled := fill_batches(buckets, batch_size), batch_size)
        buckets = filled
        self.buckets, self.batch_size, self.seed, self.flip = buckets, batch_size, seed, flip
        self.members = [np.flatnonzero(buckets.bucket == k) for k in range(len(buckets.shapes_hw))]
        share = np.array([len(m) for m in self.members]) / len(buckets.bucket)
        drawn = np.zeros(len(share), int)
        self.turns = np.zeros((steps, 2), int)  # bucket, and how often it was drawn before
        for step in range(steps):
            k = int(np.argmax((step + 1) * share - drawn))  # the one that is most behind
            self.turns[step] = k, drawn[k]
            drawn[k] += 1

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, step: int) -> PlannedBatch:
        bucket, turn = (int(v) for v in self.turns[step])
        members = self.members[bucket]
        positions = turn * self.batch_size + np.arange(self.batch_size)
        epochs, places = np.divmod(positions, len(members))
        size = len(members)
        order = [
            members[_order(self.seed, bucket, int(e), size, self.batch_size)[p]]
            for e, p in zip(epochs, places, strict=True)
        ]
        flips = np.random.default_rng((self.seed, 1, step)).random(self.batch_size) < self.flip
        return PlannedBatch(
            self.buckets.shapes_hw[bucket], np.array(order), flips, np.ones(self.batch_size, bool)
        )


def _say(given: Buckets, used: Buckets, batch: int) -> None:
    """Logs what became of buckets that cannot fill a batch."""
    before, images = len(given.shapes_hw), len(given.bucket)
    if joined := before - len(used.shapes_hw):
        text = "%d of %d image shapes joined another, for want of images for a batch of %d"
        logger.info(text, joined, before, batch)
    if images < batch:
        logger.warning(
            "the %d images are fewer than a batch of %d: every batch repeats some, all of them "
            "equally often; with --config.data.batch_size=%d none would",
            *(images, batch, images),
        )


@lru_cache(maxsize=64)
def _permutation(seed: int, bucket: int, epoch: int, size: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng((seed, 0, bucket, epoch)).permutation(size)


@lru_cache(maxsize=64)
def _order(seed: int, bucket: int, epoch: int, size: int, batch: int) -> Int[np.ndarray, " n"]:
    """The order of a bucket's images in one epoch: a permutation that repeats none within a batch.

    An epoch may begin in the middle of a batch. What the last epoch put into that batch changes
    places with the next images that it did not; the end of an epoch never changes.
    """
    begun = epoch * size % batch  # rows of the first batch that the last epoch has filled
    if batch < size < 2 * batch:  # too few to choose from: always the same order, without repeats
        return _permutation(seed, bucket, 0, size)
    order = _permutation(seed, bucket, epoch, size)
    if begun and size > batch:
        repeated = np.isin(order, _permutation(seed, bucket, epoch - 1, size)[-begun:])
        first = np.flatnonzero(repeated[: batch - begun])
        others = np.flatnonzero(~repeated[batch - begun :])[: len(first)] + batch - begun
        order = order.copy()
        order[first], order[others] = order[others], order[first]
    return order


class EvalPlan:
    """Every image once, in batches of one bucket; the last batch of a bucket is filled up."""

    def __init__(self, buckets: Buckets, batch_size: int):
        self.buckets = buckets
        self.batches: list[PlannedBatch] = []
        for k, shape in enumerate(buckets.shapes_hw):
            members = np.flatnonzero(buckets.bucket == k)
            for start in range(0, len(members), batch_size):
                images = members[start : start + batch_size]
                valid = np.arange(batch_size) < len(images)
                filled = np.concatenate([images, np.full(batch_size - len(images), images[0])])
                self.batches.append(PlannedBatch(shape, filled, np.zeros(batch_size, bool), valid))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> PlannedBatch:
        return self.batches[step]
