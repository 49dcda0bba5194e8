"""OUT/runs.csv: one row per trial, with every number of it that is in the tables.

A finished run whose folder was removed, or is on another machine, counts by its row.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

from pse_jax.errors import ConfigError
from pse_jax.evaluation import coco
from pse_jax.evaluation.correlation import COEFFICIENTS
from pse_jax.runs.folder import Run
from pse_jax.runs.times import read_times

FINISHED, FAILED, UNFINISHED, MISSING = "finished", "failed", "unfinished", "missing"
RANKING = ("rho_img", "rho_cls", "LaECE", "LaACE")
METRICS = (*coco.METRICS, *COEFFICIENTS, "oracle_AP", "oracle_gap", *RANKING, "detections")
FACTS = ("hours", "processor", "devices", "versions", "commit")  # what made a run
Key = tuple[str, int]  # variant and seed


def read(out: Path) -> dict[Key, dict[str, Any]]:
    """The rows of the finished runs: step and metrics as numbers, NaN where there is none.

    Raises:
        ConfigError: naming the file and its line, if one can't be read.
    """
    file = out / "runs.csv"
    if not file.is_file():
        return {}
    rows = {}
    with file.open(newline="") as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            try:
                if row["state"] != FINISHED:
                    continue
                numbers = {name: float(row.get(name) or math.nan) for name in METRICS}
                rows[row["variant"], int(row["seed"])] = row | numbers | {"step": int(row["step"])}
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{file}, line {reader.line_num}: {error!r}; it holds the results of finished "
                    "runs. Restore it, or remove it if the folders of all runs are there"
                ) from None
    return rows


def facts(folder: Path) -> dict[str, Any]:
    """What made a run, by times.json and job.json; less than all if one is missing or damaged."""
    run = Run(folder)
    known: dict[str, Any] = {}
    try:
        job = json.loads(run.job_file.read_bytes())
        versions = ", ".join(f"{name} {number}" for name, number in job["versions"].items())
        known = {name: job.get(name) for name in FACTS} | {"versions": versions}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        pass
    return known | {"hours": round(sum(read_times(run.times)["seconds"].values()) / 3600, 4)}
