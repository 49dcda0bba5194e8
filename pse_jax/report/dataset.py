"""What is wrong with a data set, what it is like, and what a configuration makes of it."""

from collections.abc import Iterator

import numpy as np

from pse_jax.config import Config
from pse_jax.data import survey
from pse_jax.data.box_format import numbers
from pse_jax.data.dataset import Dataset
from pse_jax.data.rows import EXAMPLES_SHOWN
from pse_jax.data.sampling import images_with
from pse_jax.evaluation.arrays import xywh_to_xyxy
from pse_jax.evaluation.measure import SIZES
from pse_jax.points import STRIDES
from pse_jax.report.checked import Checked

SAME_BOX = 0.99  # IoU over which two boxes of a category are one that was drawn twice
SIZES_SHOWN = 5  # of the image sizes, the most frequent
BAR = 24  # characters of the longest bar


def lines(name: str, checked: Checked, config: Config) -> Iterator[str]:
    """The report, line by line, in which the data set is called `name`."""
    dataset = checked.dataset
    yield from (f"{name}: {dataset.source}", "")
    previous = None
    facts = (_facts, _repeats, _box_facts, _location_facts)
    for label, text in (
        *(f for fact in facts for f in fact(checked)),
        *_size_facts(checked, config),
    ):
        yield f"  {'' if label == previous else label:<16} {text}"
        previous = label
    for what, count in dataset.problems.items():
        yield f"  {'corrected':<16} {count:,} x {what}"
    yield from ("", *_histogram(dataset))
    if checked.unusable:
        count = f"{len(checked.unusable):,}"
        yield from ("", f"  {count} cannot be used; repair them or remove their annotations:")
        yield from (f"    id {dataset.image_ids[i]}: {why}" for i, why in checked.unusable.items())


