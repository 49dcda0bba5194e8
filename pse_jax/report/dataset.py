"""What is wrong with a data set, what it is like, and what a configuration makes of it."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pse_jax import progress
from pse_jax.config import Config
from pse_jax.data import survey, transforms
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import Buckets, buckets_for, fill_batches
from pse_jax.errors import ImageError
from pse_jax.evaluation.measure import SIZES
from pse_jax.points import locations
from pse_jax.targets import assign

SIZES_SHOWN = 5  # of the image sizes, the most frequent


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of decoding every image of a data set and assigning every box."""

    dataset: Dataset
    trained_on: Dataset  # without the images that training leaves out
    unusable: dict[int, str]  # images that cannot be used, and why
    by_size: list[int]  # images with an EXIF orientation that their annotated size decides on
    by_config: list[int]  # ... and that config.data.exif decides on
    positives: Int[np.ndarray, " m"]  # locations that answer for each box
    reachable: Bool[np.ndarray, " m"]  # boxes that would have some if there were no others
    buckets: Buckets | None  # of `trained_on`; None if it is empty


def check(dataset: Dataset, config: Config, *, training: bool) -> Checked:
    """Decodes every image and assigns every box as training does.

    It takes about 8 ms of a CPU core per image of COCO's size.
    """
    some = np.flatnonzero(np.diff(dataset.offsets))
    dropped = training and not config.data.keep_empty
    trained_on = dataset.without_empty() if dropped else dataset
    buckets = buckets_for(trained_on.sizes_hw, config.data) if len(trained_on) else None
    if buckets and training:
        buckets = fill_batches(buckets, config.data.batch_size)
    counts = [counter(hw, config) for hw in buckets.shapes_hw] if buckets else []

    def look(i: int) -> tuple[str, str, Int[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
        boxes, _ = dataset.boxes_of(i)
        positives = np.zeros(len(boxes), int)
        reachable = positives > 0
        if buckets and len(boxes):
            row = int(np.searchsorted(some, i)) if dropped else i
            hw = (tuple(sizes.tolist()) for sizes in (dataset.sizes_hw[i], buckets.resized_hw[row]))
            boxes, count = transforms.scale_boxes(boxes, *hw), counts[buckets.bucket[row]]
            positives = count(boxes)
            reachable = positives > 0
            for k in np.flatnonzero(~reachable):
                reachable[k] = count(boxes[[k]])[0] > 0
        return *_decode(dataset, i), positives, reachable

    looked = []
    executor = ThreadPoolExecutor(config.data.threads)
    try:
        with progress.bar(len(dataset), "check") as bar:
            for one in executor.map(look, range(len(dataset))):
                looked.append(one)
                bar.update(1)
    finally:
        executor.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
    why, exif, positives, reachable = zip(*looked, strict=True)
    unusable = {i: reason for i, reason in enumerate(why) if reason}
    positives, reachable = np.concatenate(positives), np.concatenate(reachable)
    by_size, by_config = ([i for i, w in enumerate(exif) if w == what] for what in ("size", "open"))
    return Checked(dataset, trained_on, unusable, by_size, by_config, positives, reachable, buckets)


def counter(
    canvas_hw: tuple[int, int], config: Config
) -> Callable[[Float[np.ndarray, "k 4"]], Int[np.ndarray, " k"]]:
    """The function that counts the locations of a canvas that training assigns to each box."""
    points_xy, levels = (jnp.asarray(a) for a in locations(*canvas_hw, config.model.grid))

    @jax.jit
    def assigned(boxes: Array, labels: Array, valid: Array) -> tuple[Array, Array | None]:
        targets = assign(points_xy, levels, boxes, labels, valid, config.targets)
        return targets.positive, targets.matched

    def count(boxes: Float[np.ndarray, "k 4"]) -> Int[np.ndarray, " k"]:
        slots = 1 << (len(boxes) - 1).bit_length()  # powers of two: few programs to compile
        padded = transforms.pad_boxes(boxes, np.zeros(len(boxes), np.int32), slots)
        positive, matched = map(np.asarray, assigned(*padded.values()))
        return np.bincount(matched[positive], minlength=slots)[: len(boxes)]

    return count


def _decode(dataset: Dataset, i: int) -> tuple[str, str]:
    """Why the image cannot be used ("" if it can), and what decides on its EXIF orientation."""
    name, size_hw = dataset.name_of(i), tuple(dataset.sizes_hw[i].tolist())
    try:
        content = dataset.bytes_of(i)
        if not content:
            return f"{name} is empty (0 bytes); was it cut off in a copy?", ""
        transforms.decode(content, name, size_hw, dataset.exif)
    except (ImageError, OSError) as error:
        return str(error), ""
    return "", survey.exif_of(content, size_hw)


def lines(name: str, checked: Checked, config: Config) -> Iterator[str]:
    """The report, line by line, in which the data set is called `name`."""
    dataset, categories = checked.dataset, checked.dataset.categories
    yield from (f"{name}: {dataset.source}", "")
    previous = None
    for label, text in (*_facts(checked), *_box_facts(checked), *_size_facts(checked, config)):
        yield f"  {'' if label == previous else label:<16} {text}"
        previous = label
    for what, count in dataset.problems.items():
        yield f"  {'corrected':<16} {count:,} x {what}"
    width = max(map(len, categories.names))
    yield from ("", f"  {'category id':>13}  {'name':<{width}}  {'boxes':>9}")
    counts = np.bincount(dataset.labels, minlength=len(categories))
    for identity, category, count in zip(categories.ids, categories.names, counts, strict=True):
        share = f"{count / len(dataset.labels):8.1%}" if count else "    none"
        yield f"  {identity:>13}  {category:<{width}}  {count:>9,} {share}"
    if checked.unusable:
        count = f"{len(checked.unusable):,}"
        yield from ("", f"  {count} cannot be used; repair them or remove their annotations:")
        yield from (f"    id {dataset.image_ids[i]}: {why}" for i, why in checked.unusable.items())


def _share(count: int, total: int) -> str:
    return f"{count:,}" + (f" ({count / total:.1%})" if count else "")


def _facts(checked: Checked) -> Iterator[tuple[str, str]]:
    dataset, total = checked.dataset, len(checked.dataset)
    per_image = np.diff(dataset.offsets)
    most, empty = int(per_image.argmax()), int((per_image == 0).sum())
    left_out = ", left out" * (len(checked.trained_on) < total)
    crowds = f"{int(dataset.crowd.sum()):,} crowd regions, not trained on"
    yield "images", f"{total:,}"
    yield "without boxes", _share(empty, total) + left_out
    yield "cannot be used", _share(len(checked.unusable), total)
    if checked.by_size:
        yield (
            "EXIF",
            f"{len(checked.by_size):,} with an orientation that the annotated size decides",
        )
    if checked.by_config:
        yield "EXIF", survey.exif_sentence(dataset, checked.by_config)
    yield "boxes", f"{len(dataset.labels):,}, and {crowds}"
    largest = f"at most {per_image[most]} (image id {dataset.image_ids[most]})"
    mean, slots = per_image.mean(), dataset.capacity
    yield "per image", f"{mean:.1f} on average, {largest}; {slots} slots"


def _box_facts(checked: Checked) -> Iterator[tuple[str, str]]:
    boxes, total = checked.dataset.boxes_xyxy, len(checked.dataset.labels)
    if not total:
        yield "box sizes", "there is no box to learn from"
        return
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for kind, (low, high) in SIZES.items():
        share = _share(int(((areas >= low) & (areas < high)).sum()), total)
        rule = f"from {low**0.5:.0f}² px" if low else f"under {high**0.5:.0f}² px"
        yield "box sizes", f"{kind:<7} {share:<17} {rule}"
    lost, nowhere = (int((~some).sum()) for some in (checked.positives > 0, checked.reachable))
    yield "no location", f"{_share(lost, total)} objects without a positive location"
    if lost:
        yield "no location", f"{nowhere:,} of them lie between the locations of their level"
        yield "no location", f"{lost - nowhere:,} lose all their locations to smaller objects"


def _size_facts(checked: Checked, config: Config) -> Iterator[tuple[str, str]]:
    dataset, buckets = checked.trained_on, checked.buckets
    if not buckets:
        return
    sizes, counts = np.unique(dataset.sizes_hw, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    for k in order[:SIZES_SHOWN]:
        shape = f"{sizes[k][1]}x{sizes[k][0]}"
        yield "image sizes", f"{shape:<11} {_share(int(counts[k]), len(dataset))}"
    if len(order) > SIZES_SHOWN:
        yield "image sizes", f"and {len(order) - SIZES_SHOWN:,} others"
    yield from (("odd sizes", sentence) for sentence in survey.odd_sizes(dataset, buckets))
    pixels = buckets.resized_hw.prod(axis=1, dtype=np.int64)
    canvas = np.array(buckets.shapes_hw, np.int64).prod(axis=1)[buckets.bucket]
    for k, (height, width) in enumerate(buckets.shapes_hw):
        its = buckets.bucket == k
        share = f"{f'{width}x{height}':<11} {_share(int(its.sum()), len(dataset)):<16}"
        padding = 1 - pixels[its].sum() / canvas[its].sum()
        yield "batches of", f"{share} {padding:.1%} padding"
    yield "padding", f"{1 - pixels.sum() / canvas.sum():.1%} of the pixels of all batches"
    needed = survey.need(buckets, config, config.data.batch_size)
    ahead, device = (f"{value / 1e9:.2f} GB" for value in (needed.ahead, needed.device))
    yield (
        "memory",
        f"{ahead} for batches of {config.data.batch_size} prepared ahead; on the devices",
    )
    yield "memory", f"at least {device}, for pixels and the first layer alone"
