"""A data set under a configuration: every image decoded, every box assigned, as training does."""

import dataclasses
import hashlib
from collections.abc import Iterator
from functools import partial

import numpy as np
from jaxtyping import Bool, Int

from pse_jax import progress
from pse_jax.config import Config
from pse_jax.data import survey, transforms
from pse_jax.data.box_format import wrong_format
from pse_jax.data.cache import cached_ends
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import Buckets, canvases_for
from pse_jax.data.sampling import plan_for
from pse_jax.errors import ImageError
from pse_jax.points import STRIDES
from pse_jax.report.assigned import Assigner


@dataclasses.dataclass(frozen=True)
class Checked:
    """What came of decoding every image of a data set and assigning every box.

    Dimension letters: n images, m boxes to train on.
    """

    dataset: Dataset
    trained_on: Dataset  # without the images that training leaves out
    buckets: Buckets | None  # of `trained_on`; None if it is empty
    unusable: dict[int, str]  # images that cannot be used, and why
    by_size: list[int]  # images with an EXIF orientation that their annotated size decides on
    by_config: list[int]  # ... and that config.data.exif decides on
    locations: Int[np.ndarray, "m 5"]  # that answer for each box, on P3 to P7
    reachable: Bool[np.ndarray, " m"]  # boxes that would have some if there were no others
    digests: tuple[bytes, ...]  # of the pixels of each image; b"" of one that cannot be used
    failures: tuple[str, ...]  # why training would fail or learn nothing

    @property
    def lost(self) -> Bool[np.ndarray, " m"]:
        """Boxes for which no location answers."""
        return self.locations.sum(axis=1) == 0

    def resized(self, i: int) -> tuple[Buckets, int]:
        """The canvases, and the number of image i, which is trained on, among their images."""
        assert self.buckets is not None
        row = np.searchsorted(self.trained_on.image_ids, self.dataset.image_ids[i])
        return self.buckets, int(row)

    def repeated(self) -> dict[int, int]:
        """Images whose pixels are those of an earlier one, and that one."""
        first: dict[bytes, int] = {}
        pairs = ((i, first.setdefault(d, i)) for i, d in enumerate(self.digests) if d)
        return {i: j for i, j in pairs if i != j}

    def shared_with(self, other: "Checked") -> dict[int, int]:
        """Images whose pixels are those of one in another data set, and that one."""
        theirs = {digest: i for i, digest in enumerate(other.digests) if digest}
        return {i: theirs[digest] for i, digest in enumerate(self.digests) if digest in theirs}


def check(dataset: Dataset, config: Config, *, training: bool) -> Checked:
    """Decodes every image and assigns every box as training does.

    It takes about 3 ms of a CPU core per image of COCO's size, most of it decoding.

    Args:
        dataset: to be checked.
        config: that it is to be used with.
        training: whether it is to be trained on, or evaluated on.

    Raises:
        DataError: if batches cannot fit into memory.
    """
    dropped = training and not config.data.keep_empty
    trained_on = dataset.without_empty() if dropped else dataset
    buckets = _buckets(trained_on, config, training) if len(trained_on) else None
    assigners = [Assigner(hw, config) for hw in buckets.shapes_hw] if buckets else []

    def assigned(i: int) -> tuple[Int[np.ndarray, "k 5"], Bool[np.ndarray, " k"]]:
        boxes, _ = dataset.boxes_of(i)
        counts = np.zeros((len(boxes), len(STRIDES)), int)
        reachable = np.zeros(len(boxes), bool)
        if buckets and len(boxes):
            row = np.searchsorted(trained_on.image_ids, dataset.image_ids[i])
            hw = (tuple(sizes.tolist()) for sizes in (dataset.sizes_hw[i], buckets.resized_hw[row]))
            boxes, assign = transforms.scale_boxes(boxes, *hw), assigners[buckets.bucket[row]]
            counts = assign.counts(boxes)
            reachable = counts.sum(axis=1) > 0
            for k in np.flatnonzero(~reachable):
                reachable[k] = assign.counts(boxes[[k]]).any()
        return counts, reachable

    # Threads decode, this one assigns: which is Python, of which one runs at a time.
    images = range(len(dataset))
    decoded = progress.each(partial(_decode, dataset), images, "check", config.data.threads)
    looked = [(*one, *assigned(i)) for i, one in enumerate(decoded)]
    why, exif, digests, locations, reachable = zip(*looked, strict=True)
    by_size, by_config = ([i for i, w in enumerate(exif) if w == what] for what in ("size", "open"))
    checked = Checked(
        dataset=dataset,
        trained_on=trained_on,
        buckets=buckets,
        unusable={i: reason for i, reason in enumerate(why) if reason},
        by_size=by_size,
        by_config=by_config,
        locations=np.concatenate(locations),
        reachable=np.concatenate(reachable),
        digests=digests,
        failures=(),
    )
    return dataclasses.replace(checked, failures=tuple(_failures(checked, training)))


def _buckets(trained_on: Dataset, config: Config, training: bool) -> Buckets:
    """The canvases on which training or an evaluation has the images, if they fit into memory."""
    data, cached = config.data, 0
    if training:
        plan = plan_for(trained_on, config)
        buckets, largest, batch = plan.buckets, plan.largest, data.batch_size
        cached = int(cached_ends(trained_on, data.cache_gb).max(initial=0))
    else:
        buckets = largest = canvases_for(trained_on.sizes_hw, data)
        batch = config.inference.batch_size
    survey.require_memory(trained_on, largest, config, batch, cached)
    return buckets


def _decode(dataset: Dataset, i: int) -> tuple[str, str, bytes]:
    """Why the image cannot be used ("" if it can), what decides on its EXIF, and its digest."""
    name, size_hw = dataset.name_of(i), tuple(dataset.sizes_hw[i].tolist())
    try:
        content = dataset.bytes_of(i)
        if not content:
            return f"{name} is empty (0 bytes); was it cut off in a copy?", "", b""
        pixels = transforms.decode(content, name, size_hw, dataset.exif)
    except (ImageError, OSError) as error:
        return str(error), "", b""
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
    digest.update(str(pixels.shape).encode())
    return "", survey.exif_of(content, size_hw), digest.digest()


def _failures(checked: Checked, training: bool) -> Iterator[str]:
    """Why training would not start, or would learn nothing."""
    dataset = checked.dataset
    if checked.unusable:
        yield f"{len(checked.unusable):,} images cannot be used"
    yield from wrong_format(dataset)
    if not len(dataset.labels):
        yield "there are no boxes to train on or to evaluate against"
    elif training and checked.lost.all():
        yield (
            "no object has a positive location: set targets.size_bounds, or a larger short_side "
            "and long_side, to the sizes of the objects"
        )
