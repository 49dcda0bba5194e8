"""Settings that suit a data set, each with its reason: what `check` proposes.

They are rules of thumb, from the sizes and numbers of images and objects alone; nothing is trained.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from pse_jax.config import Config
from pse_jax.data import transforms
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import Buckets, buckets_for, fill_batches
from pse_jax.points import ALIGNMENT
from pse_jax.report.assigned import Assigner

SMALL = 0.1  # share of the objects that may end smaller than `Start.object`
MOST_SHAPES = 4
PADDING = 0.05  # of the pixels, that one image shape less may cost
SEEN = 20_000  # images of all steps, at least, however few there are
EPOCHS = 12  # FCOS: 90,000 steps of 16 images are 12 epochs of COCO
NEAR = 1.25  # times as many steps make no difference
IMAGES_LOOKED_AT = 300  # to count objects without a location


@dataclasses.dataclass(frozen=True)
class Start:
    """What depends on whether training starts from pretrained weights."""

    name: str
    object: int  # px, square root of the area, that nearly all objects should have
    smallest: int  # px of the long side ...
    largest: int  # ... which it stays within
    short: int  # px, the largest of the short side


SCRATCH = Start("from scratch", 40, 128, 512, 384)
PRETRAINED = Start("from pretrained weights", 64, 640, 1333, 800)  # FCOS: 800, 1333


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A field, the value that suits the data, and why in a line."""

    field: str  # "data.short_side"
    value: Any
    why: str


def suggestions(dataset: Dataset, config: Config) -> list[Suggestion]:
    """What to set for a data set.

    Args:
        dataset: what is trained on; it has boxes.
        config: to build on: whether from pretrained weights, the size of the batches, the rest.
    """
    start = PRETRAINED if config.model.init_from else SCRATCH
    made = [*_image_size(dataset, start)]
    made += _size_bounds(dataset, applied(config, made))
    made += _batch(dataset, config)
    made += _buckets(dataset, applied(config, made))
    made += _steps(dataset, applied(config, made))
    made += _learning_rate(applied(config, made), config)
    return [*made, *_detections(dataset, config)]


def applied(config: Config, made: Sequence[Suggestion]) -> Config:
    """A copy of the configuration with these values."""
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data),
        targets=dataclasses.replace(config.targets),
        optimizer=dataclasses.replace(config.optimizer),
        inference=dataclasses.replace(config.inference),
    )
    for one in made:
        section, name = one.field.split(".")
        setattr(getattr(config, section), name, one.value)
    return config


def _image_size(dataset: Dataset, start: Start) -> Iterator[Suggestion]:
    """So large that nearly all objects are large enough: the time grows with the area."""
    long, short = dataset.sizes_hw.max(axis=1), dataset.sizes_hw.min(axis=1)
    boxes, of = dataset.boxes_xyxy, _image_of(dataset)
    share = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) / long[of]
    small = float(np.quantile(share, SMALL))
    wanted = _aligned(start.object / small)
    double = _aligned(2 * float(np.median(long)))  # twice its size an image shows nothing new
    ratio = float(np.median(short / long))
    largest = min(start.largest, double, int(start.short / ratio))
    limits = (min(start.smallest, largest), largest)
    side = min(max(wanted, limits[0]), limits[1])
    objects = f"nine of ten objects are then at least {small * side:.0f} px large (√area)"
    why = f"{objects}; {start.object} px are wanted {start.name}"
    if side != wanted:
        end = "smallest" if side > wanted else "largest"
        why = f"{objects}; the {end} size that is proposed {start.name}"
        if side == double < start.largest:
            why = f"{objects}; it is twice the image's own size"
    yield Suggestion("data.long_side", side, why)
    yield Suggestion(
        "data.short_side",
        min(max(round(side * ratio / 8), 1) * 8, side),
        f"the median image is {1 / ratio:.2f} times as long as it is short",
    )


def _size_bounds(dataset: Dataset, config: Config) -> Iterator[Suggestion]:
    """The first bound near half the median object, between P3 and P4; each next is its double.

    A location sees as its largest distance between a half and the whole of an object's longer side.
    """
    resized = buckets_for(dataset.sizes_hw, config.data).resized_hw
    factor = resized.max(axis=1) / dataset.sizes_hw.max(axis=1)
    boxes, of = dataset.boxes_xyxy, _image_of(dataset)
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) * factor[of]
    low, median, high = np.quantile(longer, (0.05, 0.5, 0.95))
    first = int(2 ** np.clip(round(math.log2(max(median / 2, 1))), 4, 8))
    why = (
        f"the median object is {median:.0f} px long after resizing, nine of ten are {low:.0f} to "
        f"{high:.0f} px: the first bound is near half of that, and so P3 to P5 share them"
    )
    yield Suggestion("targets.size_bounds", (first, 2 * first, 4 * first, 8 * first), why)


def _batch(dataset: Dataset, config: Config) -> Iterator[Suggestion]:
    """No more images a batch than there are; the learning rate follows."""
    batch, images = config.data.batch_size, len(dataset)
    if images >= batch:
        return
    fitting = 2 ** int(math.log2(images))
    why = f"there are {images} images: larger batches would hold some twice"
    yield Suggestion("data.batch_size", fitting, why)


