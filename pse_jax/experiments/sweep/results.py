"""What the trials of a sweep have come to: the state and numbers of each."""

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from pse_jax.data import sources
from pse_jax.data.coco import load_results
from pse_jax.errors import ResultsError
from pse_jax.evaluation import measure
from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.experiments.sweep import records
from pse_jax.experiments.sweep.launch import last_step
from pse_jax.experiments.sweep.plan import Sweep, Trial, read_numbers
from pse_jax.experiments.sweep.records import (
    FAILED,
    FINISHED,
    METRICS,
    MISSING,
    RANKING,
    UNFINISHED,
)
from pse_jax.files import write_whole
from pse_jax.runs.folder import detections_file

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One trial as it stands; NaN for a metric that is not there."""

    trial: Trial
    state: str
    step: int  # reached
    metrics: dict[str, float]
    facts: dict[str, Any]  # of a finished one, what made it: records.FACTS


def collect(sweep: Sweep, out: Path) -> list[Outcome]:
    """The outcome of every trial, in the order in which they run.

    That of a finished one comes from its folder, or, where that is gone, from its row in runs.csv.
    """
    rows = records.read(out)
    found = [outcome(trial) for trial in sweep.trials(out)]
    return [_recorded(one, rows.get((one.trial.variant, one.trial.seed))) for one in found]


def unfinished(sweep: Sweep, out: Path) -> list[Trial]:
    """The trials to be trained; logs how many are not, and why."""
    outcomes = collect(sweep, out)
    left = [o.trial for o in outcomes if o.state != FINISHED]
    gone = sum(o.state == FINISHED and not o.trial.folder.exists() for o in outcomes)
    if done := len(outcomes) - len(left):
        rest = f"; {gone} of these have no folder, but a row in runs.csv" if gone else ""
        logger.info("%d of %d runs are already finished%s", done, len(outcomes), rest)
    return left


def _recorded(found: Outcome, row: dict[str, Any] | None) -> Outcome:
    """The outcome by the row, for a trial that is not finished by its folder."""
    if row is None or found.state == FINISHED:
        return found
    metrics = {name: row[name] for name in METRICS}
    known = {name: row[name] for name in records.FACTS if row.get(name)}
    return Outcome(found.trial, FINISHED, row["step"], metrics, known)


def outcome(trial: Trial) -> Outcome:
    """How one trial stands.

    Raises:
        ConfigError: if its folder holds a run with another configuration.
    """
    numbers = read_numbers(trial)
    if numbers is None:
        state = UNFINISHED if trial.output.exists() else MISSING
        state = FAILED if trial.exit_status.is_file() else state
        return Outcome(trial, state, last_step(trial), dict.fromkeys(METRICS, math.nan), {})
    numbers |= _ranking(trial, numbers)
    values = {n: math.nan if numbers[n] is None else float(numbers[n]) for n in METRICS}
    return Outcome(trial, FINISHED, numbers["step"], values, records.facts(trial.folder))


def _ranking(trial: Trial, numbers: dict[str, Any]) -> dict[str, Any]:
    """rho_img, rho_cls, LaECE0 and LaACE0 of the final detections; kept in ranking_STEP.json.

    A file without LaACE is of an earlier version, whose LaECE had another matching: made anew.
    """
    file = trial.folder / f"ranking_{numbers['step']}.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if set(RANKING) <= set(kept):
        return kept
    truth = sources.open_split(trial.config.data, "val")
    found = load_results(detections_file(trial.folder, numbers["step"]), truth)
    values: dict[str, Any] = dict.fromkeys(RANKING)
    try:
        examined = measure.examine(truth, found)
        classes = measure.class_table(examined, numbers["per_class"])
        values["rho_img"] = measure.nan_mean(measure.image_ranks(examined))
        values["rho_cls"] = measure.nan_mean(np.array([row["rho_cls"] for row in classes]))
        calibrated = measure.calibrate(examined)
        values |= {name: calibrated[name] for name in ("LaECE", "LaACE")}
    except ResultsError:  # no detections
        pass
    write_whole(file, json.dumps(nan_to_none(values)) + "\n", "the ranking")
    return values
