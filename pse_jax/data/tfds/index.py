"""What a prepared split holds but for its pixels, kept beside the cache: image sizes, annotations.

TFDS stores no sizes, and a record comes with its image or not at all: all records are read once.
The file names the shards that it was made of, by size and time of change; where they are others,
or the file is damaged, it is made anew.

Dimension letters: n images, g annotations.
"""

import hashlib
import io
import json
import logging
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int
from PIL import Image

from pse_jax import progress
from pse_jax.categories import COCO
from pse_jax.data.tfds.prepared import AGAIN, Records
from pse_jax.errors import DataError, WriteError
from pse_jax.files import make_folder, read_regular, write_whole

logger = logging.getLogger(__name__)

LAYOUT = 1  # of the file; raise it when what is in there changes
# The arrays of an image each, then those of an annotation each, one image after the other.
NAMES = ("image_id", "file_name", "size_hw", "count", "id", "bbox_yxyx", "label", "area", "crowd")

Index = Mapping[str, np.ndarray]


def index_of(records: Records, cache_dir: Path, threads: int) -> Index:
    """The index of a split, in the order of its records; read from the cache if it is there.

    Args:
        records: of the split.
        cache_dir: it is kept below this folder; where that is impossible, a warning says so.
        threads: that read records.

    Raises:
        DataError: if a record cannot be read, or has no image of known size.
    """
    identity = _identity(records)
    digest = hashlib.sha256(str(records.folder.absolute()).encode()).hexdigest()[:8]
    file = cache_dir.expanduser() / "tfds" / f"coco-2017-{records.split}-{digest}.npz"
    found, why = _read(file, identity)
    if found is not None:
        return found
    if why:
        logger.warning("%s: %s; rebuilding it", file, why)
    started = time.perf_counter()
    made = _make(records, threads)
    took = progress.duration(time.perf_counter() - started)
    try:
        make_folder(file.parent, "the folder of the index of TFDS's records")
        content = io.BytesIO()
        np.savez(content, identity=np.array(identity), **made)  # pyright: ignore[reportArgumentType]
        write_whole(file, content.getvalue(), "the index of TFDS's records")
        kept = f"kept in {file}"
    except WriteError as error:
        kept = f"not kept: {error}"
    logger.info("%s: indexed %d %s records in %s, %s",
                records.folder, len(records), records.split, took, kept)  # fmt: skip
    return made


def to_coco(index: Index) -> dict[str, list[dict[str, Any]]]:
    """The content of COCO's instances file; areas without their fractions, boxes to 0.01 px.

    Annotations are in the order of their ids in each image.
    """
    owner = np.repeat(np.arange(len(index["image_id"])), index["count"])
    boxes = xywh_of(index["bbox_yxyx"], index["size_hw"][owner])
    images = zip(*(index[name].tolist() for name in NAMES[:3]), strict=True)
    columns = (index["image_id"][owner], np.array(COCO.ids)[index["label"]], boxes)
    columns = (index["id"], *columns, index["area"], index["crowd"])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {
        "images": [
            {"id": i, "file_name": name, "height": h, "width": w} for i, name, (h, w) in images
        ],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": a, "iscrowd": k}
            for n, i, c, b, a, k in rows
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(COCO.ids, COCO.names, strict=True)],
    }


def xywh_of(
    boxes_yxyx: Float32[np.ndarray, "g 4"], sizes_hw: Int[np.ndarray, "g 2"]
) -> Float[np.ndarray, "g 4"]:
    """Corners in shares of an image's size to COCO's boxes, in px, rounded to 0.01 px.

    COCO's numbers have two decimals, and float32 moves a corner by less than 0.004 px even in the
    largest JPEG (65,535 px): what comes out is what the JSON says, to the bit.
    """
    corners = np.round(boxes_yxyx.astype(np.float64) * np.tile(sizes_hw, 2), 2)
    size = np.round(corners[:, 2:] - corners[:, :2], 2)
    return np.concatenate([corners[:, 1::-1], size[:, ::-1]], axis=1)


def _identity(records: Records) -> str:
    """What the index depends on; it changes when the data set is prepared or copied anew."""
    stats = [(shard.name, shard.stat()) for shard in records.shards]
    shards = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    about = [LAYOUT, str(records.folder.absolute()), records.split, records.lengths, shards]
    return json.dumps(about)


def _read(file: Path, identity: str) -> tuple[Index | None, str]:
    """The kept index, or why it cannot be used; neither if there is none."""
    try:
        with np.load(io.BytesIO(read_regular(file)), allow_pickle=False) as arrays:
            if str(arrays["identity"]) != identity:
                return None, "is of other shards than those that are there now"
            return {name: arrays[name] for name in NAMES}, ""  # zip's checksums are compared
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as e:
        return None, f"cannot be used ({e})"


def _make(records: Records, threads: int) -> Index:
    _check_lengths(records)
    description = f"{records.split} records of TFDS"
    numbers = range(len(records))
    entries = list(progress.each(lambda i: _entry(records, i), numbers, description, threads))
    images, objects = zip(*entries, strict=True)
    image_id, names, sizes = zip(*images, strict=True)
    columns = [np.concatenate(column) for column in zip(*objects, strict=True)]
    count = [len(labels) for _, _, labels, _, _ in objects]
    arrays = (np.array(image_id, np.int64), np.array(names), np.array(sizes, np.int32))
    return dict(zip(NAMES, (*arrays, np.array(count, np.int64), *columns), strict=True))


def _check_lengths(records: Records) -> None:
    """Raises DataError for a shard that has not the records that dataset_info.json counts."""
    from array_record.python.array_record_module import ArrayRecordReader

    for shard, length in zip(records.shards, records.lengths, strict=True):
        try:
            reader = ArrayRecordReader(str(shard))
            there = reader.num_records()
            reader.close()
        except Exception as error:
            raise DataError(f"{shard} cannot be read: {error}; {AGAIN}") from error
        if there != length:
            raise DataError(
                f"{shard} has {there:,} records, and dataset_info.json says {length:,}; {AGAIN}"
            )


def _entry(records: Records, i: int) -> tuple[tuple[int, str, tuple[int, int]], tuple]:
    """Id, name and size of an image; ids, boxes, labels, areas and crowd flags of its objects."""
    features = records.read(i)
    try:
        content = features["image"].bytes_list.value[0]
        image_id = features["image/id"].int64_list.value[0]
        name = features["image/filename"].bytes_list.value[0].decode()
        boxes = np.array(features["objects/bbox"].float_list.value, np.float32).reshape(-1, 4)
        ids, labels, areas, crowds = (
            np.array(features[f"objects/{key}"].int64_list.value, np.int64)
            for key in ("id", "label", "area", "is_crowd")
        )
    except (IndexError, ValueError) as error:
        raise DataError(f"{records.name(i)} lacks features of coco/2017; {AGAIN}") from error
    lengths = {len(column) for column in (boxes, ids, labels, areas, crowds)}
    if len(lengths) > 1 or not ((labels >= 0) & (labels < len(COCO))).all():
        raise DataError(f"{records.name(i)} (image id {image_id}) has objects that do not fit "
                        f"coco/2017; {AGAIN}")  # fmt: skip
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size  # as stored, which is what COCO's JSON states
    except Exception as error:  # Pillow raises many kinds for broken files
        raise DataError(
            f"{records.name(i)} (image id {image_id}) cannot be decoded: {error}; {AGAIN}"
        ) from error
    return (image_id, name, (height, width)), (ids, boxes, labels, areas, crowds)
