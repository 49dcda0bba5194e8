"""Any data set in COCO's format: annotations in one JSON file, images in one folder.

Everything is checked when it is read, once. What is invalid (an unknown category, a NaN) is an
error; what can be corrected or left out without harm (a box with no area) is counted and logged.
"""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pse_jax import addresses
from pse_jax.categories import Categories
from pse_jax.data.dataset import Dataset, Images
from pse_jax.data.folder import find_files
from pse_jax.data.rows import HIGHEST, LARGEST, SIDE, Problems, Rows, read_json, shown
from pse_jax.errors import DataError, ResultsError
from pse_jax.evaluation.arrays import GroundTruth, Results, xywh_to_xyxy

logger = logging.getLogger(__name__)

PARTS = ("images", "annotations", "categories")
SMALLEST_SIDE = 1.0  # px; a box to learn from is larger (fcos_core)
WAYS = (
    "\nThe data set can be provided in one of these ways:\n"
    "  * COCO 2017: unpack annotations/, train2017/ and val2017/ into one folder and pass "
    "--config.data.root=FOLDER\n"
    "  * COCO 2017 by tensorflow_datasets: python -m pse_jax prepare-tfds downloads and prepares "
    'it (pip install "pse-jax[tfds,tfds-prepare]"); then pass --config.data.source=tfds, and '
    "--config.data.root=DATA_DIR where that is not TFDS's own folder\n"
    "  * your own data: --config.data.root=FOLDER in COCO's format, with any names; of Pascal VOC, "
    "YOLO and others first `python -m pse_jax convert SRC FOLDER`\n"
    "  * no data at all: --config configs/shapes_pse.py generates some"
)


def load(
    annotation_file: str | os.PathLike,
    image_folder: str | os.PathLike,
    *,
    exif: str = "apply",
    outside: bool = False,
    require_images: bool = True,
) -> Dataset:
    """Reads and checks a data set: its instances file, and that its images are there.

    Args:
        annotation_file: in COCO's format.
        image_folder: where its file names start.
        exif: "apply" or "ignore": what is done with an orientation that the annotated size leaves
            open (transforms.py).
        outside: whether file names may lead out of the folder.
        require_images: if not, missing images are errors only when they are read.

    Raises:
        DataError: for a missing or broken file, missing images, an unknown category or image id, a
            repeated id, or an invalid number.
    """
    file, folder = addresses.place(annotation_file), addresses.place(image_folder)
    if not addresses.exists(file):
        raise DataError(f"no annotations at {file}.{WAYS}")

    def find_images(names: list[str], truth: GroundTruth, problems: Problems) -> Images:
        return find_files(folder, names, truth, problems, outside, require_images)

    return build(str(file), instances(file), find_images, exif)


def build(
    source: str,
    content: Mapping[str, Any],
    find_images: Callable[[list[str], GroundTruth, Problems], Images],
    exif: str = "apply",
) -> Dataset:
    """The data set of an instances file's content, checked: the rules of every source.

    Args:
        source: what messages call it.
        content: what `instances` returns.
        find_images: gives the images of these names, in the order of the ground truth's.
        exif: as `load`.

    Raises:
        DataError: as `load`.
    """
    truth, images, order = _ground_truth(source, content)
    problems = Problems(source)
    names = images.texts("file_name", "it must be a path below the image folder")
    images_there = find_images([names[i] for i in order], truth, problems)

    sizes_hw = _sizes_hw(images)[order]
    rows, boxes_xyxy = _inside(truth, sizes_hw, content["annotations"], problems)
    keep = ~truth.crowd[rows]
    rows, boxes_xyxy = rows[keep], boxes_xyxy[keep]
    by_image = np.argsort(truth.image[rows], kind="stable")
    counts = np.bincount(truth.image[rows], minlength=len(truth.image_ids))
    problems.report()
    return Dataset(
        **vars(truth),
        sizes_hw=sizes_hw,
        offsets=np.cumsum([0, *counts]),
        boxes_xyxy=boxes_xyxy[by_image].astype(np.float32),
        labels=truth.category[rows][by_image].astype(np.int32),
        images=images_there,
        keys=np.arange(len(order)),
        problems=dict(problems.counts),
        exif=exif,
    )


