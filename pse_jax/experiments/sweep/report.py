"""The tables of a sweep: OUT/sweep.md, OUT/runs.csv and OUT/summary.csv."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pse_jax.experiments.sweep import origin, records
from pse_jax.experiments.sweep.plan import Sweep, describe
from pse_jax.experiments.sweep.records import FAILED, FINISHED, METRICS
from pse_jax.experiments.sweep.results import Outcome
from pse_jax.experiments.sweep.statistics import (
    CONFIDENCE,
    Estimate,
    estimate,
    holm,
    paired_difference,
    pairs,
    sign_flips,
    t_test,
)
from pse_jax.experiments.sweep.variants import BASELINE, OVERVIEW, TABLES, Comparison
from pse_jax.files import write_whole
from pse_jax.report.table_files import write_csv
from pse_jax.report.tables import align

PERCENT = ("AP", "AR", "oracle")  # metrics whose names start so, in percent
SMALLEST = 0.005  # AP: the smallest difference that is of interest
NAMES = {"oracle_AP": "oracle AP", "oracle_gap": "oracle gap", "LaECE": "LaECE0"}


def write(sweep: Sweep, outcomes: list[Outcome], out: Path) -> str:
    """Writes the three files and returns the Markdown."""
    text = markdown(sweep, outcomes, out)
    write_whole(out / "sweep.md", text, "the tables")
    write_csv(out / "runs.csv", [_run_row(outcome) for outcome in outcomes])
    rows = [_summary_row(outcomes, name, key) for name in sweep.variants for key in METRICS]
    write_csv(out / "summary.csv", rows)
    return text


def markdown(sweep: Sweep, outcomes: list[Outcome], out: Path) -> str:
    """Headline, variants, one section per table, the state of every trial, and what made it."""
    variants = [[name, f"`{describe(sweep, name)}`"] for name in sweep.variants]
    parts = [f"# Sweep of {sweep.config_file}", _headline(sweep, outcomes)]
    parts.append(grid(["variant", "differs from the baseline in"], variants))
    for table in _tables(sweep):
        parts += [f"## {table.title}", *_table(table, outcomes)]
    parts += _tests(sweep, outcomes)
    parts += ["## Runs", _runs(outcomes), "## Made by", origin.describe(sweep, outcomes, out)]
    return "\n\n".join(parts) + "\n"


def _tables(sweep: Sweep) -> list[Comparison]:
    """The tables that were asked for, and one of the variants that are in none of them."""
    tables = [TABLES[name] for name in sweep.tables]
    shown = {name for table in tables for name in table.variants} - {BASELINE}
    others = tuple(name for name in sweep.variants if name not in shown)
    if others == (BASELINE,):
        return tables
    return [*tables, Comparison("Other variants" if tables else "Variants", others, OVERVIEW)]


def _values(outcomes: Iterable[Outcome], variant: str, metric: str) -> dict[int, float]:
    """A metric of a variant's finished trials, by seed."""
    mine = (o for o in outcomes if o.trial.variant == variant and o.state == FINISHED)
    return {o.trial.seed: o.metrics[metric] for o in mine}


def _headline(sweep: Sweep, outcomes: list[Outcome]) -> str:
    finished, failed = (sum(o.state == state for o in outcomes) for state in (FINISHED, FAILED))
    seeds = sorted({o.trial.seed for o in outcomes})
    shared = "".join(f", {path}={value}" for path, value in sweep.shared.items())
    counts = f"{finished} of {len(outcomes)} runs finished, {failed} failed"
    return (
        f"{sweep.baseline.optimizer.steps} steps{shared}; seeds {', '.join(map(str, seeds))}; "
        f"{counts}. Cells are means ± standard deviations over the seeds; differences are those to "
        f"the baseline of the same seed, with their {CONFIDENCE:.0%} confidence interval (paired "
        "t-test) where there are two seeds or more. AP, AR and the oracle are in percent. The "
        "score behind every correlation is the one that the detections are ranked by."
    )


def _table(table: Comparison, outcomes: list[Outcome]) -> list[str]:
    """Means, and paired differences to the baseline."""
    names = [NAMES.get(metric, metric) for metric in table.metrics]
    base = [_values(outcomes, BASELINE, metric) for metric in table.metrics]
    means, differences = [], []
    for variant in table.variants:
        mine = [_values(outcomes, variant, metric) for metric in table.metrics]
        means.append([variant, str(len(mine[0])), *map(_spread_cell, table.metrics, mine)])
        if variant != BASELINE:
            count = paired_difference(mine[0], base[0]).count
            cells = map(_difference_cell, table.metrics, mine, base)
            differences.append([variant, str(count), *cells])
    return [
        grid(["variant", "seeds", *names], means),
        grid(["variant - baseline", "pairs", *names], differences),
    ]


