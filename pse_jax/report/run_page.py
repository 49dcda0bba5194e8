"""A run's report.html: what it is, how it went and what it can do, on one page."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pse_jax.config import Config
from pse_jax.evaluation import patience
from pse_jax.evaluation.confusion import Confusion, confusion_matrix
from pse_jax.evaluation.curves import precision_recall
from pse_jax.evaluation.judged import Judged
from pse_jax.evaluation.measure import SIZES
from pse_jax.report import page, plots, plots_classes, run_plots, run_tables, style, tables
from pse_jax.report.labels import LabelStatistics
from pse_jax.report.run_tables import defined
from pse_jax.report.showcase import Shown, jpeg

# Of the loss: a term that is 0 throughout is not in use.
TERMS = {"cls": "classification", "box": "box", "assoc": "association", "quality": "quality"}
Row = tuple[int, Mapping[str, Any]]  # a step and its scalars


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """All that the page shows; what is None is missing, and `missing` says why."""

    config: Config
    folder: str
    rows: Sequence[Row]  # of metrics.jsonl
    numbers: Mapping[str, Any] | None  # of the newest evaluation
    judged: Judged | None  # its detections
    shown: Sequence[Shown]
    labels: LabelStatistics | None  # of what is trained on
    seconds: Mapping[str, float]  # that each kind of work took
    about: Mapping[str, str]  # facts in words: devices, versions
    commands: Mapping[str, str]  # what to type, by what it does
    changes: Sequence[Sequence[str]]  # step, field, before, after: what was changed in mid-run
    missing: Mapping[str, str]  # by section: what is missing and what would bring it
    made: str  # when, in words


def render(facts: RunFacts) -> str:
    """The page, as HTML."""
    trained = [(step, row) for step, row in facts.rows if "loss" in row]
    evaluated = [(step, row) for step, row in facts.rows if "loss" not in row]
    figures = {
        name: _inline(style.svg(figure), "svg+xml")
        for name, figure in _figures(facts, trained, evaluated).items()
    }
    return page.PAGES.get_template("run.html").render(
        facts=facts,
        cards=_cards(facts, trained, evaluated),
        status=_status(facts.config, trained, evaluated),
        figures=figures,
        tables=_tables(facts, evaluated),
        pictures=[
            {"kind": one.kind, "caption": one.caption}
            | {
                side: _inline(jpeg(picture), "jpeg")
                for side, picture in (("truth", one.truth), ("found", one.found))
                if picture is not None
            }
            for one in facts.shown
        ],
    )


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _status(config: Config, trained: Sequence[Row], evaluated: Sequence[Row]) -> str:
    """`step 700 of 700, finished`, or that and where `train.patience` ended the run."""
    last, total = trained[-1][0] if trained else 0, config.optimizer.steps
    if last >= total:
        return f"step {last:,} of {total:,}, finished"
    every = config.train.eval_every
    due = [
        (step, float(np.nan_to_num(defined(row.get("AP")))))
        for step, row in evaluated
        if every and step % every == 0
    ]
    if patience.exhausted(due, config.train.patience):
        best = patience.best(due)[0]
        return f"stopped early by train.patience at step {last:,} of {total:,} (best at {best:,})"
    return f"step {last:,} of {total:,}"


def _cards(
    facts: RunFacts, trained: Sequence[Row], evaluated: Sequence[Row]
) -> list[tuple[str, str]]:
    """The numbers at the top, and what they are."""
    cards = []
    if facts.numbers is not None:
        step = f"step {int(facts.numbers['step']):,}"
        ap, ap50 = (defined(facts.numbers.get(key)) for key in ("AP", "AP50"))
        cards.append((tables.percent(ap), f"AP at {step}, COCO's mean over IoU .50 to .95"))
        cards.append((tables.percent(ap50), f"AP50 at {step}: IoU 0.5 is enough"))
    all_ap = [(defined(row.get("AP")), step) for step, row in evaluated]
    if best := [pair for pair in all_ap if not np.isnan(pair[0])]:
        ap, step = max(best, key=lambda pair: pair[0])
        cards.append((tables.percent(ap), f"highest AP of the run, at step {step:,}"))
    if facts.numbers is not None:
        pcc = defined(facts.numbers.get("PCC"))
        cards.append((tables.number(pcc), "correlation (PCC) of a detection's score and its IoU"))
    if trained:
        loss = defined(trained[-1][1].get("loss"))
        cards.append((tables.number(loss), f"loss in training, at step {trained[-1][0]:,}"))
    return cards


def _series(rows: Sequence[Row], names: Mapping[str, str]) -> dict[str, run_plots.Series]:
    """The scalars that have a value, by the name of the curve."""
    steps = np.array([step for step, _ in rows], np.float64)
    series = {}
    for key, name in names.items():
        values = np.array([defined(row.get(key)) for _, row in rows], np.float64)
        used = np.isfinite(values) & ((values != 0) | (key not in TERMS))
        if used.any():
            series[name] = (steps, np.where(np.isfinite(values), values, np.nan))
    return series


def _figures(
    facts: RunFacts, trained: Sequence[Row], evaluated: Sequence[Row]
) -> dict[str, Figure]:
    """All that there is something to draw for."""
    total = max([facts.config.optimizer.steps, *(step for step, _ in facts.rows)])
    ap = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "oracle_AP": "ranking oracle"}
    percents = [(step, {key: 100 * defined(row.get(key)) for key in ap}) for step, row in evaluated]
    wanted = {
        "loss": (_series(trained, {"loss": "total", **TERMS}), "loss", False),
        "lr": (_series(trained, {"lr": "learning rate"}), "learning rate", True),
        "ap": (_series(percents, ap), "AP, %", False),
        "correlation_by_step": (
            _series(evaluated, {name: name for name in ("PCC", "SCC", "KCC")}),
            "correlation of score and IoU",
            False,
        ),
        "speed": (_series(trained, {"images_per_second": ""}), "images per second", False),
    }
    figures = {
        name: run_plots.curves(series, total, label, log=log)
        for name, (series, label, log) in wanted.items()
        if series
    }
    if facts.judged is not None and len(facts.judged.found):
        figures |= _judged_figures(facts.judged)
    if facts.labels is not None:
        figures["class_counts"] = run_plots.class_counts(facts.labels)
        limits = [high**0.5 for _, high in SIZES.values() if np.isfinite(high)]
        figures["box_sizes"] = run_plots.box_sizes(facts.labels, limits)
        figures["per_image"] = run_plots.objects_per_image(facts.labels)
    if facts.seconds:
        figures["times"] = run_plots.shares(facts.seconds)
    return figures


def _judged_figures(judged: Judged) -> dict[str, Figure]:
    keep, found = judged.counted, judged.found
    correct = judged.matches.correct[keep]
    figures = {
        "correlation": plots.scatter(found.scores, judged.ious),
        "precision": plots_classes.precision_recall(precision_recall(judged.truth, found)),
        "confusion": plots_classes.confusion(_confusion(judged)),
    }
    if keep.any():
        figures["threshold"] = plots.f1(found.scores[keep], correct, int(judged.objects.sum()))
    return figures


def _confusion(judged: Judged) -> Confusion:
    return confusion_matrix(judged.truth, judged.found, threshold=judged.threshold)


def _tables(facts: RunFacts, evaluated: Sequence[Row]) -> dict[str, tables.Table]:
    made = {
        "differing": run_tables.differing(facts.config),
        "fields": run_tables.fields(facts.config),
        "about": tables.Table("The run", ["", ""], [[k, v] for k, v in facts.about.items()]),
        "changes": tables.Table(
            "Changed in mid-run",
            ["after step", "field", "was", "is"],
            [list(c) for c in facts.changes],
        ),
    }
    if evaluated:
        made["evaluations"] = run_tables.evaluations(evaluated)
    if facts.numbers is not None:
        made["correlation"] = run_tables.correlation(facts.numbers)
        made["precision"] = run_tables.coco(facts.numbers)
    if facts.judged is not None:
        made["classes"] = run_tables.classes(facts.judged)
        made["threshold"] = run_tables.overall(facts.judged)
        made["confusion"] = run_tables.mistakes(_confusion(facts.judged))
    if facts.labels is not None:
        made["labels"] = run_tables.labels(facts.labels)
    if facts.seconds:
        made["times"] = run_tables.times(facts.seconds)
    return made
