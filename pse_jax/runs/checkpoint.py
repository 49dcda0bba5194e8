"""Checkpoints. The one file that knows Orbax.

DIR/checkpoints/STEP holds the newest states, to resume from; DIR/best/STEP the parameters with the
highest AP so far. Each has the items `params` (with the folded batch norms) and `meta` (JSON: the
configuration, the category table, versions, and a checksum of every array and of itself); the
former also `training` (all the rest). Older ones have no checksums.
"""

import dataclasses
import functools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental.multihost_utils import reached_preemption_sync_point
from jax.sharding import Mesh

from pse_jax import __version__, distributed
from pse_jax.categories import Categories
from pse_jax.config import to_dict
from pse_jax.data.padding import Canvases
from pse_jax.detector import Detector
from pse_jax.errors import CheckpointError, DamagedError
from pse_jax.models import Variables
from pse_jax.runs import checksums
from pse_jax.runs.folder import Run, steps
from pse_jax.runs.remote import mirror
from pse_jax.runs.steps import find, remedy, set_aside

Tree = dict[str, Any]
Options = ocp.CheckpointManagerOptions

logger = logging.getLogger(__name__)


class _Manager(ocp.CheckpointManager):
    """Leaves the question whether to stop to `Checkpoints.preempted`.

    Orbax asks it too, in a thread that finishes an earlier save, with that save's step. JAX takes
    the last question for the present step and plans to stop after the next one: it would lie in the
    past, and nothing would ever stop.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The checkpoints of one run, while it trains; made after `restore.newest`."""

    def __init__(self, run: Run, keep: int):
        self.run = run
        # Of a run at an address each process has a local copy: the main one alone writes, to its.
        self.alone = run.mirror is not None and jax.process_count() > 1
        _silence_orbax()
        main = distributed.is_main()
        latest = main or not self.alone
        self.latest = _manager(run.checkpoints, self.alone, max_to_keep=keep) if latest else None
        # Only the main process writes the best, whatever the others do meanwhile.
        options = {"max_to_keep": 1, "enable_async_checkpointing": False}
        self.best = _manager(run.best, alone=True, **options) if main else None

    def save(self, detector: Detector, training: Tree, window: list[Tree] | None = None) -> None:
        """Writes a state to resume from, in the background.

        Args:
            detector: as it is after `detector.step` steps.
            training: everything else that the next step needs.
            window: metrics that are not yet written to the log.
        """
        if self.latest is None or detector.step in self.latest.all_steps():
            return
        if self.alone:
            variables, training = distributed.own_copy((detector.variables, training))
            detector = dataclasses.replace(detector, variables=variables)
        items = _items(detector, {"window": window or []}, training=training)
        self.latest.save(detector.step, args=items)

    def save_if_best(self, detector: Detector, ap: float) -> None:
        """Replaces the best parameters by these, unless the best had a higher AP.

        The main process does so alone. The decision rests on what the checkpoint itself says. One
        that is damaged is set aside.
        """
        if self.best is None or not self._is_best(detector, ap):
            return
        own = dataclasses.replace(detector, variables=distributed.own_copy(detector.variables))
        self.best.reload()
        self.best.save(own.step, args=_items(own, {"AP": ap}))

    def _is_best(self, detector: Detector, ap: float) -> bool:
        there = steps(self.run.best)
        if not there:
            return True
        path = self.run.best / str(there[-1])
        try:
            meta = read_meta(path)
            read_arrays(path, meta, "params", with_frozen(detector.variables))
        except CheckpointError as error:
            logger.error("%s; the parameters of step %d replace it", error, detector.step)
            set_aside(path)
            return True
        return detector.step > there[-1] and ap >= meta.get("AP", 0.0)

    def preempted(self, step: int) -> bool:
        """Whether any process of this run was asked to stop, by now; to be called every step."""
        return jax.distributed.is_initialized() and reached_preemption_sync_point(step)

    def wait(self) -> bool:
        """Waits until the last state is whole on the disk, or at the run's address.

        Returns False, on every process, if an address could not be written to; it is tried again.
        """
        if self.latest is not None:
            self.latest.wait_until_finished()
        return self.run.saved()

    def close(self) -> None:
        """Waits until all is written."""
        for manager in (self.latest, self.best):
            if manager is not None:
                manager.close()


def _manager(folder: Path, alone: bool, **options: Any) -> _Manager:
    """Orbax's, of a folder; `alone`: of this process, which does not ask the others."""
    if alone:
        folder.mkdir(parents=True, exist_ok=True)
        options |= {"create": False, "multiprocessing_options": _alone()}
    return _Manager(folder.absolute(), options=Options(**options))