def _buckets(dataset: Dataset, config: Config) -> Iterator[Suggestion]:
    """As few image shapes as cost little more padding than many: each is compiled."""
    paddings, shapes = [], {}
    for count in range(1, max(MOST_SHAPES, config.data.buckets) + 1):
        data = dataclasses.replace(config.data, buckets=count)
        buckets = fill_batches(buckets_for(dataset.sizes_hw, data), data.batch_size)
        shapes[count] = len(buckets.shapes_hw)
        paddings.append(padding(buckets))
    count = next(k for k, share in enumerate(paddings, 1) if share <= min(paddings) + PADDING)
    holds = "1 image shape holds" if count == 1 else f"{count} image shapes hold"
    why = f"{holds} all images with {paddings[count - 1]:.1%} padding; each takes time to compile"
    if min(paddings) < paddings[count - 1]:
        why += f"; {max(shapes.values())} would have {paddings[-1]:.1%}"
    same = shapes[config.data.buckets] == count  # a limit that is not reached
    yield Suggestion("data.buckets", config.data.buckets if same else count, why)


def _steps(dataset: Dataset, config: Config) -> Iterator[Suggestion]:
    """Twelve epochs, and enough images where there are few; the milestones move along."""
    images, batch, before = len(dataset), config.data.batch_size, config.optimizer
    seen = max(EPOCHS * images, SEEN)
    exact = seen / batch
    steps = max(int(round(exact, -2 if exact >= 1000 else -1)), 10)
    near = max(steps, before.steps) <= NEAR * min(steps, before.steps)
    steps = before.steps if near else steps
    why = f"each of the {images:,} images is seen {steps * batch / images:.0f} times"
    few = f"; about {seen:,} in all are the least"
    why += few if seen == SEEN else ", as in FCOS's recipe"
    yield Suggestion("optimizer.steps", steps, why)
    shares = [step / before.steps for step in before.milestones if step < before.steps]
    digits = -1 if steps >= 1000 else 0
    moved = {max(int(round(share * steps, digits)), 1) for share in shares}
    milestones = before.milestones if near else tuple(sorted(moved))
    told = ", ".join(f"{share:.0%}" for share in shares) or "none"
    yield Suggestion("optimizer.milestones", milestones, f"the same shares of the steps: {told}")
    if before.warmup_steps > steps // 10:
        yield Suggestion("optimizer.warmup_steps", steps // 10, "a tenth of the steps")


def _learning_rate(config: Config, base: Config) -> Iterator[Suggestion]:
    """The base's, in proportion to the batch, unless the configuration does that itself."""
    rate, batch, before = base.optimizer.learning_rate, config.data.batch_size, base.data.batch_size
    if config.optimizer.batch_rule == "linear":
        why = f"for batches of {config.optimizer.base_batch}; batch_rule makes it fit {batch}"
    elif batch == before:
        why = f"the configuration's, for batches of {batch}"
    else:
        why = f"{rate:g} is for batches of {before}, and these are of {batch}"
        rate = float(f"{rate * batch / before:.3g}")
    yield Suggestion("optimizer.learning_rate", rate, why)


def _detections(dataset: Dataset, config: Config) -> Iterator[Suggestion]:
    """Room for as many detections as an image has objects, and half as many again."""
    most, allowed = int(np.diff(dataset.offsets).max()), config.inference.max_detections
    if most > allowed:
        why = f"an image has {most:,} objects, and {allowed} detections would be kept"
        yield Suggestion("inference.max_detections", -(-most * 3 // 100) * 50, why)


def without_location(dataset: Dataset, config: Config) -> tuple[int, int]:
    """Objects for which no location answers, and all, of images evenly taken from a data set."""
    buckets = buckets_for(dataset.sizes_hw, config.data)
    assigners = [Assigner(hw, config) for hw in buckets.shapes_hw]
    lost, total = 0, 0
    for i in np.unique(np.linspace(0, len(dataset) - 1, IMAGES_LOOKED_AT).astype(int)).tolist():
        boxes, hw = dataset.boxes_of(i)[0], dataset.sizes_hw[i].tolist()
        if len(boxes):
            scaled = transforms.scale_boxes(boxes, tuple(hw), tuple(buckets.resized_hw[i].tolist()))
            counts = assigners[buckets.bucket[i]].counts(scaled)
            lost, total = lost + int((counts.sum(axis=1) == 0).sum()), total + len(boxes)
    return lost, total


def padding(buckets: Buckets) -> float:
    """The share of the canvases' pixels that are padding, over all images."""
    canvas = np.array(buckets.shapes_hw, np.int64).prod(axis=1)[buckets.bucket]
    return float(1 - buckets.resized_hw.prod(axis=1, dtype=np.int64).sum() / canvas.sum())


def _aligned(side: float) -> int:
    return max(math.ceil(side / ALIGNMENT), 1) * ALIGNMENT


def _image_of(dataset: Dataset) -> Int[np.ndarray, " m"]:
    return np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
