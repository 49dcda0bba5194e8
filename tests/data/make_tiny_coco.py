"""Makes tiny_coco/ and tiny_coco_tfds/: the same 14 small images as COCO's files and as TFDS's.

The second is written by tensorflow_datasets' own coco/2017 builder, from the first in the place of
its downloads, so that its features, names and order are the real ones. Needs
`pip install -e ".[tfds,tfds-prepare]"`; run once, and the result is committed:

    python tests/data/make_tiny_coco.py
"""

import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import ExifTags, Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from pse_jax.categories import COCO  # noqa: E402
from pse_jax.config import ShapesConfig  # noqa: E402
from pse_jax.data import shapes  # noqa: E402
from pse_jax.data.tfds.prepare import prepare  # noqa: E402

KNOBS = ShapesConfig(image_size=96, max_objects=4, crowds=0.0, empty=0.0, seed=9)
COUNTS = {"train": 9, "val": 5}
CROPS = ((0, 0), (0, 3), (5, 0), (7, 1), (11, 2))  # px off the height and width: odd sizes
CATEGORY = {1: 1, 3: 13, 4: 27, 7: 44, 11: 84, 18: 90}  # id of shapes: id of COCO


def write_split(folder, split):
    rng = np.random.default_rng(COUNTS[split])
    images, annotations = [], []
    (folder / f"{split}2017").mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for index in range(COUNTS[split]):
        pixels, image, its = shapes.draw(KNOBS, split, index)
        down, right = CROPS[index % len(CROPS)]
        height, width = image["height"] - down, image["width"] - right
        image |= {"height": height, "width": width, "id": int(rng.integers(1, 600_000))}
        image["file_name"] = f"{image['id']:012d}.jpg"
        its = [row for old in its if (row := cropped(old, image))]
        its = odd(split, index, image, its)
        save(pixels[:height, :width], folder / f"{split}2017" / image["file_name"], split, index)
        images.append(image)
        annotations += its
    # COCO's lists are in no order; within an image of train, ids ascend as TFDS writes them.
    order = rng.permutation(COUNTS[split])
    ids = np.sort(rng.choice(2_000_000, len(annotations), replace=False)).tolist()
    for identity, row in zip(ids, annotations, strict=True):
        row["id"] = identity
    place = {images[i]["id"]: n for n, i in enumerate(order)}
    annotations.sort(key=lambda row: (place[row["image_id"]], row["id"]))
    if split == "val":
        annotations.reverse()
    content = {
        "images": [images[i] for i in order],
        "annotations": annotations,
        "categories": categories(),
    }
    file = folder / "annotations" / f"instances_{split}2017.json"
    file.write_text(json.dumps(content, indent=0) + "\n")


def cropped(row, image):
    x, y, width, height = row["bbox"]
    width, height = min(width, image["width"] - x), min(height, image["height"] - y)
    if min(width, height) < 2:
        return None
    return {
        "image_id": image["id"],
        "category_id": CATEGORY[row["category_id"]],
        "bbox": [round(value, 2) for value in (x, y, width, height)],
        "area": row["area"],
        "iscrowd": 0,
    }


def odd(split, index, image, its):
    """What COCO has too: images without objects, crowds, boxes with no or little area."""
    plain = {"image_id": image["id"], "category_id": 1, "iscrowd": 0}
    crowd = {**plain, "bbox": [3.0, 20.57, 60.21, 33.33], "area": 1873, "iscrowd": 1}
    flat = {**plain, "bbox": [10.01, 20.02, 0.0, 15.3], "area": 0.0}
    thin = {**plain, "bbox": [30.3, 5.55, 0.66, 40.4], "area": 13.7281}
    between = {**plain, "bbox": [20.07, 10.19, 40.4, 41.99], "area": 1024.375}  # medium
    added = {("train", 1): [crowd], ("train", 4): [flat, thin], ("val", 2): [crowd, between]}
    return [] if (split, index) == ("train", 0) else its + added.get((split, index), [])


def save(pixels, file, split, index):
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    if (split, index) == ("train", 2):
        picture = picture.convert("L")
    if (split, index) in (("train", 3), ("val", 3)):
        exif[ExifTags.Base.Orientation] = 6  # on its side, while its size in the JSON is as stored
    picture.save(file, quality=70, exif=exif)


def write_test(folder):
    """Two images without annotations, as the builder wants that split too."""
    (folder / "test2017").mkdir()
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 8, "width": 8} for i in (1, 2)]
    for image in images:
        Image.new("RGB", (8, 8)).save(folder / "test2017" / image["file_name"])
    content = {"images": images, "categories": categories()}
    (folder / "annotations" / "image_info_test2017.json").write_text(json.dumps(content))


def categories():
    return [{"id": i, "name": n} for i, n in zip(COCO.ids, COCO.names, strict=True)]


def main():
    folder, prepared = HERE / "tiny_coco", HERE / "tiny_coco_tfds"
    for old in (folder, prepared):
        shutil.rmtree(old, ignore_errors=True)
    for split in COUNTS:
        write_split(folder, split)
    write_test(folder)
    downloads = {f"{name}_images": folder for name in ("train", "validation", "test")}
    downloads |= {f"{name}_annotations": folder for name in ("train", "validation", "test")}
    manager = "tensorflow_datasets.download.DownloadManager.download_and_extract"
    with mock.patch(manager, lambda *_: downloads):
        prepare(prepared, num_shards=2)
    for shard in prepared.rglob("coco-test*"):  # which nothing reads
        shard.unlink()
    shutil.rmtree(folder / "test2017")
    (folder / "annotations" / "image_info_test2017.json").unlink()


if __name__ == "__main__":
    main()
