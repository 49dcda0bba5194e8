"""The layouts that are recognised: each function gives what a folder is, or None.

A split has one of our names, whatever the source calls it: "train", "val" (valid, validation, dev)
or "test". Nothing is read whole.
"""

import dataclasses
import os
import re
from pathlib import Path

from pse_jax.data.formats import files
from pse_jax.data.formats.parts import SPLITS, Part, Parts, split_folders, split_named
from pse_jax.data.formats.yolo_layout import yolo_parts

JSON_FILES = 200  # that are looked into: LabelMe has one for each image


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies somewhere."""

    kind: str  # voc, yolo, coco, roboflow, or another word of ours; "" if nothing is recognised
    path: Path  # the folder that the data set starts at
    what: str  # it is, for messages: "a data set in Pascal VOC's layout (...)"
    parts: Parts = dataclasses.field(default_factory=dict)
    remedy: str = ""  # how it becomes usable
    names: Path | None = None  # YOLO's file of class names


def _splits(parts: Parts) -> str:
    return ", ".join(name for name in SPLITS if name in parts)


def roboflow(path: Path) -> Found | None:
    """Roboflow's COCO: a folder a split, with its JSON file among its images."""
    parts = {
        name: (Part(folder / "_annotations.coco.json", folder),)
        for name, folder in split_folders(path).items()
        if (folder / "_annotations.coco.json").is_file()
    }
    what = f"a data set in Roboflow's COCO layout ({_splits(parts)})"
    return Found("roboflow", path, what, parts) if parts else None


def coco(path: Path) -> Found | None:
    """COCO: JSON files in annotations/, or at the top, and folders of images."""
    parts: Parts = {}
    others = []  # annotation files that belong to no split, or to one that has another already
    places = (files.named(path, "annotations"), path)
    instances = next((found for place in places if place and (found := _coco_files(place))), [])
    # What `check --split` has written comes before what it has divided.
    for file in sorted(instances, key=lambda file: not re.search("(^|_)split_", file.stem)):
        name = split_named(file.stem) or ("train" if len(instances) == 1 else "")
        images = images_of(path, file, name)
        if name and name not in parts and images:
            parts[name] = (Part(file, images),)
        else:
            others.append(file.name)
    for name, folder in {} if instances else split_folders(path).items():
        for file in _coco_files(folder)[:1]:
            images = images_of(folder, file, "")
            parts |= {name: (Part(file, images),)} if images else {}
    left_out = f"; {', '.join(others[:5])} left out" if others else ""
    what = f"a data set in COCO's format ({_splits(parts)}{left_out})"
    return Found("coco", path, what, parts) if parts else None


def _coco_files(folder: Path) -> list[Path]:
    """The annotation files to learn boxes from; those called `instances` if there are."""
    names = [name for name in files.names_in(folder) if name.lower().endswith(".json")]
    names = [name for name in names[:JSON_FILES] if files.kind(folder / name) == "COCO"]
    other = re.compile(r"captions|keypoints|panoptic|stuff|image_info")
    names = [name for name in names if not other.search(name.lower())]
    names = [name for name in names if name.lower().startswith("instances")] or names
    return [folder / name for name in names]


def images_of(path: Path, file: Path, split: str) -> Path | None:
    """The folder of an annotation file's images: one named like it, or with its first image."""
    own = file.stem.removeprefix("instances_")
    places = [path / own, path / "images" / own, path / split, path / "images" / split]
    places += [folder for name, folder in split_folders(path).items() if name == split]
    for place in places:
        if place.is_dir() and files.has(place, "image"):
            return place
    first = re.search(rb'"file_name"\s*:\s*"([^"]+)"', files.head(file))
    for place in (path / "images", path, path / "data", file.parent, *files.folders_in(path)):
        if first and os.path.lexists(place / first[1].decode("utf-8", "replace")):
            return place
    return next((place for place in (path / "images", path) if files.has(place, "image")), None)


def voc(path: Path) -> Found | None:
    """Pascal VOC: an XML file an image, in Annotations/ or beside the images."""
    labels = files.named(path, "Annotations", "xml", "labels")
    if labels and files.has(labels, ".xml"):
        images = files.named(path, "JPEGImages", "images", "imgs") or labels
        lists = _image_sets(path)
        parts = {name: (Part(labels, images, file),) for name, file in lists.items()}
        told = f"ImageSets/Main: {', '.join(lists)}" if lists else "no ImageSets"
        what = f"a data set in Pascal VOC's layout ({labels.name}/, {images.name}/, {told})"
        return Found("voc", path, what, parts or {"train": (Part(labels, images),)})
    folders = {name: folder for name, folder in split_folders(path).items() if _beside(folder)}
    if not folders and _beside(path):
        folders = {"train": path}
    parts = {name: (Part(folder, folder),) for name, folder in folders.items()}
    what = f"a data set of Pascal VOC's XML files beside their images ({_splits(parts)})"
    return Found("voc", path, what, parts) if parts else None


def _beside(folder: Path) -> bool:
    """Whether a folder holds images and, beside them, VOC's XML files."""
    if not files.has(folder, ".xml") or not files.has(folder, "image"):
        return False
    names = (name for name in files.names_in(folder) if name.lower().endswith(".xml"))
    return any(files.kind(folder / name) == "VOC annotation" for name in names)


def _image_sets(path: Path) -> dict[str, Path]:
    """The lists of the splits; lists of single classes (cat_train.txt) are something else."""
    folder = path / "ImageSets" / "Main"
    folder = folder if folder.is_dir() else path / "ImageSets"
    found = {name: folder / f"{name}.txt" for name in (*SPLITS, "trainval")}
    found = {name: file for name, file in found.items() if file.is_file()}
    whole = found.pop("trainval", None)
    if whole and "train" not in found and "val" not in found:
        found = {"train": whole, **found}
    return found


def yolo(path: Path) -> Found | None:
    """YOLO: a text file an image, and data.yaml or another file with the names."""
    names, parts = yolo_parts(path)
    if not parts:
        return None
    told = f"{names.name}: {_splits(parts)}" if names else f"{_splits(parts)}; without names"
    return Found("yolo", path, f"a data set in YOLO's layout ({told})", parts, names=names)
