"""Which images make up which batch, at which static shape: a pure function of (seed, step).

Nothing about the data is saved in a checkpoint: a run that stops may resume from any step, with
another number of processes, and sees the same batches.
"""

import dataclasses
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int

from pse_jax.config import DataConfig
from pse_jax.data.transforms import resized_hw
from pse_jax.points import ALIGNMENT


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

    def cost(a: int, b: int) -> int:
        union = np.maximum(shapes[a], shapes[b]).prod()
        apart = counts[a] * shapes[a].prod() + counts[b] * shapes[b].prod()
        return int((counts[a] + counts[b]) * union - apart)

    while len(shapes) > count:
        pairs = [(i, j) for i in range(len(shapes)) for j in range(i)]
        a, b = min(pairs, key=lambda pair: cost(*pair))  # b < a
        shapes[b], counts[b] = np.maximum(shapes[a], shapes[b]), counts[a] + counts[b]
        member = np.where(member == a, b, member)
        member = np.where(member > a, member - 1, member)
        shapes, counts = np.delete(shapes, a, axis=0), np.delete(counts, a)
    return Buckets(tuple((int(h), int(w)) for h, w in shapes), resized, member, rule)


def buckets_for(sizes_hw: Int[np.ndarray, "n 2"], data: DataConfig) -> Buckets:
    """`choose_buckets` as the configuration says."""
    return choose_buckets(sizes_hw, data.short_side, data.long_side, data.buckets, data.resize)


class TrainPlan:
    """Endless shuffled batches, each within one bucket.

    Buckets take turns so that after any number of steps each has had its share of the images, and
    every image of a bucket is used once before any is used twice.
    """

    def __init__(self, buckets: Buckets, batch_size: int, seed: int, flip: float, steps: int):
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
        order = [
            members[_permutation(self.seed, bucket, int(e), len(members))[p]]
            for e, p in zip(epochs, places, strict=True)
        ]
        flips = np.random.default_rng((self.seed, 1, step)).random(self.batch_size) < self.flip
        return PlannedBatch(
            self.buckets.shapes_hw[bucket], np.array(order), flips, np.ones(self.batch_size, bool)
        )


@lru_cache(maxsize=64)
def _permutation(seed: int, bucket: int, epoch: int, size: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng((seed, 0, bucket, epoch)).permutation(size)


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
