"""The data set of a prepared split, by the same rules as COCO's own files."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
from jaxtyping import Int

from pse_jax.data import coco
from pse_jax.data.dataset import Dataset
from pse_jax.data.rows import EXAMPLES_SHOWN, Problems
from pse_jax.data.tfds.index import Index, index_of, to_coco
from pse_jax.data.tfds.prepared import Records, find, open_records
from pse_jax.errors import DataError, ImageError
from pse_jax.evaluation.arrays import GroundTruth

logger = logging.getLogger(__name__)

TOLERANCE = (
    "the ground truth is TFDS's: areas without fractions, so that an object of 1024 to 1025 or of "
    "9216 to 9217 px² may count in another size class (APS, APM, APL, ARS, ARM, ARL), and boxes "
    "rounded to 0.01 px. For COCO's own numbers, name the official JSON in config.data."
    "val_annotations"
)


@dataclasses.dataclass(frozen=True)
class RecordImages:
    """The images of a data set, each in a record of its own."""

    records: Records
    positions: Int[np.ndarray, " n"]  # of each image's record
    image_ids: Int[np.ndarray, " n"]
    names: tuple[str, ...]

    def read(self, key: int) -> bytes:
        """The bytes of an image file, as they were before TFDS.

        Raises:
            ImageError: if the shard is damaged, or holds another image than when it was opened.
        """
        features = self.records.read(int(self.positions[key]), ImageError)
        found, wanted = features["image/id"].int64_list.value, int(self.image_ids[key])
        if list(found) != [wanted]:
            raise ImageError(
                f"{self.name(key)} now holds image id {found[0] if found else 'none'}, not "
                f"{wanted}: the shard was replaced while it was in use; start again"
            )
        return features["image"].bytes_list.value[0]

    def name(self, key: int) -> str:
        """Its shard, the record's number in it and the file's name."""
        return f"{self.records.name(int(self.positions[key]))} ({self.names[key]})"


def load(
    root: Path,
    split: str,
    annotations: Path | None,
    cache_dir: Path,
    *,
    threads: int = 8,
    exif: str = "apply",
) -> Dataset:
    """Opens a split of coco/2017; the first time, reads all of it.

    Args:
        root: TFDS's data_dir, or the folder of the prepared data set.
        split: "train" or "val".
        annotations: the official JSON of this split; without it, TFDS's own annotations are used.
        cache_dir: where the index is kept.
        threads: that read records the first time.
        exif: as `coco.load`.

    Raises:
        ConfigError: if a package is missing.
        DataError: if the data set or a shard is missing or damaged, or as `coco.load`.
    """
    folder = find(root)
    if folder is None:
        raise DataError(f"no coco/2017 that TFDS has prepared at {root}")
    records = open_records(folder, split)
    index = index_of(records, cache_dir, threads)
    if annotations is None:
        source, content = f"{folder} ({records.split})", to_coco(index)
    else:
        source, content = str(annotations), coco.instances(annotations)

    def find_images(names: list[str], truth: GroundTruth, _: Problems) -> RecordImages:
        return _images(records, index, names, truth)

    dataset = coco.build(source, content, find_images, exif)
    return dataclasses.replace(dataset, note="" if annotations else TOLERANCE)


def _images(records: Records, index: Index, names: list[str], truth: GroundTruth) -> RecordImages:
    position = {i: n for n, i in enumerate(index["image_id"].tolist())}
    wanted = truth.image_ids.tolist()
    if missing := [i for i in wanted if i not in position]:
        raise DataError(
            f"{truth.source} lists {len(missing):,} of {len(wanted):,} images that "
            f"{records.folder} ({records.split}) does not hold, such as id "
            f"{', '.join(map(str, missing[:EXAMPLES_SHOWN]))}; give the JSON of this split"
        )
    if more := len(position) - len(wanted):
        logger.warning("%s lists %d images fewer than %s (%s) holds: those are left out",
                       truth.source, more, records.folder, records.split)  # fmt: skip
    positions = np.array([position[i] for i in wanted], np.int64)
    return RecordImages(records, positions, truth.image_ids, tuple(names))