def _alone() -> ocp.options.MultiprocessingOptions:
    """This process reads or writes without the others."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})


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


def read_categories(run: Run, which: str) -> Categories:
    """The category table of a checkpoint.

    Raises:
        CheckpointError: if there is no such checkpoint, or it is damaged.
    """
    return categories_of(_meta_of(run, which))


def read_canvases(run: Run, which: str) -> Canvases:
    """The canvases on which the detector of a checkpoint was trained; () in older ones.

    Raises:
        CheckpointError: if there is no such checkpoint, or it is damaged.
    """
    return tuple((int(h), int(w)) for h, w in _meta_of(run, which).get("canvases_hw", ()))


def _meta_of(run: Run, which: str) -> Tree:
    folder, step = find(run, which)
    path = folder / str(step)
    try:
        return read_meta(path)
    except DamagedError as error:
        raise CheckpointError(f"{error}. {remedy(run, path)}") from error


def categories_of(meta: Tree) -> Categories:
    """The category table in the metadata of a checkpoint."""
    return Categories(tuple(meta["category_ids"]), tuple(meta["category_names"]))


def read_variables(run: Run, which: str, shapes: Variables, mesh: Mesh) -> tuple[Variables, int]:
    """Parameters and step of a checkpoint.

    Raises:
        CheckpointError: if it does not exist, is damaged or holds another model than `shapes`.
    """
    folder, step = find(run, which)
    path = folder / str(step)
    try:
        params = read_arrays(path, read_meta(path), "params", with_frozen(shapes))
    except DamagedError as error:
        raise CheckpointError(f"{error}. {remedy(run, path)}") from error
    return distributed.to_every_device(params, mesh), step


def with_frozen(variables: Variables) -> Variables:
    """The item `params`: it has `frozen` also where nothing is."""
    return {"frozen": {}} | variables


def _items(
    detector: Detector, more: Tree | None = None, training: Tree | None = None
) -> ocp.args.Composite:
    """A detector, and what someone who finds the checkpoint needs to know to use it."""
    trees = {"params": with_frozen(detector.variables)}
    trees |= {} if training is None else {"training": training}
    meta = {
        "step": detector.step,
        "config": to_dict(detector.config),
        "category_ids": list(detector.categories.ids),
        "category_names": list(detector.categories.names),
        "canvases_hw": [list(canvas) for canvas in detector.canvases_hw],
        "versions": {"pse_jax": __version__, "jax": jax.__version__},
        **(more or {}),
        # Only the main process writes JSON.
        "arrays": checksums.describe(trees) if distributed.is_main() else {},
    }
    meta["crc32"] = checksums.of_json(meta)
    arrays = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
    return ocp.args.Composite(meta=ocp.args.JsonSave(meta), **arrays)


def read_meta(path: Path) -> Tree:
    """The metadata of a checkpoint, DIR/checkpoints/STEP or DIR/best/STEP.

    Raises:
        DamagedError: if they cannot be read, or are not those that were saved.
    """
    mirror.fetch(path)
    file = path / "meta" / "metadata"
    try:
        meta = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise DamagedError(f"{path} is damaged: {file.relative_to(path)}: {why}") from error
    needed = {"config", "category_ids", "category_names"}
    if not isinstance(meta, dict) or not needed <= meta.keys():
        raise DamagedError(f"{path} is damaged: meta/metadata lacks what every checkpoint has")
    if {"arrays", "crc32", "step"} & meta.keys():
        if meta.get("crc32") != checksums.of_json(meta) or "arrays" not in meta:
            raise DamagedError(f"{path} is damaged: meta/metadata is not what was saved")
        if str(meta["step"]) != path.name:
            raise DamagedError(f"{path} is damaged: it holds step {meta['step']}")
    return meta


def read_arrays(path: Path, meta: Tree, item: str, shapes: Any) -> Any:
    """The arrays of an item, on the host of this process alone; verified if they can be.

    Raises:
        DamagedError: if they cannot be read, or are not those that were saved.
        CheckpointError: if they are of another model than `shapes`.
    """
    mirror.fetch(path)
    described = meta.get("arrays")
    if described is not None:
        described = {k: v for k, v in described.items() if k.startswith(f"{item}/")}
        _check_model(path, checksums.mismatch(described, {item: shapes}))
    alone = _alone()
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    wanted = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), shapes)
    _silence_orbax()
    try:
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
            args = ocp.args.StandardRestore(wanted)
            arrays = reader.restore((path / item).absolute(), args=args)
    except Exception as error:  # whatever Orbax and TensorStore raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        if described is None and "tree structures do not match" in first:
            _check_model(path, "its arrays have other names")
        first = first[:200].rstrip(" :.")
        raise DamagedError(f"{path} is damaged: {item} cannot be read: {first}") from error
    if described is None:
        _check_model(path, checksums.mismatch(checksums.describe({item: arrays}), {item: shapes}))
    elif what := checksums.damaged(described, {item: arrays}):
        raise DamagedError(f"{path} is damaged: {what}")
    return arrays


@functools.cache
def _silence_orbax() -> None:
    """Leaves out the tracebacks of its tasks and threads: it also raises what they log."""
    print_it = sys.unraisablehook

    def is_news(record: logging.LogRecord) -> bool:
        return not (record.exc_info and (record.name == "asyncio" or "orbax" in record.pathname))

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            print_it(unraisable)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(is_news)
    sys.unraisablehook = hook


def _check_model(path: Path, difference: str | None) -> None:
    if difference:
        raise CheckpointError(
            f"the checkpoint {path} does not hold the model of this configuration: {difference}"
        )
