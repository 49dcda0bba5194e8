"""COCO's own format in another layout: Roboflow's folders, one file for everything."""

import os
from pathlib import Path
from typing import Any

from pse_jax.data import coco
from pse_jax.data.folder import leads_out
from pse_jax.data.formats.layouts import Found
from pse_jax.data.formats.source import Example, Notes, Options, Source
from pse_jax.errors import DataError
from pse_jax.files import is_regular


def read(found: Found, options: Options, notes: Notes) -> Source:
    """The whole data set; annotations keep all that they have, and images their ids if they can.

    Raises:
        DataError: as `coco.load_rows`, or if the splits differ in their categories.
    """
    splits: dict[str, list[Example]] = {split: [] for split in found.parts}
    categories = None
    for split, parts in found.parts.items():
        for part in parts:
            content = coco.load_rows(part.labels)
            if categories is None:
                categories, first = content["categories"], part.labels
            elif _table(content) != _table({"categories": categories}):
                raise DataError(
                    f"{part.labels} has other categories than {first}; give both the same ids and "
                    "names"
                )
            splits[split] += _examples(content, part.images, notes)
    return Source(categories or [], {split: them for split, them in splits.items() if them})


def _table(content: dict[str, Any]) -> list[tuple[int, str]]:
    return sorted((row["id"], row["name"]) for row in content["categories"])


def _examples(content: dict[str, Any], images: Path, notes: Notes) -> list[Example]:
    examples = {}
    for row in content["images"]:
        name = row["file_name"].replace("\\", "/")
        if leads_out(name):
            notes.breaks("file name that leads out of the image folder", f"{name}, {images}")
        elif not is_regular(images / name):
            notes.breaks("image that is not there", f"{name}, {images}")
        else:
            hw = (int(row["height"]), int(row["width"]))
            path = os.path.normpath(name)
            examples[row["id"]] = Example(images / name, path, hw, [], row["id"])
    for row in content["annotations"]:
        if row["image_id"] in examples:
            kept = {key: value for key, value in row.items() if key not in ("id", "image_id")}
            examples[row["image_id"]].annotations.append(kept)
    return list(examples.values())
