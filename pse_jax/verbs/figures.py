"""Draws the paper's figures, of any loss of the family and of any run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pse_jax.addresses import absolute, named
from pse_jax.runs.remote import staging
from pse_jax.verbs import flags

OF_LOSSES, OF_RUNS = ("surfaces", "family"), ("scatter", "settled", "examples")

EPILOG = """\
surfaces  surfaces_LOSS: Fig. 3, loss and gradient over score and IoU, for each of --losses
family    valleys, gradients: where every loss settles, and how it pushes a score there
scatter   scatter: Fig. 2(a), score against IoU; one row for each of --workdir
settled   settled: where the scores of positives end up, and where their loss alone settles
examples  examples: Fig. 2(b), the better-placed box lost to the better-scored one

Each is written as PNG and PDF. The first two need no run.
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = flags.parser("figures", __doc__, epilog=EPILOG)
    add = parser.add_argument
    add("--out", type=flags.place, metavar="DIR", required=True, help="folder to write to")
    flags.add_workdir(parser, "folders of runs", nargs="+", default=[])
    flags.add_checkpoint(parser)
    add("--label", nargs="+", default=[], help="names of the runs in the figures")
    add("--what", default="", help="some of surfaces,family,scatter,settled,examples; default: all")
    add("--losses", default="pse", help="for the surfaces, some of those in docs/losses.md")
    add("--examples", type=int, default=8, help="how many (default 8)")
    add("--min-score", type=float, default=0.3, help="of an example's kept box (default 0.3)")
    options = flags.parse(parser, argv)
    possible = OF_LOSSES + (OF_RUNS if options.workdir else ())
    options.what = options.what.split(",") if options.what else possible
    for what in sorted(set(options.what) - set(possible)):
        if what in OF_RUNS:
            parser.error(f"--what {what} needs --workdir, the folder of a run")
        parser.error(f"--what {what}: it must be some of {', '.join(OF_LOSSES + OF_RUNS)}")
    if options.label and len(options.label) != len(options.workdir):
        parser.error(f"{len(options.label)} labels for {len(options.workdir)} runs")
    names = options.label or [absolute(workdir).name for workdir in options.workdir]
    options.runs = dict(zip(names, options.workdir, strict=True))
    if len(options.runs) < len(options.workdir):
        parser.error("two runs have the same name; tell them apart with --label")
    return options


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    with staging.writing(options.out) as out:
        written = _draw(options, out)
    print("wrote " + "\n      ".join(named(str(path)) for path in written))
    return 0


def _draw(options: argparse.Namespace, out: Path) -> list[Path]:
    """Draws what is wanted; returns the files."""
    what = options.what
    used = options.runs if set(what) & set(OF_RUNS) else {}
    runs = {label: flags.run_of(options, workdir) for label, workdir in used.items()}
    from pse_jax.experiments.figures import examples, scatter, settled, surfaces
    from pse_jax.experiments.figures.runs import look_at
    from pse_jax.report.style import save
    from pse_jax.report.table_files import write_csv
    from pse_jax.runs.load import load_run, open_val

    written: list[Path] = []
    if "surfaces" in what:
        for name in options.losses.split(","):
            written += save(surfaces.draw_surfaces(name), out, f"surfaces_{name}")
    if "family" in what:
        valleys = surfaces.valleys_of(surfaces.NAMES)
        written += save(surfaces.draw_gradients(valleys), out, "gradients")
        valleys.pop("focal")  # 1 everywhere
        written += save(surfaces.draw_valleys(valleys), out, "valleys")
    rows = {}
    for label, (run, config) in runs.items():
        flags.prepare(config)
        detector = load_run(run, options.checkpoint, config)
        dataset = open_val(detector)
        rows[label], boxes = look_at(detector, dataset)
        if "examples" in what:
            print(f"{label}: ", end="")
            name = "examples" if len(runs) == 1 else f"examples_{label.replace(' ', '_')}"
            limits = options.examples, options.min_score
            written += examples.save_examples(boxes, dataset, out, name, *limits)
    if "settled" in what:
        trained = {name: config.loss for name, (_, config) in runs.items()}
        points = {name: (row["candidate locations"], trained[name]) for name, row in rows.items()}
        written += save(settled.draw_settled(points), out, "settled")
        bins = [{"run": n} | row for n, pair in points.items() for row in settled.table_of(*pair)]
        write_csv(out / "settled.csv", bins)
        written.append(out / "settled.csv")
    if "scatter" in what:
        written += save(scatter.draw_scatter(rows), out, "scatter")
    return written
