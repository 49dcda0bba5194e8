"""Where the splits of a YOLO data set are: by its data.yaml, or by the names of its folders."""

from pathlib import Path
from typing import Any

import yaml

from pse_jax.data.formats import files
from pse_jax.data.formats.parts import CALLED, Part, Parts, split_folders
from pse_jax.errors import DataError
from pse_jax.files import read_regular

LARGEST_YAML = 1 << 20  # bytes


def yolo_parts(path: Path) -> tuple[Path | None, Parts]:
    """The file of class names (None: there is none) and the splits; none if it is not YOLO.

    Raises:
        DataError: for a configuration that cannot be read, or whose folders are not there.
    """
    for name in files.names_in(path):
        if name.lower().endswith((".yaml", ".yml")):
            file = path / name
            if files.kind(file) == "YOLO configuration":
                return file, _by_yaml(file) or _by_folders(path)
    parts = _by_folders(path)
    names = files.regular(
        path, "classes.txt", "obj.names", "labels/classes.txt", "train/classes.txt"
    )
    others = (path / name for name in files.names_in(path) if name.endswith(".names"))
    return names or next(others, None), parts


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a YOLO configuration.

    Raises:
        DataError: if it is no mapping, or cannot be read.
    """
    try:
        content = read_regular(file)
        if len(content) > LARGEST_YAML:
            raise DataError(
                f"{file} has {len(content):,} bytes; a YOLO configuration is a short text"
            )
        found = yaml.safe_load(content)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:300]
        raise DataError(f"{file} is not valid YAML ({why}); correct it") from error
    if not isinstance(found, dict):
        raise DataError(f"{file} is not a mapping; it needs lines such as `names: [cat, dog]`")
    return found


def _by_yaml(file: Path) -> Parts:
    content = read_yaml(file)
    root = file.parent / str(content.get("path") or "")
    parts: Parts = {}
    for split, keys in CALLED.items():
        key = next((key for key in keys if content.get(key)), None)
        if key is None:
            continue
        value = content[key]
        values = value if isinstance(value, list) else [value]
        found = [_place(file, root, key, str(one)) for one in values]
        if (
            split == "test" and None in found
        ):  # Ultralytics' configurations name tests without labels
            continue
        parts[split] = tuple(part for part in found if part)
    return parts


def _place(file: Path, root: Path, key: str, value: str) -> Part | None:
    """The folder or list that a configuration names, also if it was written on another machine."""
    tried = Path(value).parts
    places = [root / value, file.parent / value]
    places += [file.parent.joinpath(*tried[k:]) for k in range(1, len(tried))]
    for place in places:
        if place.is_dir():
            return _with_labels(place)
        if place.suffix == ".txt" and place.is_file():
            return Part(file.parent, file.parent, place)
    if key.startswith("test"):
        return None
    raise DataError(
        f"{file}: {key} is {value!r}, and there is neither {places[0]} nor a folder of such a name "
        f"below {file.parent}; correct {key} or path"
    )


def _with_labels(folder: Path) -> Part:
    """The labels of a folder of images: `images` in its path becomes `labels`, as Ultralytics."""
    parts = list(folder.parts)
    for k in reversed(range(len(parts))):
        if parts[k] == "images":
            labels = Path(*parts[:k], "labels", *parts[k + 1 :])
            if labels.is_dir():
                return Part(labels, folder)
    if files.named(folder, "images") and files.named(folder, "labels"):  # the split's own folder
        return Part(folder / "labels", folder / "images")
    return Part(folder, folder)


def _by_folders(path: Path) -> Parts:
    """Splits in images/ and labels/, or both in the splits; or neither, or all side by side."""
    images, labels = files.named(path, "images"), files.named(path, "labels")
    if images and labels:
        inner, theirs = split_folders(images), split_folders(labels)
        parts = {name: (Part(theirs[name], inner[name]),) for name in inner if name in theirs}
        if parts:
            return {name: parts[name] for name in CALLED if name in parts}
        return {"train": (Part(labels, images),)} if _has_labels(labels) else {}
    parts = {}
    for name, folder in split_folders(path).items():
        inner, theirs = files.named(folder, "images"), files.named(folder, "labels")
        if inner and theirs:
            parts[name] = (Part(theirs, inner),)
        elif _beside(folder):
            parts[name] = (Part(folder, folder),)
    if parts:
        return {name: parts[name] for name in CALLED if name in parts}
    if _beside(path):
        return {"train": (Part(path, path),)}
    return _by_lists(path) if files.has(path, ".names") else {}


def _by_lists(path: Path) -> Parts:
    """Darknet: text files that name the images of a split."""
    lists = {split: files.regular(path, *(f"{n}.txt" for n in CALLED[split])) for split in CALLED}
    return {split: (Part(path, path, file),) for split, file in lists.items() if file}


def _has_labels(folder: Path) -> bool:
    names = (name for name in files.names_in(folder) if name.endswith(".txt"))
    return any(files.kind(folder / name) == "YOLO labels" for name in names)


def _beside(folder: Path) -> bool:
    """Whether a folder holds images and, beside them, label files."""
    return files.has(folder, "image") and _has_labels(folder)
