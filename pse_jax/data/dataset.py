"""What there is to train or to evaluate on, whatever its source.

Dimension letters: n images, m boxes to train on, g annotations.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from pse_jax.data import transforms
from pse_jax.evaluation.arrays import GroundTruth


@runtime_checkable
class Images(Protocol):
    """Where a source keeps its images; it numbers them as it likes."""

    def read(self, key: int) -> bytes:
        """The bytes of an image file."""
        ...

    def name(self, key: int) -> str:
        """What messages call it."""
        ...


@dataclasses.dataclass(frozen=True)
class Dataset(GroundTruth):
    """The ground truth, the images that belong to it, and the boxes to train on.

    Those are the annotations but for crowd regions and boxes that are at most 1 px wide or high
    inside their image, cut to it, an image after the other: image i owns the rows
    `offsets[i]:offsets[i + 1]`.
    """

    sizes_hw: Int[np.ndarray, "n 2"]  # px
    offsets: Int[np.ndarray, " n1"]
    boxes_xyxy: Float[np.ndarray, "m 4"]  # px, exclusive
    labels: Int[np.ndarray, " m"]  # 0..categories-1
    images: Images
    keys: Int[np.ndarray, " n"]  # each image's number in `images`
    problems: dict[str, int]  # what was corrected or left out, and how often
    exif: str = "apply"  # or "ignore": transforms.py
    note: str = ""  # what a report of scores on it must say

    def __len__(self) -> int:
        return len(self.image_ids)

    def bytes_of(self, i: int) -> bytes:
        """The file of image i, still encoded."""
        return self.images.read(int(self.keys[i]))

    def pixels_of(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image i, decoded, RGB.

        Raises:
            ImageError: if it cannot be decoded or is not of the size in the annotations.
            OSError: from a source that is not a folder.
        """
        height, width = self.sizes_hw[i].tolist()
        return transforms.decode(self.bytes_of(i), self.name_of(i), (height, width), self.exif)

    def name_of(self, i: int) -> str:
        """What messages call image i."""
        return self.images.name(int(self.keys[i]))

    def boxes_of(self, i: int) -> tuple[Float[np.ndarray, "k 4"], Int[np.ndarray, " k"]]:
        """Boxes and labels of image i."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        return self.boxes_xyxy[rows], self.labels[rows]

    @property
    def capacity(self) -> int:
        """Box slots per image: the largest number of boxes in one, rounded up to 8."""
        most = int(np.diff(self.offsets).max(initial=1))
        return max(8, -(-most // 8) * 8)

    def select(self, keep: Int[np.ndarray, " k"]) -> "Dataset":
        """The data set of these images only."""
        boxes = [self.boxes_of(int(i)) for i in keep]
        position = np.full(len(self), -1)
        position[keep] = np.arange(len(keep))
        rows = np.flatnonzero(position[self.image] >= 0)
        return dataclasses.replace(
            self,
            image_ids=self.image_ids[keep],
            image_names=tuple(self.image_names[i] for i in keep),
            image=position[self.image[rows]],
            category=self.category[rows],
            boxes_xywh=self.boxes_xywh[rows],
            area=self.area[rows],
            crowd=self.crowd[rows],
            sizes_hw=self.sizes_hw[keep],
            offsets=np.cumsum([0, *(len(labels) for _, labels in boxes)]),
            boxes_xyxy=np.concatenate([b for b, _ in boxes] or [np.zeros((0, 4), np.float32)]),
            labels=np.concatenate([k for _, k in boxes] or [np.zeros(0, np.int32)]),
            keys=self.keys[keep],
        )

    def without_empty(self) -> "Dataset":
        """The data set without images that have no boxes to train on, as FCOS trains."""
        return self.select(np.flatnonzero(np.diff(self.offsets) > 0))