def _histogram(dataset: Dataset) -> Iterator[str]:
    """Boxes of each category, and images that hold any."""
    categories, total = dataset.categories, len(dataset.labels)
    width = max(4, *map(len, categories.names))
    yield f"  {'category id':>13}  {'name':<{width}}  {'boxes':>9}            {'images':>9}"
    counts = np.bincount(dataset.labels, minlength=len(categories))
    images = images_with(dataset)
    for identity, category, count, among in zip(
        categories.ids, categories.names, counts.tolist(), images.tolist(), strict=True
    ):
        share = f"{count / total:8.1%}" if count else "    none"
        bar = "█" * -(-BAR * count // max(counts.max(), 1))
        row = f"  {identity:>13}  {category:<{width}}  {count:>9,} {share}  {among:>9,}  {bar}"
        yield row.rstrip()


def _repeats(checked: Checked) -> Iterator[tuple[str, str]]:
    """Pictures and boxes that occur more than once."""
    dataset, repeated = checked.dataset, checked.repeated()
    if repeated:
        some = _pairs(repeated, dataset, dataset)
        has = "image has" if len(repeated) == 1 else "images have"
        yield "duplicates", f"{len(repeated):,} {has} the pixels of another (ids {some})"
    again = list(_same_boxes(dataset))
    if again:
        images = len({dataset.image[g] for g, _ in again})
        which = "box that repeats" if len(again) == 1 else "boxes that repeat"
        named = [
            f"{dataset.categories.names[dataset.category[g]]} {numbers(dataset.boxes_xywh[g])} of "
            f"image id {dataset.image_ids[dataset.image[g]]}"
            for g, _ in again[:EXAMPLES_SHOWN]
        ]
        yield (
            "duplicates",
            f"{len(again):,} {which} another of its category (IoU over {SAME_BOX}), in "
            f"{_count(images, 'image')}: {'; '.join(named)}{'; ...' * (len(again) > len(named))}",
        )


def _same_boxes(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """Annotations that repeat an earlier one of their image and category, and that one."""
    order = np.lexsort([dataset.category, dataset.image])
    keys = np.stack([dataset.image, dataset.category])[:, order]
    starts = np.flatnonzero(np.diff(keys, axis=1, prepend=-1).any(axis=0))
    corners = xywh_to_xyxy(dataset.boxes_xywh)
    for its in np.split(order, starts[1:]):
        if len(its) < 2:
            continue
        its = np.sort(its)
        boxes, crowd = corners[its], dataset.crowd[its]
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        common = np.maximum(high - low, 0).prod(axis=-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        same = common > SAME_BOX * (area[:, None] + area - common)
        same |= (boxes[:, None] == boxes).all(axis=-1)
        same &= crowd[:, None] == crowd
        for row in np.flatnonzero(np.tril(same, -1).any(axis=1)):
            yield int(its[row]), int(its[same[row].argmax()])


def leaks(checked: Checked, training: Checked | None) -> Iterator[str]:
    """What a data set to evaluate on has in common with the one to train on, if there is one."""
    shared = checked.shared_with(training) if training else {}
    if training and shared:
        some = _pairs(shared, checked.dataset, training.dataset)
        share = _share(len(shared), len(checked.dataset))
        yield from (
            "",
            f"  {share} images are also in the training data (ids {some}): what is measured on "
            "them says little",
        )


def _pairs(same: dict[int, int], ours: Dataset, theirs: Dataset) -> str:
    """`7 = 3, 9 = 4, ...`, by image id."""
    pairs = [f"{ours.image_ids[i]} = {theirs.image_ids[j]}" for i, j in same.items()]
    return ", ".join(pairs[:EXAMPLES_SHOWN]) + ", ..." * (len(pairs) > EXAMPLES_SHOWN)


def _count(count: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _share(count: int, total: int) -> str:
    share = f"{count / max(total, 1):.1%}"
    share = "under 0.1%" if share == "0.0%" else share
    return f"{count:,}" + (f" ({share})" if count else "")


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
    yield "per image", f"{mean:.1f} on average, {largest}; a batch has room for {slots}"


def _box_facts(checked: Checked) -> Iterator[tuple[str, str]]:
    boxes, total = checked.dataset.boxes_xyxy, len(checked.dataset.labels)
    if not total:
        yield "box sizes", "there are no boxes to train on"
        return
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for kind, (low, high) in SIZES.items():
        share = _share(int(((areas >= low) & (areas < high)).sum()), total)
        rule = f"from {low**0.5:.0f}² px" if low else f"under {high**0.5:.0f}² px"
        yield "box sizes", f"{kind:<7} {share:<17} {rule}"


def _location_facts(checked: Checked) -> Iterator[tuple[str, str]]:
    """Which levels of the pyramid answer for the boxes, and which boxes none does."""
    total = len(checked.dataset.labels)
    if not total:
        return
    for level, (stride, counts) in enumerate(zip(STRIDES, checked.locations.T, strict=True), 3):
        its = int((counts > 0).sum())
        each = f", {counts.sum() / its:.1f} locations each" if its else ""
        yield (
            "pyramid level",
            f"P{level} {f'(stride {stride})':<13} {_share(its, total)} objects{each}",
        )
    if (checked.locations > 0).sum() > total - checked.lost.sum():
        yield "pyramid level", "an object may have locations on two levels"
    lost, nowhere = int(checked.lost.sum()), int((~checked.reachable).sum())
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
        yield "batch shapes", f"{share} {padding:.1%} padding"
    if len(buckets.shapes_hw) > 1:
        yield "batch shapes", f"{1 - pixels.sum() / canvas.sum():.1%} padding in all"
    needed = survey.need(buckets, config, config.data.batch_size)
    ahead, device = (f"{value / 1e9:.2f} GB" for value in (needed.ahead, needed.device))
    batches = f"batches of {config.data.batch_size} images"
    yield "memory", f"{ahead} of this machine for {batches} that are prepared ahead"
    yield "memory", f"at least {device} of the devices, for pixels and the first layer alone"
