"""Train and val of one annotation file in COCO's format, as two files beside it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pse_jax.data.formats.choose import for_val
from pse_jax.data.rows import read_json
from pse_jax.errors import DataError
from pse_jax.files import write_together


def write_split(
    file: Path, digests: Mapping[int, bytes], share: float, seed: int
) -> dict[str, tuple[Path, list[int]]]:
    """Writes STEM_split_train.json and STEM_split_val.json; the file itself stays as it is.

    Args:
        file: valid annotations in COCO's format.
        digests: of the images' contents, by id: images with the same one stay together.
        share: of the images that becomes val.
        seed: another one gives another split.

    Returns:
        By split, its file and the ids of its images.

    Raises:
        DataError: if there are too few images, or such files with another content.
        WriteError: if they cannot be written.
    """
    content = read_json(file, "annotations")[1]
    images = content["images"]
    names = [row["file_name"] for row in images]
    val = for_val(names, [digests.get(row["id"], b"") for row in images], share, seed)
    places = split_files(file)
    contents: dict[Path, str | bytes] = {}
    parts = {}
    for split, place in places.items():
        rows = [row for n, row in enumerate(images) if (n in val) == (split == "val")]
        contents[place] = json.dumps(_part(content, rows))
        parts[split] = (place, [row["id"] for row in rows])
    there = [place for place in contents if place.exists()]
    if any(place.read_text(encoding="utf-8") != contents[place] for place in there):
        raise DataError(
            f"{there[0]} is there already, from another split or another version of {file.name}; "
            f"remove {' and '.join(place.name for place in places.values())} to make it again"
        )
    if len(there) < len(contents):
        write_together(contents, "the annotations of a split")
    return parts


def split_files(file: Path) -> dict[str, Path]:
    """Where the parts of an annotation file go."""
    stem = re.sub(r"[_-]?train(ing)?\d*", "", file.stem, flags=re.IGNORECASE)
    start = f"{stem}_" if stem else ""
    return {split: file.with_name(f"{start}split_{split}.json") for split in ("train", "val")}


def _part(content: Mapping[str, Any], rows: list[Any]) -> dict[str, Any]:
    """The same with these images only, which come first: whoever looks for them finds them soon."""
    ids = {row["id"] for row in rows}
    annotations = [row for row in content["annotations"] if row["image_id"] in ids]
    return {"images": rows, **content, "annotations": annotations} | {"images": rows}
