"""Which checkpoint is meant, and what else to take where one of them is damaged."""

import logging
from pathlib import Path

from pse_jax.errors import CheckpointError
from pse_jax.runs.folder import Run, steps

logger = logging.getLogger(__name__)


def find(run: Run, which: str) -> tuple[Path, int]:
    """The folder and step of a checkpoint: "best", "latest" or a step's number.

    Where nothing has been evaluated yet, the best is the latest.

    Raises:
        CheckpointError: if it does not exist; names those that do.
    """
    latest, best = steps(run.checkpoints), steps(run.best)
    if which == "best" and best:
        return run.best, best[-1]
    if which == "best" and (damaged := sorted(run.best.glob("*.damaged*"))):
        raise CheckpointError(f"{damaged[-1]} was set aside as damaged. {remedy(run, damaged[-1])}")
    if which in ("best", "latest") and latest:
        return run.checkpoints, latest[-1]
    if which.isdecimal():
        for folder, there in ((run.checkpoints, latest), (run.best, best)):
            if int(which) in there:
                return folder, int(which)
    have = f"latest: steps {latest or 'none'}, best: step {best or 'none'}"
    raise CheckpointError(
        f"{run.folder} has no checkpoint {which!r} (it has {have}); train one with "
        f"`python train.py --config CONFIG --workdir {run.folder}` or give another --workdir"
    )


def remedy(run: Run, damaged: Path) -> str:
    """What to give in place of a damaged checkpoint: `Give --checkpoint latest (step 60) or 40`."""
    latest, best = steps(run.checkpoints), steps(run.best)
    choices = {"latest": run.checkpoints / str(latest[-1])} if latest else {}
    choices |= {"best": run.best / str(best[-1])} if best else {}
    named = [f"{which} (step {path.name})" for which, path in choices.items() if path != damaged]
    rest = [step for step in latest[:-1] if run.checkpoints / str(step) != damaged]
    if others := [*named, *map(str, reversed(rest))]:
        return f"Give --checkpoint {' or '.join(others)}"
    return f"{run.folder} has no other checkpoint; train again in another --workdir"


def set_aside(path: Path) -> None:
    """Renames a damaged checkpoint to STEP.damaged, as training will save that step again."""
    aside, tries = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        tries += 1
        aside = path.with_name(f"{path.name}.damaged-{tries}")
    try:
        path.rename(aside)
    except OSError as error:
        raise CheckpointError(
            f"{path} is damaged and cannot be renamed to {aside.name} ({error.strerror}); "
            "move it away and run the same command again"
        ) from error
    logger.warning("%s is kept as %s", path, aside.name)
