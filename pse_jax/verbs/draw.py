"""Draws a run's detections: on photos, or on validation images beside the dashed ground truth.

Writes one sheet, whose pictures are as large as the number of objects asks for; or, if --out names
a folder, every image at full size.
"""

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pse_jax.addresses import named
from pse_jax.errors import UserError
from pse_jax.files import make_folder, write_whole
from pse_jax.verbs import flags, scores

if TYPE_CHECKING:
    from pse_jax.detector import Detector

AT_LEAST = 480  # px of the longer side at "full size": smaller images are enlarged


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("draw", __doc__)
    add = parser.add_argument
    text = "photos to draw on; by default images of the validation data"
    add("images", type=flags.path, nargs="*", metavar="IMAGE_OR_FOLDER", help=text)
    flags.add_workdir(parser)
    flags.add_checkpoint(parser)
    text = "a sheet to write, by default WORKDIR/detections.png; or a folder, for full size"
    add("--out", type=flags.place, metavar="FILE_OR_DIR", help=text)
    add("--count", type=int, default=12, help="validation images (default 12)")
    add("--columns", type=int, help="at most so many per row (default: 2400 px)")
    add("--size", type=int, help="px of an image's longer side (default: by its objects)")
    scores.add_threshold(parser)
    add("--seed", type=int, default=0, help="which validation images are drawn (default 0)")
    options = flags.parse(parser, argv)
    for name in ("count", "columns", "size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            parser.error(f"--{name} is {value}; it must be at least 1")
    run, config = flags.run_of(options)
    out = options.out or run.folder / "detections.png"
    kind = Image.registered_extensions().get(out.suffix.lower())
    if out.suffix and kind not in Image.SAVE:
        parser.error(f"--out {out}: unknown image format; end the name in .png, .jpg or .pdf")
    flags.prepare(config)

    from pse_jax.report import pictures
    from pse_jax.runs.load import load_run
    from pse_jax.runs.remote import staging

    detector = load_run(run, options.checkpoint, config)
    limits, why = scores.thresholds(detector, options.threshold, str(options.workdir))
    drawn = []
    chosen = (
        _photos(options.images, config.data.exif)
        if options.images
        else _validation(detector, options)
    )
    for title, image, truth in chosen:
        size = options.size or (0 if kind else max(*image.size, AT_LEAST))
        found = detector(image).above(limits)
        picture = pictures.beside_truth(
            image, found, *(truth or (None, None)), detector.categories, title=title, size=size
        )
        drawn.append((title, picture))
    with staging.writing(out.parent if kind else out) as folder:
        make_folder(folder, "the folder of the pictures")
        if kind:
            sheet = pictures.sheet([picture for _, picture in drawn], options.columns or 0)
            _save(sheet, folder / out.name, kind)
        for number, (title, picture) in enumerate([] if kind else drawn, 1):
            _save(picture, folder / f"{number:03d}_{title.rsplit('/', 1)[-1]}.png", "PNG")
    run.publish()
    dashed = "" if options.images else "; dashed: ground truth"
    print(f"drew {len(drawn)} images to {named(str(out))}, with scores from {why}{dashed}")
    return 0


Chosen = Iterator[tuple[str, Image.Image, tuple[np.ndarray, np.ndarray] | None]]


def _validation(detector: "Detector", options: argparse.Namespace) -> Chosen:
    """Name, image, and boxes and labels of some validation images, at random."""
    from pse_jax.runs.load import open_val

    dataset = open_val(detector)
    # Images with several objects tell more; others are drawn where there are not enough of them.
    order = np.random.default_rng(options.seed).permutation(len(dataset))
    few = np.diff(dataset.offsets)[order] < 2
    for i in order[np.argsort(few, kind="stable")][: options.count].tolist():
        yield dataset.image_names[i], Image.fromarray(dataset.pixels_of(i)), dataset.boxes_of(i)


def _photos(paths: Sequence[Path], exif: str) -> Chosen:
    """Name and image of each photo that is given."""
    from pse_jax.data.transforms import pixels_of
    from pse_jax.runs.photos import photos_of

    listing = photos_of(paths)
    if listing.failures:
        failed = listing.failures[0]
        raise UserError(f"{failed.photo.path}: {failed.failure}")
    for photo in listing.photos:
        yield photo.name, Image.fromarray(pixels_of(photo.path, exif)), None


def _save(picture: Image.Image, file: Path, kind: str) -> None:
    stream = io.BytesIO()
    picture.save(stream, kind)
    write_whole(file, stream.getvalue(), "the picture")
