"""Where training starts from: the run's newest state, or one of another run."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pse_jax import addresses, distributed, models
from pse_jax.addresses import Place
from pse_jax.categories import Categories
from pse_jax.config import Config
from pse_jax.data import sources
from pse_jax.errors import CheckpointError
from pse_jax.runs import restore
from pse_jax.runs.checkpoint import categories_of
from pse_jax.runs.folder import Run, detections_file, numbers_file, read_metrics, steps
from pse_jax.training import optimizer
from pse_jax.training.step import TrainState, create_state


def check_origin(run: Run, from_checkpoint: Place | None) -> Place | None:
    """The state of another run to start from; None where this run has begun already.

    Raises:
        CheckpointError: if this run began elsewhere.
    """
    if from_checkpoint is None:
        return None
    origin = addresses.absolute(addresses.place(from_checkpoint))
    if not steps(run.checkpoints):
        return origin
    if run.origin != str(origin):
        raise CheckpointError(
            f"{run.folder} holds a run already, which started from {run.origin or 'step 0'}, not "
            f"from {origin}; give another --workdir"
        )
    return None


def saved_state(
    config: Config,
    run: Run,
    origin: Place | None,
    model: models.FCOS,
    categories: Categories,
    mesh: Mesh,
) -> tuple[TrainState, list[dict[str, Any]]] | None:
    """The state to go on from and its pending metrics; None for a run that begins.

    Records in the run's folder what has changed in the configuration.

    Args:
        config: of the run from now on.
        run: the run.
        origin: DIR/checkpoints/STEP of another run, which this one begins with.
        model: of the configuration.
        categories: of the training data.
        mesh: the devices.

    Raises:
        CheckpointError: if there is no whole state, or only of another model.
        DataError: if the state has other categories than the data.
    """

    @functools.cache
    def shapes(clip_norm: float, ema_decay: float) -> TrainState:
        sgd = optimizer.create(
            dataclasses.replace(config.optimizer, clip_norm=clip_norm), config.model
        )
        return jax.eval_shape(
            lambda key: create_state(model, sgd, key).averaging(ema_decay > 0), jax.random.key(0)
        )

    def like(meta: dict[str, Any]) -> tuple[models.Variables, dict[str, Any]]:
        before = meta["config"]["optimizer"]
        clip_norm = before.get("clip_norm", config.optimizer.clip_norm)
        state = shapes(clip_norm, before.get("ema_decay", 0.0))
        return state.variables, state.training

    if origin is None:
        saved = restore.newest(run, like, mesh)
    else:
        saved = restore.of_another_run(origin, like, mesh)
    if saved is None:
        return None
    sources.check_categories(categories, categories_of(saved.meta), "the checkpoint")
    run.record(config, saved.meta["step"], origin)
    state = TrainState.join(saved.variables, saved.training)
    now = shapes(config.optimizer.clip_norm, config.optimizer.ema_decay)
    opt_state = optimizer.carry_over(state.opt_state, now.opt_state)
    state = dataclasses.replace(state, opt_state=opt_state).averaging(now.average is not None)
    return state, [] if origin else saved.meta.get("window", [])


def is_evaluated(run: Run, step: int) -> bool:
    """Whether the evaluation of a step is complete; its row of metrics is written last."""

    def check() -> np.int32:
        rows, _ = read_metrics(run.metrics)
        written = any(at == step and "loss" not in row for at, row in rows)
        files = (numbers_file(run.folder, step), detections_file(run.folder, step))
        return np.int32(written and all(file.is_file() for file in files))

    return bool(distributed.from_main(check, like=np.int32(0)))
