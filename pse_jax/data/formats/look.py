"""What a folder or file holds, found by looking, and what can be done with it."""

import dataclasses
from pathlib import Path

from pse_jax.data.formats import files
from pse_jax.data.formats.layouts import Found, coco, images_of, roboflow, voc, yolo
from pse_jax.data.formats.parts import Part

USABLE = ("coco", "roboflow")  # can be trained on as they are
CONVERTIBLE = ("voc", "yolo")


def look(path: Path) -> Found:
    """Tells what a folder or file is; for a folder around one data set, that data set.

    Raises:
        DataError: for a YOLO configuration that cannot be read.
    """
    if not path.is_dir():
        return _file(path)
    found = _folder(path)
    if found.kind in USABLE + CONVERTIBLE:
        return found
    around = _around(path)
    if around:
        return around
    below = [inner for inner in map(_folder, files.folders_in(path)[:100]) if inner.kind]
    sets = [inner for inner in below if inner.kind in USABLE + CONVERTIBLE]
    if len(sets) == 1:
        return sets[0]
    if sets:
        remedy = f"give one of them: {', '.join(str(inner.path) for inner in sets[:5])}"
        return Found("several", path, f"a folder around {len(sets)} data sets", remedy=remedy)
    return found if found.kind or not below else dataclasses.replace(below[0], path=path)


def _around(path: Path) -> Found | None:
    """The data set of which a folder is a part: its labels, its images, its lists."""
    path = path.absolute()
    for folder in list(path.parents)[:2]:
        found = _folder(folder)
        parts = [part for them in found.parts.values() for part in them]
        places = [p for part in parts for p in (part.labels, part.images, part.listing) if p]
        if any(path in (place, *place.parents) for place in places):
            return dataclasses.replace(found, what=f"a part of {found.what} at {found.path}")
    return None


def _folder(path: Path) -> Found:
    """What one folder is, not looking for data sets in the folders in it."""
    for recognise in (roboflow, coco, voc, yolo, _other):
        found = recognise(path)
        if found:
            return found
    names = files.names_in(path)
    inside = names + [f"{folder.name}/" for folder in files.folders_in(path)]
    shown = ", ".join(inside[:6]) + (", ..." if len(inside) > 6 else "")
    what = f"a folder in which no data set is recognised (it holds {shown})"
    return Found("", path, what if inside else "an empty folder", remedy=RECOGNISED)


RECOGNISED = (
    "what is recognised: COCO (annotations/*.json beside image folders), Roboflow's COCO "
    "(train/_annotations.coco.json), Pascal VOC (Annotations/*.xml and JPEGImages/) and YOLO "
    "(data.yaml, images/ and labels/); see docs/data.md"
)


def _other(path: Path) -> Found | None:
    """Folders that cannot be used, and what is to be done with them."""
    names = files.names_in(path)
    if {"dataset_info.json", "features.json"} <= {*names}:
        remedy = "read it with --config.data.source=tfds"
        return Found("tfds", path, "a folder of TensorFlow Datasets", remedy=remedy)
    kinds = {files.kind(path / name): name for name in names[:50] if not files.is_image(name)}
    for kind in kinds:
        if kind in REMEDIES:
            what = f"a folder with {article(kind)} ({kinds[kind]})"
            remedy = REMEDIES[kind].format(file=path / kinds[kind])
            return Found(kind, path, what, remedy=remedy)
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
    "VOC annotation": "put the images beside, or into JPEGImages/ beside Annotations/",
    "LabelMe annotation": CONVERT_ELSEWHERE,
    "VIA annotations": CONVERT_ELSEWHERE,
    "CVAT annotations": (
        "turn it into COCO's format beside its images with the library labelformat: `pip install "
        "labelformat`, then `labelformat convert --task object-detection --input-format cvat "
        "--input-file {file} --output-format coco --output-file {file.parent}/instances.json`"
    ),
    "pointer of Git LFS, not the file itself": "fetch the file with `git lfs pull`",
    "Parquet table": CONVERT_ELSEWHERE,
    "COCO results": "these are detections; the data set is what they were made on",
}


def _file(path: Path) -> Found:
    """What a single file is; of a file of a data set, the data set."""
    kind = files.kind(path)
    up = {"VOC annotation": "voc", "YOLO labels": "yolo", "YOLO configuration": "yolo"}
    if kind in up:
        for folder in reversed(list(path.absolute().parents)[:3]):  # labels/train/a.txt
            found = _folder(folder)
            if found.kind == up[kind]:
                what = f"{article(kind)}, of {found.what} at {found.path}"
                return dataclasses.replace(found, what=what)
    if kind == "COCO":
        found = _coco_file(path)
        if found:
            return found
    remedy = REMEDIES.get(kind, RECOGNISED).format(file=path)
    return Found(kind, path, article(kind) if kind else "a file of no known kind", remedy=remedy)


def _coco_file(path: Path) -> Found | None:
    images = images_of(path.parent, path, "") or images_of(path.parent.parent, path, "")
    parts = {"train": (Part(path, images),)} if images else {}
    return Found("coco", path, "a file in COCO's format", parts) if parts else None


def article(kind: str) -> str:
    """`an image`, `a zip archive`, `Parquet tables`."""
    if kind.endswith(("s", "results")):
        return kind
    return ("an " if kind.startswith((*"aeiouAEIO", "HTML", "HDF", "XML", "xz")) else "a ") + kind