def load_ground_truth(annotations: str | os.PathLike | Mapping[str, Any]) -> GroundTruth:
    """The annotations alone, of a file or its parsed content; images and their sizes are not used.

    Raises:
        DataError: as `load`.
    """
    source, content = read_json(annotations, "annotations")
    return _ground_truth(source, instances(content, source))[0]


def load_sizes(annotations: str | os.PathLike | Mapping[str, Any]) -> Float[np.ndarray, "n 2"]:
    """Height and width of each image by ascending id, NaN where they are not numbers.

    Raises:
        DataError: as `load`.
    """
    source, content = read_json(annotations, "annotations")
    rows = sorted(instances(content, source)["images"], key=lambda row: row["id"])
    sides = [[row.get(key) for key in ("height", "width")] for row in rows]
    plain = [[v if isinstance(v, int | float) else np.nan for v in pair] for pair in sides]
    return np.array(plain, np.float64).reshape(-1, 2)


def load_categories(annotations: str | os.PathLike) -> Categories:
    """The category table of a file in COCO's format.

    Raises:
        DataError: as `load`.
    """
    source, content = read_json(annotations, "annotations")
    return _categories(Rows(instances(content, source)["categories"], source, "categories"))


def load_rows(annotation_file: os.PathLike) -> dict[str, Any]:
    """The three lists of a file in COCO's format as they stand in it, checked.

    Raises:
        DataError: as `load`.
    """
    content = instances(annotation_file)
    _ground_truth(str(annotation_file), content)
    return content


def load_results(results: Any, truth: GroundTruth) -> Results:
    """Detections in COCO's results format, of a file or its parsed content; may be empty.

    Raises:
        DataError: if the file cannot be read.
        ResultsError: for an entry that cannot be evaluated.
    """
    source, content = read_json(results, "detections")
    if not isinstance(content, list):
        raise ResultsError(
            f"{source} holds a {type(content).__name__}; detections are a JSON list of "
            '{"image_id": 42, "category_id": 18, "bbox": [x, y, width, height], "score": 0.9}'
        )
    rows = Rows(content, source, "detections", ResultsError)
    foreign = f"the detections must be of {truth.source}"
    mapped = f"{foreign}, with class numbers mapped back to category ids"
    return Results(
        source=source,
        image=rows.positions("image_id", truth.image_ids.tolist(), foreign),
        category=rows.positions("category_id", truth.categories.ids, mapped),
        boxes_xywh=rows.boxes(),
        scores=rows.numbers(
            "score", "it must be a finite number; did the model diverge?", -HIGHEST, HIGHEST
        ),
    )


def instances(content: Any, source: str = "") -> dict[str, Any]:
    """The three lists of an instances file, of its path or its content; their rows unchecked.

    Raises:
        DataError: if it cannot be read, or one of them is missing.
    """
    if isinstance(content, os.PathLike):
        source, content = read_json(content, "annotations")
    needs = "it needs images, annotations and categories, as COCO's instances files have"
    if not isinstance(content, Mapping):
        kind = "a list, as detections are" if isinstance(content, list) else shown(content)
        raise DataError(f"{source} is {kind}; {needs}")
    missing = [part for part in PARTS if part not in content]
    if missing:
        raise DataError(f"{source} has no {' and no '.join(missing)}; {needs}")
    return _without_project({part: content[part] for part in PARTS}, source)


