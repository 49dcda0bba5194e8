"""What a folder or file holds, found by looking: its layout and its splits. Nothing is read whole.

A split has one of our names, whatever the source calls it: "train", "val" (valid, validation, dev)
or "test".
"""

import dataclasses
import os
import re
from pathlib import Path

from pse_jax.data.formats import files
from pse_jax.data.formats.parts import SPLITS, Part, Parts, split_folders, split_named
from pse_jax.data.formats.yolo_layout import yolo_parts

USABLE = ("coco", "roboflow")  # can be trained on as they are
CONVERTIBLE = ("voc", "yolo")


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies somewhere."""

    kind: str  # voc, yolo, coco, roboflow, or another word of ours; "" if nothing is recognised
    path: Path  # the folder that the data set starts at
    what: str  # it is, for messages: "a data set in Pascal VOC's layout (...)"
    parts: Parts = dataclasses.field(default_factory=dict)
    remedy: str = ""  # how it becomes usable
    names: Path | None = None  # YOLO's file of class names


def look(path: Path) -> Found:
    """Tells what a folder or file is; for a folder around one data set, that data set.

    Raises:
        DataError: for a YOLO configuration that cannot be read.
    """
    if not path.is_dir():
        return _file(path)
    found = _folder(path)
    if found.kind:
        return found
    below = [inner for inner in map(_folder, files.folders_in(path)[:100]) if inner.kind]
    sets = [inner for inner in below if inner.kind in USABLE + CONVERTIBLE]
    if len(sets) == 1:
        return sets[0]
    if sets:
        some = ", ".join(str(inner.path) for inner in sets[:5])
        return Found(
            "several",
            path,
            f"a folder around {len(sets)} data sets",
            remedy=f"give one of them: {some}",
        )
    if below:
        return dataclasses.replace(below[0], path=path)
    return found


def _folder(path: Path) -> Found:
    """What one folder is, not looking for data sets in the folders in it."""
    for recognise in (_roboflow, _coco, _voc, _yolo, _other):
        found = recognise(path)
        if found:
            return found
    names = files.names_in(path, 1000)
    inside = names + [f"{folder.name}/" for folder in files.folders_in(path)]
    shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
    what = f"a folder in which no data set is recognised (it holds {shown})"
    return Found("", path, what if inside else "an empty folder", remedy=RECOGNISED)


RECOGNISED = (
    "what is recognised: COCO (annotations/*.json beside image folders), Roboflow's COCO "
    "(train/_annotations.coco.json), Pascal VOC (Annotations/*.xml and JPEGImages/) and YOLO "
    "(data.yaml, images/ and labels/); see docs/data.md"
)


def _splits(parts: Parts) -> str:
    return ", ".join(name for name in SPLITS if name in parts)


def _roboflow(path: Path) -> Found | None:
    parts = {
        name: (Part(folder / "_annotations.coco.json", folder),)
        for name, folder in split_folders(path).items()
        if (folder / "_annotations.coco.json").is_file()
    }
    what = f"a data set in Roboflow's COCO layout ({_splits(parts)})"
    return Found("roboflow", path, what, parts) if parts else None


def _coco(path: Path) -> Found | None:
    folder = files.named(path, "annotations") or path
    instances = [folder / name for name in _coco_files(folder)]
    parts: Parts = {}
    for file in instances:
        name = split_named(file.stem) or ("train" if len(instances) == 1 else "")
        images = _images_of(path, file, name)
        if name and name not in parts and images:
            parts[name] = (Part(file, images),)
    what = f"a data set in COCO's format ({_splits(parts)})"
    return Found("coco", path, what, parts) if parts else None


def _coco_files(folder: Path) -> list[str]:
    """Names of the annotation files to learn boxes from; those called `instances` if there are."""
    names = [name for name in files.names_in(folder, 1000) if name.lower().endswith(".json")]
    names = [name for name in names if files.kind(folder / name) == "COCO"]
    other = re.compile(r"captions|keypoints|panoptic|stuff|image_info")
    names = [name for name in names if not other.search(name.lower())]
    return [name for name in names if name.lower().startswith("instances")] or names


def _images_of(path: Path, file: Path, split: str) -> Path | None:
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


def _voc(path: Path) -> Found | None:
    labels = files.named(path, "Annotations", "xml", "labels")
    if labels and files.has(labels, ".xml"):
        images = files.named(path, "JPEGImages", "images", "imgs") or labels
        lists = _image_sets(path)
        parts = {name: (Part(labels, images, file),) for name, file in lists.items()}
        told = f"ImageSets/Main: {', '.join(lists)}" if lists else "no ImageSets"
        what = f"a data set in Pascal VOC's layout ({labels.name}/, {images.name}/, {told})"
        return Found("voc", path, what, parts or {"train": (Part(labels, images),)})
    folders = {
        name: folder for name, folder in split_folders(path).items() if files.has(folder, ".xml")
    }
    if not folders and files.has(path, ".xml") and _is_voc(path):
        folders = {"train": path}
    parts = {name: (Part(folder, folder),) for name, folder in folders.items()}
    what = f"a data set of Pascal VOC's XML files beside their images ({_splits(parts)})"
    return Found("voc", path, what, parts) if parts else None


def _is_voc(folder: Path) -> bool:
    names = (name for name in files.names_in(folder, 1000) if name.lower().endswith(".xml"))
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


def _yolo(path: Path) -> Found | None:
    names, parts = yolo_parts(path)
    if not parts:
        return None
    told = f"{names.name}: {_splits(parts)}" if names else f"{_splits(parts)}; without names"
    return Found("yolo", path, f"a data set in YOLO's layout ({told})", parts, names=names)


def _other(path: Path) -> Found | None:
    """Folders that cannot be used, and what is to be done with them."""
    names = files.names_in(path, 1000)
    if {"dataset_info.json", "features.json"} <= {*names}:
        remedy = "read it with --config.data.source=tfds"
        return Found("tfds", path, "a folder of TensorFlow Datasets", remedy=remedy)
    kinds = {files.kind(path / name): name for name in names[:50] if not files.is_image(name)}
    for kind in kinds:
        if kind in REMEDIES:
            what = f"a folder with {article(kind)} ({kinds[kind]})"
            return Found(kind, path, what, remedy=REMEDIES[kind])
    if any(".tfrecord" in name or ".array_record" in name for name in names):
        return Found("records", path, "a folder of record files", remedy=CONVERT_ELSEWHERE)
    if any(map(files.is_image, names)):
        return Found("images", path, "a folder of images without any labels", remedy=RECOGNISED)
    return None


CONVERT_ELSEWHERE = "export the labels as COCO, Pascal VOC or YOLO in the tool that they come from"
UNPACK = "unpack it, and give the folder that it leaves"
REMEDIES = {
    "zip archive": UNPACK,
    "tar archive": UNPACK,
    "gzip archive": UNPACK,
    "bzip2 archive": UNPACK,
    "xz archive": UNPACK,
    "7z archive": UNPACK,
    "rar archive": UNPACK,
    "LabelMe annotation": CONVERT_ELSEWHERE,
    "VIA annotations": CONVERT_ELSEWHERE,
    "CVAT annotations": CONVERT_ELSEWHERE,
    "Parquet table": CONVERT_ELSEWHERE,
    "COCO results": "these are detections; the data set is what they were made on",
}


def _file(path: Path) -> Found:
    """What a single file is; of a file of a data set, the data set."""
    kind = files.kind(path)
    up = {"VOC annotation": "voc", "YOLO labels": "yolo", "YOLO configuration": "yolo"}
    if kind in up:
        for folder in (path.parent, *list(path.parents)[1:4]):
            found = _folder(folder)
            if found.kind == up[kind]:
                return dataclasses.replace(
                    found, what=f"{article(kind)}, of {found.what} at {found.path}"
                )
    if kind == "COCO":
        found = _coco_file(path)
        if found:
            return found
    remedy = REMEDIES.get(kind, RECOGNISED)
    return Found(kind, path, article(kind) if kind else "a file of no known kind", remedy=remedy)


def _coco_file(path: Path) -> Found | None:
    images = _images_of(path.parent, path, "") or _images_of(path.parent.parent, path, "")
    parts = {"train": (Part(path, images),)} if images else {}
    return Found("coco", path, "a file in COCO's format", parts) if parts else None


def article(kind: str) -> str:
    """`an image`, `a zip archive`, `Parquet tables`."""
    if kind.endswith(("s", "results")):
        return kind
    return ("an " if kind[0] in "aeiouAEIOX" or kind == "xz archive" else "a ") + kind
