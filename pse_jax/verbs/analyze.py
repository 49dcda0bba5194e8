"""Measures how well the scores of any detector's COCO results file rank and predict its boxes.

Prints tables and writes analysis.json and report.html, a page that opens offline.
"""

import json
from collections.abc import Sequence

from pse_jax.data.coco import load_ground_truth, load_results
from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.evaluation.measure import examine
from pse_jax.evaluation.summary import summarise
from pse_jax.files import make_folder, write_whole
from pse_jax.report import tables
from pse_jax.report.page import write_report
from pse_jax.report.pictures import check_images
from pse_jax.runs.remote import staging
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("analyze", __doc__)
    add = parser.add_argument
    add("--annotations", type=flags.place, required=True, help="ground truth: COCO instances file")
    add("--detections", type=flags.place, required=True, help="COCO results file of any framework")
    add("--images", type=flags.path, help="folder of the images, to draw the worst-ranked pairs")
    add("--exif", choices=("apply", "ignore"), default="apply", help="EXIF orientation of photos")
    add("--outside-images", action="store_true", help="let file names lead out of --images")
    add("--out", type=flags.place, help="folder to write; by default analysis/ beside --detections")
    add("--examples", type=int, default=12, help="worst-ranked pairs to show (default 12)")
    options = flags.parse(parser, argv)
    if options.examples < 0:
        parser.error(f"--examples {options.examples}: must be 0 or more")
    out = options.out or options.detections.parent / "analysis"

    truth = load_ground_truth(options.annotations)
    found = load_results(options.detections, truth)
    if options.images is not None:
        check_images(options.images, truth, found, options.outside_images)
    examined = examine(truth, found)
    summary = summarise(examined, options.examples)
    content = json.dumps(nan_to_none(summary), indent=1, allow_nan=False)
    with staging.writing(out) as folder:
        make_folder(folder, "the folder of the analysis")
        write_whole(folder / "analysis.json", content + "\n", "the analysis")
        write_report(folder / "report.html", examined, summary, options.images, options.exif)
    print(tables.render(summary))
    print(f"wrote {out / 'analysis.json'} and {out / 'report.html'}")
    return 0
