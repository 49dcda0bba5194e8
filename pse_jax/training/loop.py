"""Training, from a configuration to a checkpoint and its numbers."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from pse_jax import distributed, models, progress
from pse_jax.config import Config
from pse_jax.config_checks import validate
from pse_jax.data import sources, survey
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, buckets_for
from pse_jax.detector import Detector
from pse_jax.runs.checkpoint import Checkpoints
from pse_jax.runs.evaluate import evaluate
from pse_jax.runs.folder import Run
from pse_jax.training import optimizer
from pse_jax.training.reporting import Reporter
from pse_jax.training.step import TrainState, create_state, make_train_step
from pse_jax.weights.start import initial_variables

logger = logging.getLogger(__name__)


def train(config: Config, folder: str | Path) -> dict[str, Any] | None:
    """Trains, or resumes the run in `folder`; returns the final evaluation's numbers.

    Returns None if the system asked the run to stop (SIGTERM): its state is saved, and the same
    command resumes it.

    Raises:
        UserError: for whatever the user can fix.
    """
    validate(config)
    run = Run(Path(folder).expanduser())
    rows = distributed.local_rows(config.data.batch_size)
    distributed.local_rows(config.inference.batch_size)
    run.claim(config)
    with progress.log_to(run.log if distributed.is_main() else None):
        return _train(config, run, rows)


def _new_state(
    config: Config, model: models.FCOS, sgd: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state that a run starts from: random, and what `model.init_from` names in its place."""
    create = jax.jit(
        lambda key: create_state(model, sgd, key), out_shardings=distributed.replicated(mesh)
    )
    # rbg compiles several times faster than the default generator, of which init needs a lot.
    state = create(jax.random.key(config.seed, impl="rbg"))
    return dataclasses.replace(state, **initial_variables(config, state.variables, mesh))


def _train(config: Config, run: Run, rows: slice) -> dict[str, Any] | None:
    total = config.optimizer.steps
    mesh = distributed.make_mesh()
    data = sources.locate(config.data)
    train_set, val_set = sources.open_train(data), sources.open_split(data, "val")
    categories = train_set.categories
    sources.check_categories(categories, val_set.categories, "the training data")
    plan = TrainPlan(
        buckets_for(train_set.sizes_hw, data), data.batch_size, config.seed, data.flip, total
    )
    survey.look(train_set, plan.buckets, config, data.batch_size)
    val_buckets = buckets_for(val_set.sizes_hw, data)
    survey.look(val_set, val_buckets, config, config.inference.batch_size)

    model = models.create(config.model, len(categories))
    sgd = optimizer.create(config.optimizer, config.model)
    shapes = jax.eval_shape(lambda key: create_state(model, sgd, key), jax.random.key(0))
    checkpoints = Checkpoints(run, config.train.keep_checkpoints)
    if saved := checkpoints.restore(shapes.variables, shapes.training, mesh):
        state = TrainState(**saved[0], **saved[1])
    else:
        state = _new_state(config, model, sgd, mesh)
    start = int(state.step)
    report = Reporter(config, run, train_set, plan, start)
    report.introduce(shapes.params, val_set)
    train_step = make_train_step(model, sgd, config, mesh)

    def save(step: int) -> None:
        checkpoints.save(Detector(config, categories, state.variables, step), state.training)

    def evaluate_now(step: int) -> dict[str, Any]:
        detector = Detector(config, categories, state.variables, step)
        numbers = evaluate(detector, val_set, run.folder)
        report.writer.write(step, {k: v for k, v in numbers.items() if isinstance(v, float)})
        checkpoints.save_if_best(detector, numbers["AP"] or 0.0)
        return numbers

    incoming = batches(
        train_set, plan, rows=rows, threads=data.threads, prefetch=data.prefetch, start=start
    )
    step = start
    try:
        for step, batch in enumerate(report.clock.timed(incoming), start + 1):
            state, scalars = train_step(state, distributed.to_devices(batch, mesh))
            report.step(step, scalars, compiled=train_step._cache_size())  # pyright: ignore
            if step % config.train.checkpoint_every == 0 or step == total:
                save(step)
            if checkpoints.preempted(step):
                save(step)
                break
            if config.train.eval_every and step % config.train.eval_every == 0 and step < total:
                evaluate_now(step)
                report.clock.start()
        report.close_window(step)
        if step >= total:
            return evaluate_now(step)
        logger.warning("asked to stop: step %d is saved; the same command resumes", step)
        return None
    finally:
        checkpoints.close()
        report.close()