def _tests(sweep: Sweep, outcomes: list[Outcome]) -> list[str]:
    """Whether the AP of each variant differs from the baseline's; nothing before two pairs."""
    base, others = _values(outcomes, BASELINE, "AP"), [v for v in sweep.variants if v != BASELINE]
    found = [pairs(_values(outcomes, name, "AP"), base) for name in others]
    if max(map(len, found), default=0) < 2:
        return []
    by_t = [t_test(list(values.values())) for values in found]
    corrected, rows = holm(by_t), []
    for name, values, p, p_holm in zip(others, found, by_t, corrected, strict=True):
        d, flips = estimate(values), sign_flips(list(values.values()))
        wins = sum(value > 0 for value in values.values())
        cells = map(_probability, (p, p_holm, flips))
        rows.append([name, f"{wins} of {d.count}", *cells, _verdict(d, p_holm)])
    header = [
        "AP, variant - baseline",
        "higher in",
        "p (t)",
        "p (Holm)",
        "p (sign flips)",
        "verdict",
    ]
    return ["## Tests of AP", grid(header, rows)]


def _probability(p: float) -> str:
    """Four digits; a dash for NaN."""
    if math.isnan(p):
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def _verdict(d: Estimate, p_holm: float) -> str:
    """What an interval and its corrected p say."""
    if p_holm < 1 - CONFIDENCE:
        return "higher" if d.mean > 0 else "lower"
    if -SMALLEST < d.low and d.high < SMALLEST:
        return f"the same within {_number('AP', SMALLEST)}"
    return "open"


def _runs(outcomes: list[Outcome]) -> str:
    names = ("AP", "AP50", "AP75", "PCC", "oracle_gap")
    rows = []
    for o in outcomes:
        state = o.state if o.state == FINISHED else f"**{o.state}**"
        if o.step and o.state != FINISHED:
            state += f" at step {o.step}"
        if o.state == FAILED:
            state += f", see {o.trial.output}"
        cells = (_number(name, o.metrics[name]) for name in names)
        rows.append([o.trial.variant, str(o.trial.seed), state, *cells])
    return grid(["variant", "seed", "state", *(NAMES.get(name, name) for name in names)], rows)


def _number(metric: str, value: float, sign: str = "") -> str:
    """A number as people quote it: AP 35.4, PCC 0.512, a count; a dash for NaN."""
    if math.isnan(value):
        return "-"
    if metric == "detections":
        return f"{value:{sign},.0f}"
    return f"{value * 100:{sign}.1f}" if metric.startswith(PERCENT) else f"{value:{sign}.3f}"


def _spread_cell(metric: str, values: dict[int, float]) -> str:
    """`35.4 ± 0.3`; without the deviation if there is one trial."""
    s = estimate(values)
    cell = _number(metric, s.mean)
    return cell if math.isnan(s.deviation) else f"{cell} ± {_number(metric, s.deviation)}"


def _difference_cell(metric: str, ours: dict[int, float], theirs: dict[int, float]) -> str:
    """`+1.6 [+0.9, +2.3]`; without the interval if there is one pair."""
    d = paired_difference(ours, theirs)
    mean, low, high = (_number(metric, value, "+") for value in (d.mean, d.low, d.high))
    return mean if math.isnan(d.low) else f"{mean} [{low}, {high}]"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned: text to the left, numbers to the right."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(header)
    right = [all(cell[:1] in "<+-0123456789" for cell in column) for column in columns]
    lines = align([header, *rows], right)
    ends = (":" if flush else "-" for flush in right)
    rule = ["-" * (len(cell) - 1) + end for cell, end in zip(lines[0], ends, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _run_row(o: Outcome) -> dict[str, Any]:
    return (
        {"variant": o.trial.variant, "seed": o.trial.seed, "state": o.state, "step": o.step}
        | {name: o.metrics[name] for name in METRICS}
        | {name: o.facts.get(name) for name in records.FACTS}
        | {"workdir": str(o.trial.folder), "log": str(o.trial.output)}
    )


def _summary_row(outcomes: list[Outcome], variant: str, metric: str) -> dict[str, Any]:
    mine = _values(outcomes, variant, metric)
    s, d = estimate(mine), paired_difference(mine, _values(outcomes, BASELINE, metric))
    row: dict[str, Any] = {"variant": variant, "metric": metric, "seeds": s.count}
    row |= {"mean": s.mean, "standard_deviation": s.deviation}
    if variant != BASELINE:
        row |= {"pairs": d.count, "difference": d.mean, "ci_low": d.low, "ci_high": d.high}
    return row
