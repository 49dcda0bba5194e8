"""Decoded images in memory, as many as a budget holds: an image is then decoded once a run."""

import logging

import numpy as np
from jaxtyping import Int, UInt8

from pse_jax.data.dataset import Dataset

logger = logging.getLogger(__name__)

GB = 1_000_000_000


def cached_ends(dataset: Dataset, gigabytes: float) -> Int[np.ndarray, " k"]:
    """Where each of the images that a budget holds ends, in bytes."""
    ends = np.cumsum(dataset.sizes_hw.prod(axis=1, dtype=np.int64) * 3)
    return ends[: np.searchsorted(ends, int(gigabytes * GB), side="right")]


class PixelCache:
    """The pixels of a data set's first images, before they are resized; any thread may ask.

    Which images it holds is settled in advance, and nothing is ever evicted: an epoch goes through
    all images, so that the newest would only displace what comes next. The memory is one block of
    the size needed, which the system hands out as it is filled.
    """

    def __init__(self, dataset: Dataset, gigabytes: float):
        self.dataset, self.ends = dataset, cached_ends(dataset, gigabytes)
        self.count = len(self.ends)
        self.block = np.empty(self.ends.max(initial=0), np.uint8)
        self.filled = np.zeros(self.count, bool)
        if gigabytes:
            logger.info(
                "cache       %d of %d decoded images fit into %g GB (config.data.cache_gb)",
                *(self.count, len(dataset), gigabytes),
            )

    def pixels_of(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image i, decoded, RGB, not to be written to; raises what `Dataset.pixels_of` does."""
        if i >= self.count:
            return self.dataset.pixels_of(i)
        height, width = self.dataset.sizes_hw[i].tolist()
        end = int(self.ends[i])
        place = self.block[end - height * width * 3 : end].reshape(height, width, 3)
        if not self.filled[i]:
            # Two threads may come here for one image: both write the same bytes.
            place[:] = self.dataset.pixels_of(i)
            self.filled[i] = True
        place.flags.writeable = False
        return place
