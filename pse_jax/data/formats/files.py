"""What one file is, by its first bytes: for messages about files that are not what was expected."""

import os
import re
from pathlib import Path

from pse_jax.files import is_regular, open_regular

HEAD = 1 << 16  # bytes; the keys of a JSON file that tell what it is come within them
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif", ".ppm")
MAGIC = (
    (b"PK\x03\x04", "zip archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ", "xz archive"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"Rar!", "rar archive"),
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"PAR1", "Parquet table"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5 file"),
    (b"%PDF", "PDF document"),
    (b"SQLite format 3", "SQLite data base"),
    (b"version https://git-lfs", "pointer of Git LFS, not the file itself"),
)
COCO_KEYS = ("images", "annotations", "categories", "info", "licenses")
NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
YOLO_LINE = re.compile(rf"\s*\d+(\.0*)?(\s+{NUMBER}){{4,}}\s*")


def is_image(name: str) -> bool:
    """Whether a file has the name of an image."""
    return os.path.splitext(name)[1].lower() in IMAGES


def head(file: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with open_regular(file) as stream:
            return stream.read(HEAD)
    except OSError:
        return b""


def kind(file: Path) -> str:
    """`image`, `zip archive`, `COCO`, `VOC annotation`, ...; "" for what is not known."""
    start = head(file)
    if start[257:262] == b"ustar":
        return "tar archive"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image"
    for magic, name in MAGIC:
        if start.startswith(magic):
            return name
    return _text_kind(file, start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"))


def _text_kind(file: Path, text: str) -> str:
    if text.startswith(("{", "[")):
        return _json_kind(text)
    if text.startswith("<"):
        if re.search(r"<annotations[\s>]", text):
            return "CVAT annotations"
        if re.search(r"<annotation[\s>]", text):
            return "VOC annotation"
        return "HTML page" if "<html" in text[:1000].lower() else "XML document"
    if file.suffix.lower() in (".yaml", ".yml"):
        return "YOLO configuration" if re.search(r"^names\s*:", text, re.MULTILINE) else "YAML file"
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and YOLO_LINE.fullmatch(lines[0]):
        return "YOLO labels"
    return "CSV table" if file.suffix.lower() == ".csv" else ""


def _json_kind(text: str) -> str:
    if re.match(r'\[\s*\{[^{}]*"(image_id|score)"', text):
        return "COCO results"
    if '"_via_' in text or re.match(r'\{\s*"[^"]+"\s*:\s*\{\s*"(fileref|filename)"', text):
        return "VIA annotations"
    keys = set(re.findall(r'"(\w+)"\s*:', text))
    if "shapes" in keys and keys & {"imagePath", "imageData", "imageHeight", "version"}:
        return "LabelMe annotation"
    first = re.match(r'\{\s*"(\w+)"\s*:', text)
    if not first or first[1] not in COCO_KEYS:
        return "JSON file"
    whole = len(text) < HEAD // 4  # then it has all three lists: Label Studio's notes.json has one
    return "JSON file" if whole and not {*COCO_KEYS[:3]} <= keys else "COCO"


def names_in(folder: Path, most: int = 1_000_000) -> list[str]:
    """Names of the files in a folder, in order; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for _, e in zip(range(most), entries, strict=False) if _is_file(e)]
    except OSError:
        return []
    return sorted(names)


def _is_file(entry: os.DirEntry) -> bool:
    return not entry.name.startswith(".") and (entry.is_symlink() or entry.is_file())


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in order."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")
            )
    except OSError:
        return []


def has(folder: Path, suffix: str) -> bool:
    """Whether a folder holds a file whose name ends so (`image`: any image)."""
    try:
        with os.scandir(folder) as entries:
            if suffix == "image":
                return any(is_image(e.name) for e in entries)
            return any(e.name.lower().endswith(suffix) for e in entries)
    except OSError:
        return False


def named(folder: Path, *names: str) -> Path | None:
    """The first of these folders that is there, whatever the case of its letters."""
    there = {path.name.lower(): path for path in folders_in(folder)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def regular(folder: Path, *names: str) -> Path | None:
    """The first of these files that is there."""
    return next((folder / name for name in names if is_regular(folder / name)), None)
