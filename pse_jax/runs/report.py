"""report.html in a run's folder: gathered from its files and its data, and written."""

import contextlib
import dataclasses
import datetime
import json
import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import pse_jax
from pse_jax import processors
from pse_jax.addresses import named
from pse_jax.config import Config
from pse_jax.data import sources
from pse_jax.data.coco import load_results
from pse_jax.data.dataset import Dataset
from pse_jax.errors import UserError
from pse_jax.evaluation.judged import Judged, judge
from pse_jax.files import read_regular, reason, write_whole
from pse_jax.losses.detection import describe_loss
from pse_jax.report import run_page, showcase
from pse_jax.report.labels import label_statistics
from pse_jax.report.showcase import Shown
from pse_jax.runs.folder import Run, detections_file, numbers_file, read_metrics
from pse_jax.runs.times import read_times

logger = logging.getLogger(__name__)

T = TypeVar("T")
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of a page."""

    page: Path
    shown: Sequence[Shown]  # images, drawn
    missing: dict[str, str]  # what the page lacks, by section, and why
    seconds: float


def note_job(run: Run, job: str) -> None:
    """Notes in the run's job.json what trains it: command, devices, processor, versions, commit.

    Raises:
        WriteError: if it cannot be written.
    """
    facts = {
        "command": shlex.join(sys.orig_argv),
        "devices": job,
        "processor": processors.name(),
        "commit": _commit(),
        "versions": {"pse_jax": pse_jax.__version__, **{name: version(name) for name in LIBRARIES}},
    }
    content = json.dumps(facts, indent=2) + "\n"
    if not run.job_file.is_file() or run.job_file.read_text(errors="replace") != content:
        write_whole(run.job_file, content, "what trains the run")


def _commit() -> str | None:
    """Of the checkout that this package lies in: `6be6acd`, `6be6acd, changed`; None elsewhere."""
    root = Path(pse_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root), "describe", "--always", "--dirty=, changed", "--exclude=*"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(git, capture_output=True, check=True, text=True, timeout=20)
        return done.stdout.strip()
    return None


def write(
    run: Run,
    *,
    train_set: Dataset | None = None,
    val_set: Dataset | None = None,
) -> Written:
    """Makes the page from the run's files; what is missing or damaged, the page says.

    Args:
        run: whose config.json can be read.
        train_set: what it is trained on; opened if not given.
        val_set: what it is judged by; opened if not given.

    Raises:
        UserError: if the configuration cannot be read or the page cannot be written.
    """
    began = time.perf_counter()
    config, missing = run.config(), {}
    rows, damaged = read_metrics(run.metrics)
    if not rows:
        missing["metrics"] = f"{run.metrics.name} is missing or has no rows: no curves."
    elif damaged:
        missing["metrics"] = f"{damaged} damaged lines of {run.metrics.name} are left out."
    train_set = train_set or _or_why(missing, "labels", lambda: sources.open_train(config.data))
    numbers = _newest_numbers(run, missing)
    judged = None
    if numbers is not None:
        val_set = val_set or _or_why(
            missing, "images", lambda: sources.open_split(config.data, "val")
        )
        judged = _judged(run, numbers, val_set, missing)
    shown = showcase.showcase(judged, val_set) if judged and val_set and len(judged.found) else []
    facts = run_page.RunFacts(
        config=config,
        folder=named(str(run.folder)),
        rows=rows,
        numbers=numbers,
        judged=judged,
        shown=shown,
        labels=label_statistics(train_set) if train_set else None,
        seconds=_seconds(run, missing),
        about=_about(run, config, train_set, val_set),
        commands=_commands(run, numbers, val_set),
        changes=_changes(run),
        missing=missing,
        made=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    write_whole(run.report, run_page.render(facts), "the report")
    return Written(run.report, shown, missing, time.perf_counter() - began)


def _or_why(missing: dict[str, str], section: str, get: Callable[[], T]) -> T | None:
    """What `get` returns, or None and in `missing` why it could not."""
    try:
        return get()
    except (UserError, OSError) as error:
        missing[section] = f"The data cannot be read: {named(str(error))}"
        return None


def _newest_numbers(run: Run, missing: dict[str, str]) -> dict[str, Any] | None:
    """The numbers of the newest evaluation that can be read, with its `step`."""
    damaged = []
    steps = [path.stem.removeprefix("eval_") for path in run.folder.glob("eval_*.json")]
    for step in sorted((int(step) for step in steps if step.isdecimal()), reverse=True):
        file = numbers_file(run.folder, step)
        try:
            numbers = json.loads(read_regular(file))
        except (OSError, ValueError, RecursionError):
            numbers = None
        if isinstance(numbers, dict):
            if damaged:
                missing["detections"] = f"{damaged[0]} is damaged; this is of step {step}."
            return {**numbers, "step": step}
        damaged.append(file.name)
    why = f"{damaged[0]} is damaged" if damaged else "There is no evaluation in the folder yet"
    for section in ("detections", "images"):
        missing[section] = f"{why}; python eval.py --workdir {named(str(run.folder))} makes one."
    return None


def _judged(
    run: Run,
    numbers: Mapping[str, Any],
    val_set: Dataset | None,
    missing: dict[str, str],
) -> Judged | None:
    """The detections of an evaluation, matched with the objects of the validation data."""
    if val_set is None:
        missing["detections"] = missing["images"]
        return None
    step = int(numbers["step"])
    file = detections_file(run.folder, step)
    try:
        run.fetch_file(file)
        found = load_results(file, val_set)
    except (UserError, OSError) as error:
        why = reason(error) if isinstance(error, OSError) else named(str(error))
        for section in ("detections", "images"):
            missing[section] = f"The detections of step {step} cannot be read: {why}"
        return None
    if not len(found):
        missing["images"] = missing["detections"] = (
            f"The detector found nothing at step {step}: no score reached "
            "inference.score_threshold."
        )
    return judge(step, dict(numbers), val_set, found)


def _about(
    run: Run, config: Config, train_set: Dataset | None, val_set: Dataset | None
) -> dict[str, str]:
    """What the run is, one fact a line."""
    job = _json(run.job_file)
    facts = {"folder": named(str(run.folder))}
    if train_set:
        facts["training data"] = f"{train_set.source}: {len(train_set):,} images"
    if val_set:
        facts["validation data"] = f"{val_set.source}: {len(val_set):,} images"
    facts["loss"] = describe_loss(config.loss, config.model.quality)
    facts["batch"] = f"{config.data.batch_size} images a step"
    if isinstance(devices := job.get("devices"), str):
        facts["devices"] = devices
    if isinstance(versions := job.get("versions"), dict):
        facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return facts


def _commands(
    run: Run, numbers: Mapping[str, Any] | None, val_set: Dataset | None
) -> dict[str, str]:
    """What to type to go on with the run, or with what it has learnt."""
    folder = named(str(run.folder))
    where = shlex.quote(folder)
    again = _json(run.job_file).get("command")
    verb = "python -m pse_jax"
    commands = {}
    resume = f"python train.py --config CONFIG --workdir {where}"
    commands["Resume it, or train for more steps (--config.optimizer.steps=N)"] = (
        again if isinstance(again, str) else resume
    )
    commands |= {
        "Find the objects in your own images": f"{verb} predict --workdir {where} IMAGE_OR_FOLDER",
        "Use it in Python": f"import pse_jax\ndetector = pse_jax.load({folder!r})\n"
        'found = detector("photo.jpg")',
        "Export it": f"{verb} export --workdir {where} --out model/",
        "Evaluate it again": f"python eval.py --workdir {where}",
        "Make this page anew": f"{verb} report --workdir {where}",
    }
    if numbers is not None and val_set is not None:
        file = shlex.quote(named(str(detections_file(run.folder, numbers["step"]))))
        truth = shlex.quote(val_set.source)
        commands["Calibration, kinds of errors, worst-ranked pairs"] = (
            f"{verb} analyze --annotations {truth} --detections {file}"
        )
    return commands


def _changes(run: Run) -> list[list[str]]:
    """What was changed in the configuration in mid-run: step, field, before, after."""
    rows = []
    try:
        lines = run.history.read_text(errors="replace").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            entry = json.loads(line)
            rows += [
                [f"{entry['step']:,}", path, str(before), str(after)]
                for path, (before, after) in entry["changed"].items()
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            rows.append(["?", f"a damaged line of {run.history.name}", "", ""])
    return rows


def _json(file: Path) -> dict[str, Any]:
    """What a file holds; nothing, where it is missing or damaged."""
    try:
        found = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(run: Run, missing: dict[str, str]) -> dict[str, float]:
    """What each kind of work took, of times.json."""
    seconds = {k: s for k, s in read_times(run.times)["seconds"].items() if s > 0}
    if not seconds:
        missing["times"] = f"{run.times.name} is missing, as in runs of older versions, or damaged."
    return seconds
