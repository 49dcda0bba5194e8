"""Checkpoints. The one file that knows Orbax.

DIR/checkpoints/STEP holds the newest states, to resume from; DIR/best/STEP the parameters with the
highest AP so far. Each has the items `params` (with the folded batch norms) and `meta` (JSON: the
configuration, the category table, versions); the former also `training` (all the rest).
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from pse_jax import __version__, distributed
from pse_jax.categories import Categories
from pse_jax.config import to_dict
from pse_jax.detector import Detector
from pse_jax.errors import CheckpointError
from pse_jax.models import Variables
from pse_jax.runs.folder import Run

Tree = dict[str, Any]
Options = ocp.CheckpointManagerOptions


class Checkpoints:
    """The checkpoints of one run, while it trains."""

    def __init__(self, run: Run, keep: int):
        self.run = run
        self.latest = ocp.CheckpointManager(
            run.checkpoints.absolute(), options=Options(max_to_keep=keep)
        )
        self.best = ocp.CheckpointManager(
            run.best.absolute(), options=Options(max_to_keep=1, enable_async_checkpointing=False)
        )

    def save(self, detector: Detector, training: Tree) -> None:
        """Writes a state to resume from, in the background.

        Args:
            detector: as it is after `detector.step` steps.
            training: everything else that the next step needs.
        """
        if detector.step in self.latest.all_steps():
            return
        items = _items(detector, training=ocp.args.StandardSave(training))
        self.latest.save(detector.step, args=items)

    def save_if_best(self, detector: Detector, ap: float) -> None:
        """Replaces the best parameters by these, unless the best had a higher AP.

        The decision rests on what the checkpoint itself says, so that all processes take the same.
        """
        last = self.best.latest_step()
        if last is not None:
            if detector.step <= last or ap < _read_meta(self.best, last)["AP"]:
                return
        self.best.save(detector.step, args=_items(detector, {"AP": ap}))

    def restore(
        self, variables: Variables, training: Tree, mesh: Mesh
    ) -> tuple[Variables, Tree] | None:
        """The newest state, or None if there is none; the arguments give the shapes.

        Raises:
            CheckpointError: if the folder holds a detector that was not trained in it.
        """
        step = self.latest.latest_step()
        if step is None:
            return None
        if not (self.run.checkpoints / str(step) / "training").exists():
            raise CheckpointError(
                f"{self.run.folder} holds imported weights, to be evaluated, not a run to resume; "
                "to train from them, give --config.model.init_from=FILE and another --workdir"
            )
        restored = self.latest.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(_targets(variables, mesh)),
                training=ocp.args.StandardRestore(_targets(training, mesh)),
            ),
        )
        return restored["params"], restored["training"]

    def preempted(self, step: int) -> bool:
        """Whether the system asked any process of this run to stop (SIGTERM)."""
        return jax.distributed.is_initialized() and self.latest.reached_preemption(step)

    def close(self) -> None:
        """Waits until all is written."""
        self.latest.close()
        self.best.close()


def save_detector(detector: Detector, run: Run) -> None:
    """Makes a run's folder of a detector that was not trained in it, to be evaluated.

    Raises:
        CheckpointError: if the folder holds a run already.
        LockError, WriteError: as `Run.writing`.
    """
    run.check_new()
    options = Options(enable_async_checkpointing=False)
    with run.writing():
        run.claim(detector.config)
        with ocp.CheckpointManager(run.checkpoints.absolute(), options=options) as manager:
            manager.save(detector.step, args=_items(detector))


def find(run: Run, which: str) -> tuple[Path, int]:
    """The folder and step of a checkpoint: "best", "latest" or a step's number.

    Where nothing has been evaluated yet, the best is the latest.

    Raises:
        CheckpointError: if it does not exist; names those that do.
    """
    latest, best = (_steps(folder) for folder in (run.checkpoints, run.best))
    if which == "best" and best:
        return run.best, best[-1]
    if which in ("best", "latest") and latest:
        return run.checkpoints, latest[-1]
    if which.isdigit():
        for folder, steps in ((run.checkpoints, latest), (run.best, best)):
            if int(which) in steps:
                return folder, int(which)
    have = f"latest: steps {latest or 'none'}, best: step {best or 'none'}"
    raise CheckpointError(
        f"{run.folder} has no checkpoint {which!r} (it has {have}); train one with "
        f"`python train.py --config CONFIG --workdir {run.folder}` or give another --workdir"
    )


def read_categories(run: Run, which: str) -> Categories:
    """The category table of a checkpoint.

    Raises:
        CheckpointError: if there is no such checkpoint.
    """
    folder, step = find(run, which)
    with ocp.CheckpointManager(folder.absolute()) as manager:
        meta = _read_meta(manager, step)
    return Categories(tuple(meta["category_ids"]), tuple(meta["category_names"]))


def read_variables(run: Run, which: str, shapes: Variables, mesh: Mesh) -> tuple[Variables, int]:
    """Parameters and step of a checkpoint.

    Raises:
        CheckpointError: if it does not exist or holds another model than `shapes`.
    """
    folder, step = find(run, which)
    wanted = _targets({"frozen": {}} | shapes, mesh)
    with ocp.CheckpointManager(folder.absolute()) as manager:
        try:
            restored = manager.restore(
                step, args=ocp.args.Composite(params=ocp.args.StandardRestore(wanted))
            )
        except ValueError as error:
            raise CheckpointError(
                f"the checkpoint {folder / str(step)} does not hold the model of this "
                f"configuration: {error}"
            ) from error
    return restored["params"], step


def _items(detector: Detector, more: Tree | None = None, **items: Any) -> ocp.args.Composite:
    """A detector, and what someone who finds the checkpoint needs to know to use it."""
    meta = {
        "config": to_dict(detector.config),
        "category_ids": list(detector.categories.ids),
        "category_names": list(detector.categories.names),
        "versions": {"pse_jax": __version__, "jax": jax.__version__},
        **(more or {}),
    }
    params = ocp.args.StandardSave({"frozen": {}} | detector.variables)
    return ocp.args.Composite(params=params, meta=ocp.args.JsonSave(meta), **items)


def _read_meta(manager: ocp.CheckpointManager, step: int) -> Tree:
    return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]


def _targets(shapes: Any, mesh: Mesh) -> Any:
    sharding = distributed.replicated(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
