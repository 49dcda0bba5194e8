"""What stands out in a data set, and what its batches need: said before the first step."""

import contextlib
import dataclasses
import io
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int
from PIL import Image

from pse_jax.config import Config
from pse_jax.data import transforms
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import Buckets
from pse_jax.data.rows import EXAMPLES_SHOWN
from pse_jax.errors import DataError, ImageError

logger = logging.getLogger(__name__)

ELONGATED = 20  # times as long as wide: hardly a photo
ROOMY = 4  # times the median area of its images: a canvas of little but padding
PHOTOS = 128  # whose EXIF is looked at before the first step; `check` looks at all


@dataclasses.dataclass(frozen=True)
class Need:
    """What a batch on the largest canvas takes, in bytes."""

    shape_hw: tuple[int, int]
    batch: int  # images as uint8, on the host
    ahead: int  # all batches that are prepared ahead, on all hosts together
    device: int  # the least on all devices together: pixels and the first layer's output


def need(buckets: Buckets, config: Config, batch_size: int) -> Need:
    """The memory that can be told without compiling: a lower bound."""
    height, width = max(buckets.shapes_hw, key=lambda hw: hw[0] * hw[1])
    on_cpu = config.model.dtype == "auto" and jax.default_backend() == "cpu"
    value = 4 if on_cpu or config.model.dtype == "float32" else 2
    pixels = height * width * 3
    first = height * width // 4 * config.model.width * value  # a convolution of stride 2
    batch = batch_size * pixels
    ahead = batch * (config.data.prefetch + 1)
    return Need((height, width), batch, ahead, batch_size * (5 * pixels + first))


def odd_sizes(dataset: Dataset, buckets: Buckets) -> Iterator[str]:
    """Images and canvases that stand out, a sentence for each kind."""
    long, short = dataset.sizes_hw.max(axis=1), dataset.sizes_hw.min(axis=1)
    which = np.flatnonzero(long > ELONGATED * short)
    if len(which):
        yield (
            f"{len(which):,} images are over {ELONGATED} times as long as wide, such as "
            f"{sizes(dataset, which)}: little is left of them when the long side is resized"
        )
    areas = buckets.resized_hw.prod(axis=1, dtype=np.int64)
    for k, (height, width) in enumerate(buckets.shapes_hw):
        its = np.flatnonzero(buckets.bucket == k)
        times = height * width / np.median(areas[its])
        if times > ROOMY:
            ends = its[buckets.resized_hw[its].argmax(axis=0)]
            yield (
                f"{len(its):,} images share a canvas of {width}x{height} px, {times:.0f} times "
                f"their median area, because of {sizes(dataset, np.unique(ends))}: raise "
                "config.data.buckets, or take those images out"
            )


def sizes(dataset: Dataset, which: Int[np.ndarray, " k"]) -> str:
    """Ids and sizes of the first few images."""
    shown = [
        f"id {dataset.image_ids[i]} ({dataset.sizes_hw[i][1]}x{dataset.sizes_hw[i][0]} px)"
        for i in which[:EXAMPLES_SHOWN]
    ]
    return ", ".join(shown) + (", ..." if len(which) > EXAMPLES_SHOWN else "")


def look(
    dataset: Dataset, buckets: Buckets, config: Config, batch_size: int, cached: int = 0
) -> None:
    """Logs what stands out before the first step.

    Args:
        dataset: to be looked at.
        buckets: of its images.
        config: of the run.
        batch_size: images, over all processes.
        cached: bytes of this process that hold decoded images.

    Raises:
        DataError: if batches cannot fit into memory, with the numbers and the remedy.
    """
    for sentence in odd_sizes(dataset, buckets):
        logger.warning("%s: %s", dataset.source, sentence)
    require_memory(dataset, buckets, config, batch_size, cached)
    _announce_photos(dataset, config.data.threads)


def require_memory(
    dataset: Dataset, buckets: Buckets, config: Config, batch_size: int, cached: int = 0
) -> None:
    """Raises DataError if batches cannot fit into memory, with the numbers and the remedy.

    Args:
        dataset: whose images make up the batches.
        buckets: of these.
        config: of the run.
        batch_size: images of all devices together.
        cached: bytes that decoded images may take beside them.
    """
    needed = need(buckets, config, batch_size)
    host, device = _memory()
    ahead = needed.ahead // jax.process_count() + cached
    of_these = f", {cached / 1e9:,.1f} GB of that for config.data.cache_gb" if cached else ""
    places = (
        (ahead, host, f"this machine's memory, prepared ahead{of_these}"),
        (needed.device, device, "the devices' memory for pixels and the first layer alone"),
    )
    height, width = needed.shape_hw
    for bytes_, limit, where in places:
        if bytes_ > limit:
            widest = np.unique(dataset.sizes_hw.argmax(axis=0))
            raise DataError(
                f"{dataset.source}: batches of {batch_size} images, padded to {width}x{height} px, "
                f"need {bytes_ / 1e9:,.1f} GB of {where}, and there are {limit / 1e9:,.1f} GB; "
                "lower config.data.batch_size (or inference.batch_size), prefetch or long_side, or "
                f"{'cache_gb, or ' if cached else ''}take out the largest images: "
                f"{sizes(dataset, widest)}"
            )


def _memory() -> tuple[int, int]:
    """Bytes of this machine and of all devices; what is not known counts as very much."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # a container may have less
        host = min(host, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if jax.default_backend() == "cpu":
        return host, host * jax.process_count()
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    each = min(entry.get("bytes_limit", 1 << 60) for entry in stats)
    return host, each * jax.device_count()


def _announce_photos(dataset: Dataset, threads: int) -> None:
    """Looks at some images and logs how many have an EXIF orientation, and what is done with it."""

    def how(i: int) -> str:
        try:
            return exif_of(dataset.bytes_of(i), tuple(dataset.sizes_hw[i].tolist()))
        except (ImageError, OSError):
            return ""

    chosen = np.unique(np.linspace(0, len(dataset) - 1, PHOTOS).astype(int)).tolist()
    with ThreadPoolExecutor(threads) as executor:
        found = list(executor.map(how, chosen))
    which = [i for i, kind in zip(chosen, found, strict=True) if kind == "open"]
    if which:
        logger.warning(
            "%s: of %d images sampled, %s (python -m pse_jax check reads all)",
            dataset.source,
            len(chosen),
            exif_sentence(dataset, which),
        )


def exif_of(content: bytes, size_hw: tuple[int, int]) -> str:
    """What decides on an image's EXIF orientation: "size", "open" (the configuration) or ""."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            orientation, wh = transforms.orientation_of(image), image.size
    except Exception:  # whoever decodes it says why
        return ""
    if orientation == 1:
        return ""
    return "size" if transforms.decided_by_size(orientation, wh, size_hw) else "open"


def exif_sentence(dataset: Dataset, which: Sequence[int]) -> str:
    """What is done with images whose orientation their annotated size leaves open."""
    names = ", ".join(str(dataset.image_ids[i]) for i in which[:EXAMPLES_SHOWN])
    names += ", ..." if len(which) > EXAMPLES_SHOWN else ""
    if dataset.exif == "apply":
        done = "they are turned upright; if boxes were drawn on the pixels as stored, set "
        done += "config.data.exif=ignore"
    else:
        done = "they are left as stored; if boxes were drawn on upright pictures, set "
        done += "config.data.exif=apply"
    one = len(which) == 1
    return (
        f"{len(which):,} {'has' if one else 'have'} an EXIF orientation that the annotated size "
        f"does not confirm (id{'' if one else 's'} {names}): {done}"
    )
