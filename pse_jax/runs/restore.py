"""The state that training resumes from: the newest that is whole, or one of another run."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pse_jax import distributed
from pse_jax.addresses import Place, absolute
from pse_jax.errors import CheckpointError, DamagedError
from pse_jax.models import Variables
from pse_jax.runs.checkpoint import read_arrays, read_meta, with_frozen
from pse_jax.runs.folder import Run, steps
from pse_jax.runs.steps import set_aside

Tree = dict[str, Any]
# Shapes of the variables and of the rest of a state, given the metadata that it was saved with.
Like = Callable[[Tree], tuple[Variables, Tree]]

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Saved:
    """A state to resume from."""

    meta: Tree  # step, configuration and categories that it was saved with, window of metrics
    variables: Variables
    training: Tree


def newest(run: Run, like: Like, mesh: Mesh) -> Saved | None:
    """The newest state of a run that is whole, or None if there is none at all.

    The main process reads, for all. Newer states that are damaged are named in the log and renamed
    to STEP.damaged.

    Raises:
        CheckpointError: if the folder holds a detector that was not trained in it, states of
            another model, or none that is whole.
    """

    def find_whole() -> Saved | None:
        damage: list[tuple[Path, DamagedError]] = []
        for step in reversed(steps(run.checkpoints)):
            path = run.checkpoints / str(step)
            try:
                found = _read_state(path, like)
            except DamagedError as error:
                damage.append((path, error))
                continue
            for path, error in damage:
                logger.error("passed over: %s", error)
                set_aside(path)
            return found
        aside = [f"{path}: set aside earlier" for path in run.checkpoints.glob("*.damaged*")]
        if not damage and not aside:
            return None
        listing = "\n  ".join([*(str(error) for _, error in damage), *sorted(aside)])
        raise CheckpointError(
            f"{run.folder} has no whole checkpoint to resume from:\n  {listing}\nRestore one from "
            "a copy, move these away to start from step 0, or give another --workdir"
        )

    return _on_every_process(find_whole, like, mesh)


def of_another_run(path: Place, like: Like, mesh: Mesh) -> Saved:
    """The state in DIR/checkpoints/STEP of another run.

    Raises:
        CheckpointError: if there is none, or it is damaged or of another model.
    """
    run = Run(absolute(path).parents[1])

    def read() -> Saved:
        there = steps(run.checkpoints)
        if absolute(path).parent.name != run.checkpoints.name or not path.name.isdecimal():
            raise CheckpointError(
                f"{path} is not DIR/checkpoints/STEP, a state to continue from; only checkpoints/ "
                "has these, best/ has parameters alone"
            )
        if int(path.name) not in there:
            raise CheckpointError(f"{path} does not exist; there are steps {there or 'none'}")
        try:
            return _read_state(run.checkpoints / path.name, like)
        except DamagedError as error:
            others = [step for step in there if step != int(path.name)]
            raise CheckpointError(f"{error}. There are also steps {others or 'none'}") from error

    saved = _on_every_process(read, like, mesh)
    assert saved is not None
    return saved


def _read_state(path: Path, like: Like) -> Saved:
    meta = read_meta(path)
    described = meta.get("arrays")
    if described is None:
        imported = path.name == "0" and not (path / "training").exists()
        logger.info("%s was saved without checksums: its values are not verified", path)
    else:
        imported = not any(name.startswith("training/") for name in described)
    if imported:
        raise CheckpointError(
            f"{path.parents[1]} holds imported weights, to be evaluated, not a run to resume; "
            "to train from them, give --config.model.init_from=FILE and another --workdir"
        )
    variables, training = like(meta)
    return Saved(
        {"step": int(path.name), **meta},
        read_arrays(path, meta, "params", with_frozen(variables)),
        read_arrays(path, meta, "training", training),
    )


def _on_every_process(read: Callable[[], Saved | None], like: Like, mesh: Mesh) -> Saved | None:
    """What `read` returns on the main process, on every process, its arrays on every device."""
    saved: Saved | None = None

    def read_meta() -> Tree | None:
        nonlocal saved
        saved = read()
        return saved and saved.meta

    meta = _json_from_main(read_meta)
    if meta is None:
        return None
    variables, training = like(meta)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (with_frozen(variables), training))
    arrays = distributed.from_main(lambda: saved and (saved.variables, saved.training), like=zeros)
    return Saved(meta, *distributed.to_every_device(arrays, mesh))


def _json_from_main(compute: Callable[[], Any]) -> Any:
    """What `compute` returns on the main process, which JSON can hold, on every process."""
    text = b""

    def encode() -> np.int32:
        nonlocal text
        text = json.dumps(compute()).encode()
        return np.int32(len(text))

    length = int(distributed.from_main(encode, like=np.int32(0)))
    blank = np.zeros(length, np.uint8)
    return json.loads(bytes(distributed.from_main(lambda: np.frombuffer(text, np.uint8), blank)))
