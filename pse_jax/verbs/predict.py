"""Finds objects in photos: draws them, lists them, and writes them in COCO's results format.

Give files and folders; of a folder, the files that end as images do. Images that cannot be read
are named with the reason, and the others are done. Exits with 0 if all are, 1 if some failed, 2 for
other errors.
"""

import itertools
import json
import logging
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pse_jax.errors import UserError
from pse_jax.verbs import flags, scores

if TYPE_CHECKING:
    from pse_jax.runs.photos import Found, Listing
    from pse_jax.runs.predictions import Predictions

logger = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two writes of the JSON files: a killed process leaves what is done
WIDEST = 60  # letters of a name in the table


def main(argv: Sequence[str]) -> int:
    options = flags.parse(_parser(), argv)
    if bool(options.workdir) == bool(options.detector):
        raise UserError("give either --workdir, a run's folder, or --detector, a file or a name")

    from PIL import Image

    from pse_jax import progress
    from pse_jax.runs import load, photos
    from pse_jax.runs.predictions import Predictions

    progress.show_log()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # what is too large is an error
    out = options.out or (None if options.json else Path("predictions"))
    source = options.detector or options.workdir
    detector = load.load(source, options.checkpoint, overrides=options.overrides)
    flags.prepare(detector.config)
    thresholds, why = scores.thresholds(detector, options.threshold, str(source))
    listing = photos.photos_of(options.images, recursive=options.recursive, but=out)
    predictions = Predictions(out, listing.photos, detector, thresholds)
    drawing = out is not None and not options.no_images
    if drawing:
        predictions.check()
    say = logger.info if options.json else print
    say(f"thresholds: {why}")
    _say_left_aside(listing)
    _predict(predictions, listing, drawing, options.json)
    return _conclude(predictions, listing, drawing, say)


def _predict(predictions: "Predictions", listing: "Listing", drawing: bool, as_json: bool) -> None:
    """Goes through the photos; prints a line for each, and writes what was found also at the end.

    So it does where Ctrl-C is the end.
    """
    from tqdm import tqdm

    from pse_jax import progress
    from pse_jax.runs import photos

    width = min(max((len(p.name) for p in listing.photos), default=0), WIDEST)
    render = _as_json(predictions) if as_json else _as_line(width)
    draw = predictions.draw if drawing else (lambda found: found)
    found = photos.detect_photos(predictions.detector, listing.photos, predictions.thresholds)
    drawn = progress.ahead(draw, map(predictions.keep, found), photos.THREADS, photos.CHUNK)
    predictions.write()  # or fail now
    written = time.monotonic()
    try:
        for one in itertools.chain(listing.failures, drawn):
            tqdm.write(render(predictions.keep(one)), file=sys.stdout)
            if time.monotonic() - written > EVERY:
                predictions.write()
                written = time.monotonic()
    except BrokenPipeError:  # whoever reads the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        predictions.write()


def _parser() -> flags.Parser:
    parser = flags.parser("predict", __doc__)
    add = parser.add_argument
    add("images", type=flags.path, nargs="+", metavar="IMAGE_OR_FOLDER")
    flags.add_workdir(parser)
    add(
        "--detector", metavar="FILE", help="a published detector instead: its file, address or name"
    )
    flags.add_checkpoint(parser)
    scores.add_threshold(parser)
    add("--out", type=flags.path, metavar="DIR", help="folder to write (default predictions)")
    add("--no-images", action="store_true", help="draw nothing")
    text = "one JSON object per image to standard output; writes files only with --out"
    add("--json", action="store_true", help=text)
    add("--recursive", action="store_true", help="look into the folders in a folder")
    return parser


def _say_left_aside(listing: "Listing") -> None:
    """Says which files and folders in the folders were skipped."""
    for what, names in (
        ("skipped, not an image by its name", listing.others),
        ("folder skipped (--recursive searches it)", listing.folders),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            logger.info("%s: %s%s", what, shown(names[0]), more)


def shown(text: str) -> str:
    """A file's name as it can be printed."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _as_line(width: int) -> Callable[["Found"], str]:
    """Renders a photo as a line of the table: its name, size, and what is in it."""

    def line(found: "Found") -> str:
        name = f"{shown(found.photo.name):<{width}}"
        if found.detections is None or not found.size_hw:
            return f"{name}  failed: {shown(found.failure)}"
        height, wide = found.size_hw
        counts = Counter(found.detections.names).most_common()
        what = ", ".join(f"{name} {count}" for name, count in counts[:6])
        what += ", ..." if len(counts) > 6 else ""
        failure = f"  failed: {shown(found.failure)}" if found.failure else ""
        return f"{name}  {f'{wide}x{height}':>11}  {len(found.detections):>4}  {what}{failure}"

    return line


def _as_json(predictions: "Predictions") -> Callable[["Found"], str]:
    """Renders a photo as a JSON object."""
    from pse_jax.runs.predictions import columns

    def line(found: "Found") -> str:
        row: dict[str, Any] = predictions.row(found)
        if found.detections is not None:
            names = found.detections.names
            row["detections"] = [
                {"category_id": c, "name": name, "score": s, "bbox": b}
                for name, (c, b, s) in zip(names, columns(found), strict=True)
            ]
        return json.dumps(row)

    return line


def _conclude(
    predictions: "Predictions", listing: "Listing", drawing: bool, say: Callable[[str], None]
) -> int:
    """Says what was done; returns the exit status."""
    failed = [found for found in predictions.done.values() if found.failure]
    done = [found for found in predictions.done.values() if found.detections is not None]
    objects = sum(len(found.detections or ()) for found in done)
    total = len(listing.photos) + len(listing.failures)
    say(f"{len(done):,} of {total:,} done, {objects:,} objects; {len(failed):,} failed")
    if predictions.folder:
        drawn = sum(not found.failure for found in done)
        also = f", {drawn:,} drawn images" if drawing else ""
        say(f"wrote {predictions.folder}: detections.json, images.json{also}")
    return 1 if failed else 0
