"""Measures how well the scores of any detector's COCO results file rank and predict its boxes.

Prints tables and writes analysis.json and report.html, a page that opens offline. Several results
files are compared with the first: differences with 95 % intervals from a paired bootstrap over the
images; each detector's own analysis is in the folder of its label.
"""

import argparse
import logging
from collections.abc import Sequence

from pse_jax import progress
from pse_jax.addresses import Place
from pse_jax.data.coco import load_ground_truth, load_results, load_sizes
from pse_jax.errors import ResultsError
from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.comparison import RESAMPLES, compare
from pse_jax.evaluation.measure import Examined, examine
from pse_jax.evaluation.summary import summarise
from pse_jax.evaluation.suspicion import suspect
from pse_jax.report import style, table_files, tables, tables_compare
from pse_jax.report.analysis import Wanted, write_analysis, write_comparison
from pse_jax.report.pictures import check_images
from pse_jax.runs.remote import staging
from pse_jax.verbs import flags

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("analyze", __doc__)
    add = parser.add_argument
    add("--annotations", type=flags.place, required=True, help="ground truth: COCO instances file")
    add(
        "--detections",
        type=flags.place,
        required=True,
        nargs="+",
        metavar="FILE",
        help="COCO results files of any frameworks; the first is what others are compared with",
    )
    add("--labels", nargs="+", metavar="NAME", help="what to call the results files")
    add("--images", type=flags.path, help="folder of the images, to draw the worst cases")
    add("--exif", choices=("apply", "ignore"), default="apply", help="EXIF orientation of photos")
    add("--outside-images", action="store_true", help="let file names lead out of --images")
    add(
        "--out",
        type=flags.place,
        help="folder to write; by default analysis/ or comparison/ beside the first results",
    )
    add("--examples", type=int, default=12, help="worst-ranked pairs to show (default 12)")
    add(
        "--tables",
        type=_kinds(table_files.KINDS),
        default=("csv",),
        metavar="KINDS",
        help="files in tables/: csv, latex or csv,latex; none (default csv)",
    )
    add(
        "--plots",
        type=_kinds(style.FORMATS),
        default=(),
        metavar="KINDS",
        help="files in plots/: svg, pdf, png; none (the default)",
    )
    add(
        "--resamples",
        type=int,
        default=RESAMPLES,
        help=f"resamples for the intervals of a comparison (default {RESAMPLES})",
    )
    add("--seed", type=int, default=0, help="seed of the resamples (default 0)")
    options = flags.parse(parser, argv)
    for name in ("examples", "resamples", "seed"):
        if getattr(options, name) < 0:
            parser.error(f"--{name} {getattr(options, name)}: must be 0 or more")
    labels = _labels(parser, options)
    progress.show_log()

    truth = load_ground_truth(options.annotations)
    examined = []
    for file in options.detections:
        found = load_results(file, truth)
        if options.images is not None:
            check_images(options.images, truth, found, options.outside_images)
        examined.append(examine(truth, found))
        _warn(truth, found, options.annotations)
    wanted = Wanted(options.tables, options.plots, options.images, options.exif)
    if len(examined) == 1:
        return _analyze(examined[0], wanted, options)
    return _compare(examined, labels, wanted, options)


def _analyze(examined: Examined, wanted: Wanted, options: argparse.Namespace) -> int:
    out = options.out or options.detections[0].parent / "analysis"
    summary = summarise(examined, options.examples)
    with staging.writing(out) as folder:
        write_analysis(folder, examined, summary, wanted)
    print(tables.render(summary))
    print(f"wrote {out / 'analysis.json'} and {out / 'report.html'}")
    return 0


def _compare(
    examined: list[Examined], labels: list[str], wanted: Wanted, options: argparse.Namespace
) -> int:
    out = options.out or options.detections[0].parent / "comparison"
    with progress.bar(options.resamples, "resamples") as bar:
        comparison = compare(
            examined, labels, resamples=options.resamples, seed=options.seed, tick=bar.update
        )
    with staging.writing(out) as folder:
        write_comparison(folder, examined, comparison, wanted)
        for one, label in zip(examined, labels, strict=True):
            write_analysis(folder / label, one, summarise(one, options.examples), wanted)
    print(tables_compare.render(comparison))
    print(f"wrote {out / 'comparison.json'} and {out / 'report.html'}, and a folder of each label")
    return 0


def _warn(truth: GroundTruth, found: Results, annotations: Place) -> None:
    """Raises or warns where nearly nothing in the results can be right."""
    suspicion = suspect(truth, found)
    if suspicion and not suspicion.explained:
        suspicion = suspect(truth, found, load_sizes(annotations))
    if suspicion and suspicion.explained:
        raise ResultsError(f"{found.source}: {suspicion.text}")
    if suspicion:
        logger.warning("%s: %s", found.source, suspicion.text)


def _labels(parser: flags.Parser, options: argparse.Namespace) -> list[str]:
    """What each results file is called: its name, or that of its folder where names are the same.

    They are names of folders too.
    """
    files = options.detections
    if options.labels and len(options.labels) != len(files):
        parser.error(f"--labels names {len(options.labels)} of {len(files)} results files")
    labels = options.labels or [file.stem for file in files]
    if not options.labels and len(set(labels)) < len(files):
        labels = [file.parent.name for file in files]
    for label in labels:
        if not label or "/" in label or label in (".", "..", "tables", "plots"):
            parser.error(f"--labels {label!r}: it is also a folder's name; choose another")
    if len(set(labels)) < len(labels):
        parser.error(
            f"two results files are called {max(labels, key=labels.count)!r}; give --labels"
        )
    return labels


def _kinds(known: Sequence[str]):
    """The argparse type of a list of kinds with commas; `none` is empty."""

    def parse(text: str) -> tuple[str, ...]:
        kinds = tuple(dict.fromkeys(text.split(","))) if text != "none" else ()
        for kind in kinds:
            if kind not in known:
                raise argparse.ArgumentTypeError(f"{kind!r} is not one of {', '.join(known)}")
        return kinds

    return parse
