"""Batches of arrays, decoded and resized by threads that run ahead of the step."""

import dataclasses
import logging
from collections.abc import Iterator

import grain
import numpy as np

from pse_jax import distributed
from pse_jax.config import Config
from pse_jax.data import augment, transforms
from pse_jax.data.augment import Change
from pse_jax.data.cache import PixelCache
from pse_jax.data.dataset import Dataset
from pse_jax.data.padding import Canvases
from pse_jax.data.plan import Buckets, EvalPlan, PlannedBatch, TrainPlan, canvases_for
from pse_jax.errors import ImageError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of one batch."""

    image: int  # index into the data set
    shape_hw: tuple[int, int]
    flipped: bool
    valid: bool
    scale: int = 0  # of the plan's
    change: Change | None = None


class _Rows:
    """The plan as one long list of rows, from `start` on: what grain reads."""

    def __init__(self, plan: TrainPlan | EvalPlan, start: int, rows: slice):
        self.plan, self.start, self.rows = plan, start, rows
        self.count = rows.stop - rows.start
        self.cached: tuple[int, PlannedBatch] | None = None

    def __len__(self) -> int:
        return (len(self.plan) - self.start) * self.count

    def __getitem__(self, index: int) -> Row:
        step, offset = divmod(index, self.count)
        cached = self.cached  # one read: several threads come here
        if cached is None or cached[0] != step:
            cached = self.cached = (step, self.plan[self.start + step])
        batch, row = cached[1], self.rows.start + offset
        draws = self.plan.augment
        return Row(
            int(batch.images[row]),
            batch.shape_hw,
            bool(batch.flipped[row]),
            bool(batch.valid[row]),
            batch.scale,
            draws.draw(self.start + step, row) if draws else None,
        )


def _hw(pair: np.ndarray) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


def load_row(
    row: Row,
    dataset: Dataset,
    buckets: Buckets,
    capacity: int,
    cache: PixelCache | None = None,
) -> dict[str, np.ndarray]:
    """One image with its boxes, resized, flipped and padded.

    An image that cannot be decoded becomes an empty row that the loss and the evaluation leave out
    (`image_valid` is False), and is logged; `unreadable` says so to whoever counts.
    """
    original, hw = _hw(dataset.sizes_hw[row.image]), _hw(buckets.resized_hw[row.image])
    boxes, labels = dataset.boxes_of(row.image)
    unreadable = False
    if row.valid:
        try:
            pixels = (cache or dataset).pixels_of(row.image)
        except (ImageError, OSError) as error:
            logger.error("image id %d is left out: %s", dataset.image_ids[row.image], error)
            unreadable = True
    if not row.valid or unreadable:
        pixels, boxes, labels = np.zeros((*hw, 3), np.uint8), boxes[:0], labels[:0]
    window_hw = original
    if row.change:
        pixels, boxes, remains = augment.crop(pixels, boxes, row.change)
        labels, window_hw, hw = labels[remains], pixels.shape[:2], augment.shrunk_hw(hw, row.change)
    pixels = transforms.resize(pixels, hw, buckets.rule)
    boxes = transforms.scale_boxes(boxes, window_hw, hw)
    if row.flipped:
        pixels, boxes = transforms.flip(pixels, boxes)
    if row.change:
        pixels = augment.recolour(pixels, row.change)
        if row.change.upside_down:
            pixels, boxes = augment.upside_down(pixels, boxes)
    return {
        "image": transforms.pad(pixels, row.shape_hw),
        "size_hw": np.array(hw, np.int32),
        "original_hw": np.array(original, np.int32),
        "index": np.array(row.image, np.int32),
        "image_valid": np.array(row.valid and not unreadable),
        "unreadable": np.array(unreadable),
        **transforms.pad_boxes(boxes, labels, capacity),
    }


def batches(
    dataset: Dataset,
    plan: TrainPlan | EvalPlan,
    *,
    rows: slice,
    threads: int,
    prefetch: int,
    start: int = 0,
    cache: PixelCache | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of every batch of the plan, from step `start` on.

    Args:
        dataset: where the images are.
        plan: which images make up which batch, and their sizes after resizing.
        rows: the part of each batch that is wanted.
        threads: that decode and resize.
        prefetch: batches that they may be ahead.
        start: first step.
        cache: of the data set's images.
    """
    count = rows.stop - rows.start
    if start >= len(plan):
        return
    source = grain.MapDataset.source(_Rows(plan, start, rows)).map(
        lambda row: load_row(row, dataset, plan.scales[row.scale], dataset.capacity, cache)
    )
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch * count)
    yield from source.to_iter_dataset(options).batch(count)


def eval_batches(
    dataset: Dataset, config: Config, trained: Canvases = ()
) -> Iterator[dict[str, np.ndarray]]:
    """This process's rows of batches that hold every image once, padded as by a detector.

    Args:
        dataset: all images.
        config: of the detector.
        trained: its canvases of training.

    Raises:
        UserError: if the evaluation's batch does not divide among the devices.
    """
    size, data = config.inference.batch_size, config.data
    plan = EvalPlan(canvases_for(dataset.sizes_hw, data, trained), size)
    rows = distributed.local_rows(size)
    return batches(dataset, plan, rows=rows, threads=data.threads, prefetch=data.prefetch)
