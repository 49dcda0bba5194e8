"""The same photos as a Pascal VOC, a YOLO and a Roboflow folder, written by hand."""

import dataclasses
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("Platelets", "RBC", "WBC")  # sorted, as VOC's have no order of their own
Box = tuple[float, float, float, float]  # xyxy, exclusive


@dataclasses.dataclass
class Photo:
    split: str  # train, val or test
    name: str
    content: bytes
    hw: tuple[int, int]
    objects: list[tuple[str, Box]]


def photos(train=5, val=3, test=2, empty=False):
    """Photos of noise in three sizes, with boxes on whole pixels; with `empty`, one of nothing."""
    rng = np.random.default_rng(0)
    made = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for k in range(count):
            hw = ((48, 64), (64, 48), (56, 56))[k % 3]
            objects = []
            for _ in range(0 if empty and k == 0 else 1 + k % 3):
                x1, y1 = rng.integers(0, 20, 2).tolist()
                w, h = rng.integers(4, 28, 2).tolist()
                objects.append((NAMES[rng.integers(3)], (x1, y1, x1 + w, y1 + h)))
            made.append(Photo(split, f"{split}{k}.jpg", jpeg(rng, hw), hw, objects))
    made[0].objects.append((NAMES[0], (0, 0, made[0].hw[1], made[0].hw[0])))  # edge to edge
    return made


def jpeg(rng, hw):
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*hw, 3), np.uint8)).save(stream, "jpeg", quality=95)
    return stream.getvalue()


def put(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def voc_xml(photo, base=1, difficult=()):
    """Corners are pixels that belong to the object, counted from `base`."""
    objects = "".join(
        f"<object><name>{name}</name><difficult>{int(k in difficult)}</difficult><bndbox>"
        f"<xmin>{x1 + base}</xmin><ymin>{y1 + base}</ymin>"
        f"<xmax>{x2 - 1 + base if base else x2}</xmax><ymax>{y2 - 1 + base if base else y2}</ymax>"
        "</bndbox></object>"
        for k, (name, (x1, y1, x2, y2)) in enumerate(photo.objects)
    )
    height, width = photo.hw
    return (
        f"<annotation><filename>{photo.name}</filename><size><width>{width}</width><height>"
        f"{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def write_voc(folder, photos, *, lists=True, base=1, difficult=()):
    for photo in photos:
        put(folder / "JPEGImages" / photo.name, photo.content)
        put(
            folder / "Annotations" / f"{Path(photo.name).stem}.xml", voc_xml(photo, base, difficult)
        )
    if lists:
        for split in ("train", "val", "test"):
            lines = [Path(p.name).stem for p in photos if p.split == split]
            put(folder / "ImageSets" / "Main" / f"{split}.txt", "\n".join(lines) + "\n")
    return folder


def yolo_txt(photo):
    height, width = photo.hw
    return "".join(
        f"{NAMES.index(name)} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
        f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
        for name, (x1, y1, x2, y2) in photo.objects
    )


def write_yolo(folder, photos, *, kind_first=True, yaml=True):
    """images/train or, with `kind_first=False` as Roboflow's, train/images."""

    def place(what, split):
        split = split if kind_first else {"val": "valid"}.get(split, split)
        return folder / (f"{what}/{split}" if kind_first else f"{split}/{what}")

    for photo in photos:
        put(place("images", photo.split) / photo.name, photo.content)
        text = f"{Path(photo.name).stem}.txt"
        put(place("labels", photo.split) / text, yolo_txt(photo))
    if yaml:
        up = "" if kind_first else "../"  # as Roboflow's, where it leads to nothing
        lines = [
            f"{split}: {up}{place('images', split).relative_to(folder)}"
            for split in ("train", "val", "test")
        ]
        put(folder / "data.yaml", "\n".join([*lines, "nc: 3", f"names: [{', '.join(NAMES)}]"]))
    else:
        put(folder / "classes.txt", "\n".join(NAMES))
    return folder


def write_roboflow(folder, photos, *, project="blood-cells"):
    """Ids from 0 in every split, a category 0 that is the project, names with a hash."""
    categories = [{"id": 0, "name": project, "supercategory": "none"}]
    categories += [
        {"id": k, "name": name, "supercategory": project} for k, name in enumerate(NAMES, 1)
    ]
    for split in dict.fromkeys(photo.split for photo in photos):
        images, annotations = [], []
        place = folder / {"val": "valid"}.get(split, split)
        for k, photo in enumerate(sorted((p for p in photos if p.split == split), key=by_name)):
            digest = hashlib.md5(photo.name.encode()).hexdigest()
            name = f"{Path(photo.name).stem}_jpg.rf.{digest}.jpg"
            put(place / name, photo.content)
            height, width = photo.hw
            images.append(
                {"id": k, "license": 1, "file_name": name, "height": height, "width": width}
            )
            for category, (x1, y1, x2, y2) in photo.objects:
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": k,
                        "category_id": 1 + NAMES.index(category),
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "segmentation": [],
                        "iscrowd": 0,
                    }
                )
        content = {"info": {}, "licenses": [], "categories": categories, "images": images}
        put(place / "_annotations.coco.json", json.dumps(content | {"annotations": annotations}))
    return folder


def by_name(photo):
    return photo.name


def photos_of_voc(folder):
    """The photos of a VOC folder, by regular expressions; corners from 1, both in the box."""
    found = []
    for split in ("train", "val", "test"):
        for stem in (folder / "ImageSets/Main" / f"{split}.txt").read_text().split():
            xml = (folder / "Annotations" / f"{stem}.xml").read_text()
            content = (folder / "JPEGImages" / f"{stem}.jpg").read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
            objects = []
            for block in re.findall(r"<object>.*?</object>", xml, re.DOTALL):
                x1, y1, x2, y2 = (
                    int(re.search(rf"<{key}>(\d+)</{key}>", block)[1])
                    for key in ("xmin", "ymin", "xmax", "ymax")
                )
                name = re.search(r"<name>(.*?)</name>", block)[1]
                objects.append((name, (x1 - 1, y1 - 1, x2, y2)))
            found.append(Photo(split, f"{stem}.jpg", content, (height, width), objects))
    return found