def _without_project(content: dict[str, Any], source: str) -> dict[str, Any]:
    """Leaves out the category 0 of Roboflow's exports, which names the project and has no boxes.

    It is what all others name as their supercategory; as a class it would be learnt from nothing.
    """
    rows = content["categories"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return content
    tops = [row for row in rows if row.get("supercategory") == "none"]
    rest = [row for row in rows if row.get("supercategory") != "none"]
    if len(tops) != 1 or not rest or tops[0].get("id") != 0:
        return content
    if any(row.get("supercategory") != tops[0].get("name") for row in rest):
        return content
    annotations = content["annotations"]
    if not isinstance(annotations, list) or any(
        isinstance(row, dict) and row.get("category_id") == 0 for row in annotations
    ):
        return content
    name = shown(tops[0].get("name"))
    logger.info("%s: category 0, %s, names the project and has no box: left out", source, name)
    return content | {"categories": rest}


def _ground_truth(
    source: str, content: Mapping[str, Any]
) -> tuple[GroundTruth, Rows, Int[np.ndarray, " n"]]:
    """The annotations, the rows of the images, and the order of those by ascending id."""
    images, categories, annotations = (
        Rows(content[part], source, part) for part in ("images", "categories", "annotations")
    )
    table = _categories(categories)
    image_ids = images.ids()
    order = np.argsort(image_ids)
    boxes = annotations.boxes()
    remedy = "it must be a finite number from 0 to 1e18, or be left out"
    area = annotations.numbers("area", remedy, 0.0, LARGEST, optional=True)
    names = images.texts("file_name", "it must be a path below the image folder", optional=True)
    truth = GroundTruth(
        source=source,
        categories=table,
        image_ids=np.array(image_ids, np.int64)[order],
        image_names=tuple(names[i] for i in order),
        image=annotations.positions(
            "image_id", sorted(image_ids), "remove the annotation or add the image"
        ),
        category=annotations.positions(
            "category_id", table.ids, "correct the annotation or add the category"
        ),
        boxes_xywh=boxes,
        area=np.where(np.isnan(area), boxes[:, 2] * boxes[:, 3], area),
        crowd=annotations.flags("iscrowd"),
    )
    return truth, images, order


def _categories(rows: Rows) -> Categories:
    pairs = sorted(zip(rows.ids(), rows.texts("name", "give it a name"), strict=True))
    return Categories(tuple(i for i, _ in pairs), tuple(name for _, name in pairs))


def _sizes_hw(images: Rows) -> Int[np.ndarray, "n 2"]:
    sides = []
    for key in ("height", "width"):
        values = images.column(key, None)
        for index, value in enumerate(values):
            if type(value) not in (int, float) or not 1 <= value <= SIDE or value % 1 != 0:
                remedy = f"it must be a whole number of pixels, 1 to {SIDE:,}"
                images.fail(index, f"has {key} {shown(value)}", remedy)
        sides.append(values)
    return np.array(sides, np.int32).T


def _inside(
    truth: GroundTruth, sizes_hw: Int[np.ndarray, "n 2"], rows: list[Any], problems: Problems
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k 4"]]:
    """Numbers of the annotations to learn from, and their part inside the image as xyxy.

    A box that is at most 1 px wide or high there is not one of them, as in fcos_core, where the
    edges of a box are pixels and its right edge then is its left one.
    """
    boxes = xywh_to_xyxy(truth.boxes_xywh)
    limits = np.tile(sizes_hw[truth.image][:, ::-1], 2).astype(np.float64)
    cut = np.clip(boxes, 0.0, limits)
    flat = (truth.boxes_xywh[:, 2:] == 0).any(axis=1)
    outside = ~flat & (cut[:, 2:] <= cut[:, :2]).any(axis=1)
    size = np.minimum(cut[:, 2:] - cut[:, :2], truth.boxes_xywh[:, 2:])
    tiny = ~flat & ~outside & (size <= SMALLEST_SIDE).any(axis=1)
    sticking_out = ~flat & ~outside & ~tiny & (np.abs(cut - boxes).max(axis=1, initial=0) > 1)
    for kind, which in (
        ("box without area, left out", flat),
        ("box outside its image, left out", outside),
        ("box at most 1 px wide or high, left out", tiny),
        ("box more than a pixel out of its image, cut", sticking_out),
    ):
        for g in np.flatnonzero(which):
            row = rows[g]
            name = f"annotation {shown(row['id'])}" if "id" in row else f"annotations[{g}]"
            problems.add(kind, f"{name}, image {row['image_id']}, bbox {row['bbox']}")
    kept = np.flatnonzero(~flat & ~outside & ~tiny)
    return kept, cut[kept]
