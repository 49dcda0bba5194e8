"""Which images make up which batch, at which static shape: a pure function of (seed, step).

Nothing about the data is saved in a checkpoint: a run that stops may resume from any step, with
another number of processes, and sees the same batches.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from pse_jax.config import DataConfig
from pse_jax.data.augment import Augment
from pse_jax.data.epochs import ONE, Once, Repeated
from pse_jax.data.padding import Canvases, canvas_hw
from pse_jax.data.transforms import resized_hw
from pse_jax.points import ALIGNMENT

logger = logging.getLogger(__name__)
SOON, MANY = 100, 8  # steps that are looked at, and shapes, to compile them ahead


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
    scale: int = 0  # index into the plan's `scales`


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
    resized = resized_sizes(sizes_hw, short_side, long_side, rule)
    shapes, member, counts = np.unique(
        _rounded(resized), axis=0, return_inverse=True, return_counts=True
    )
    member = member.reshape(-1)
    while len(shapes) > count:
        pairs = [(i, j) for i in range(len(shapes)) for j in range(i)]
        a, b = min(pairs, key=lambda pair: _padding(shapes, counts, *pair))
        shapes, counts, member = _merged(shapes, counts, member, a, b)
    return Buckets(_pairs(shapes), resized, member, rule)


def resized_sizes(
    sizes_hw: Int[np.ndarray, "n 2"], short_side: int, long_side: int, rule: str = "fcos"
) -> Int[np.ndarray, "n 2"]:
    """The sizes of images after resizing, px."""
    return np.array([resized_hw(int(h), int(w), short_side, long_side, rule) for h, w in sizes_hw])


def _rounded(hw: np.ndarray) -> np.ndarray:
    return -(-hw // ALIGNMENT) * ALIGNMENT


def rescaled(buckets: Buckets, resized: Int[np.ndarray, "n 2"]) -> Buckets:
    """The same buckets of the same images, resized to other sizes, on canvases that hold these."""
    kinds = range(len(buckets.shapes_hw))
    shapes = [_rounded(resized[buckets.bucket == k].max(axis=0)) for k in kinds]
    return dataclasses.replace(buckets, shapes_hw=_pairs(np.array(shapes)), resized_hw=resized)


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


def canvases_for(
    sizes_hw: Int[np.ndarray, "n 2"], data: DataConfig, trained: Canvases = ()
) -> Buckets:
    """The canvases of an evaluation: `padding.canvas_hw` of each image, whatever the others."""
    resized = resized_sizes(sizes_hw, data.short_side, data.long_side, data.resize)
    longest = max(data.short_side, data.long_side)
    canvases = [canvas_hw((int(h), int(w)), longest, trained) for h, w in resized]
    shapes, member = np.unique(canvases, axis=0, return_inverse=True)
    return Buckets(_pairs(shapes), resized, member.reshape(-1), data.resize)


class TrainPlan:
    """Endless shuffled batches, each within one bucket and at one scale.

    Buckets take turns so that after any number of steps each has had its share of the images, and
    every image of a bucket is used once before any is used twice; with `factors`, as often in an
    epoch as these say. No batch holds an image twice, unless the whole data set is smaller than a
    batch, then each holds all as equally as can be; or unless an epoch has an image in as many
    copies as batches.
    """

    def __init__(
        self,
        buckets: Buckets,
        batch_size: int,
        seed: int,
        flip: float,
        steps: int,
        jitter: Sequence[Int[np.ndarray, "n 2"]] = (),
        factors: Float[np.ndarray, " n"] | None = None,
        augment: Augment | None = None,
    ):
        """Plans all batches.

        Args:
            buckets: of all images, at the size at which they are evaluated.
            batch_size: images, over all processes.
            seed: of the run.
            flip: probability of a flip.
            steps: batches; a longer plan begins as a shorter one.
            jitter: sizes of the resized images, one array for each scale that is drawn from.
            factors: how often an epoch has each image on average, at least 1; None: once.
            augment: what else happens to images; None: nothing.
        """
        self.augment = augment
        _say(buckets, filled := fill_batches(buckets, batch_size), batch_size)
        buckets = filled
        self.buckets, self.batch_size, self.seed, self.flip = buckets, batch_size, seed, flip
        self.scales = tuple(rescaled(buckets, sizes) for sizes in jitter) or (buckets,)
        self.members = [np.flatnonzero(buckets.bucket == k) for k in range(len(buckets.shapes_hw))]
        weights = [len(m) if factors is None else _total(factors[m]) for m in self.members]
        self.epoch = sum(weights)  # images of an epoch; with factors, on average
        share = np.array(weights) / self.epoch
        drawn = np.zeros(len(share), int)
        self.turns = np.zeros((steps, 2), int)  # bucket, and how often it was drawn before
        for step in range(steps):
            k = int(np.argmax((step + 1) * share - drawn))  # the one that is most behind
            self.turns[step] = k, drawn[k]
            drawn[k] += 1
        self.orders = [
            Once(len(m), batch_size, seed, k)
            if factors is None
            else Repeated(factors[m], batch_size, seed, k)
            for k, m in enumerate(self.members)
        ]

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, step: int) -> PlannedBatch:
        bucket, turn = (int(v) for v in self.turns[step])
        order, begin = self.orders[bucket], turn * self.batch_size
        places = [order.at(position) for position in range(begin, begin + self.batch_size)]
        flips = np.random.default_rng((self.seed, 1, step)).random(self.batch_size) < self.flip
        scale = int(np.random.default_rng((self.seed, 2, step)).integers(len(self.scales)))
        return PlannedBatch(
            self.scales[scale].shapes_hw[bucket],
            self.members[bucket][places],
            flips,
            np.ones(self.batch_size, bool),
            scale,
        )

    @property
    def shapes_hw(self) -> list[tuple[int, int]]:
        """All shapes that a batch may have, the largest first: each is compiled once."""
        shapes = {shape for scale in self.scales for shape in scale.shapes_hw}
        return sorted(shapes, key=lambda hw: (-hw[0] * hw[1], hw))

    def soon(self, step: int) -> list[tuple[int, int]]:
        """The shapes of the batches after `step`, as they come: of SOON steps, not over MANY."""
        steps = range(step, min(step + SOON, len(self)))
        return list(dict.fromkeys(self[s].shape_hw for s in steps))[:MANY]

    @property
    def largest(self) -> Buckets:
        """The buckets of the scale with the largest canvas."""
        return max(self.scales, key=lambda scale: max(h * w for h, w in scale.shapes_hw))


def _total(factors: Float[np.ndarray, " n"]) -> float:
    """Their sum, as `Repeated` counts: exact."""
    return int(np.round(factors * ONE).astype(np.int64).sum()) / ONE


def _say(given: Buckets, used: Buckets, batch: int) -> None:
    """Logs what became of buckets that cannot fill a batch."""
    before, images = len(given.shapes_hw), len(given.bucket)
    if joined := before - len(used.shapes_hw):
        text = "%d of %d image shapes merged into another: too few images for a batch of %d"
        logger.info(text, joined, before, batch)
    if images < batch:
        logger.warning(
            "the %d images are fewer than a batch of %d: every batch repeats some, all of them "
            "equally often; with --config.data.batch_size=%d none would",
            *(images, batch, images),
        )


class EvalPlan:
    """Every image once, in batches of one bucket; the last batch of a bucket is filled up."""

    def __init__(self, buckets: Buckets, batch_size: int):
        self.buckets, self.scales, self.augment = buckets, (buckets,), None
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
