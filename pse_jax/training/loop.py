"""Training, from a configuration to a checkpoint and its numbers."""

import contextlib
import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from pse_jax import addresses, distributed, models, progress
from pse_jax.addresses import Place
from pse_jax.config import Config
from pse_jax.config_checks import validate
from pse_jax.data import sources, survey
from pse_jax.data.cache import PixelCache, cached_ends
from pse_jax.data.dataset import Dataset
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, canvases_for
from pse_jax.data.sampling import plan_for
from pse_jax.detector import Detector
from pse_jax.processes import coordination, job, stopping
from pse_jax.runs.agreement import check_agreement, check_kept
from pse_jax.runs.checkpoint import Checkpoints
from pse_jax.runs.evaluate import evaluate
from pse_jax.runs.folder import Run
from pse_jax.training import optimizer, resume
from pse_jax.training.callbacks import Callback, Callbacks
from pse_jax.training.clock import Clock
from pse_jax.training.profile import Profile
from pse_jax.training.programs import Programs
from pse_jax.training.reporting import Reporter
from pse_jax.training.run_page import RunPage
from pse_jax.training.step import TrainState, create_state, make_train_step
from pse_jax.weights.start import initial_variables

logger = logging.getLogger(__name__)


def train(
    config: Config,
    folder: str | Place,
    *,
    allow_change: Collection[str] = (),
    from_checkpoint: Place | None = None,
    callbacks: Sequence[Callback] = (),
    profile: int = 0,
) -> dict[str, Any] | None:
    """Trains, or resumes the run in `folder`; returns the last evaluation's numbers.

    Returns None if it was asked to stop: its state is saved, and the same command resumes it.

    Args:
        config: what to train; of a run that resumes, its own.
        folder: of the run, or its address (gs://...).
        allow_change: fields in which `config` may differ from the run's.
        from_checkpoint: DIR/checkpoints/STEP of another run, the state that a new run starts from.
        callbacks: told of what happens, on the main process.
        profile: steps of which a trace is written to the run's profile/, from its eleventh on.

    Raises:
        UserError: for whatever the user can fix; it is in the run's train.log as well.
    """
    clock = Clock()
    validate(config)
    run = Run(addresses.place(folder))
    run.make()  # before devices are touched
    with run.writing():
        origin = resume.check_origin(run, from_checkpoint)
        run.check_claim(config, allow_change)
        with (
            progress.log_to(run.log if distributed.is_main() else None),
            clock.hearing_of_compilers(),
        ):
            logger.info("%-11s %s", "job", job.description())
            told = Callbacks(callbacks if distributed.is_main() else ())
            return _train(config, run, origin, allow_change, clock, told, profile)


def _new_state(
    config: Config, model: models.FCOS, sgd: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state that a run starts from: random, and what `model.init_from` names in its place."""
    logger.info("initializing the model")
    create = jax.jit(
        lambda key: create_state(model, sgd, key), out_shardings=distributed.replicated(mesh)
    )
    # rbg compiles several times faster than the default generator, of which init needs a lot.
    state = create(jax.random.key(config.seed, impl="rbg"))
    state = dataclasses.replace(state, **initial_variables(config, state.variables, mesh))
    return state.averaging(config.optimizer.ema_decay > 0)


def open_data(config: Config) -> tuple[Dataset, Dataset, TrainPlan, PixelCache]:
    """What to train and to evaluate on, and all batches; the same in every process."""
    data = sources.locate(config.data)
    logger.info("reading the annotations")
    train_set, val_set = sources.open_train(data), sources.open_val(data)
    sources.check_categories(train_set.categories, val_set.categories, "the training data")
    check_agreement(
        config, {"training data": train_set, "validation data": val_set}, command="train"
    )
    plan = plan_for(train_set, config)
    val_buckets = canvases_for(val_set.sizes_hw, data, plan.buckets.shapes_hw)
    cached = int(cached_ends(train_set, data.cache_gb).max(initial=0))
    survey.look(train_set, plan.largest, config, data.batch_size, cached)
    survey.look(val_set, val_buckets, config, config.inference.batch_size, cached)
    return train_set, val_set, plan, PixelCache(train_set, data.cache_gb)


def _train(
    config: Config,
    run: Run,
    origin: Place | None,
    allow_change: Collection[str],
    clock: Clock,
    callbacks: Callbacks,
    profiled: int,
) -> dict[str, Any] | None:
    rows = distributed.local_rows(config.data.batch_size, config.train.accumulate)
    distributed.local_rows(config.inference.batch_size)
    total, mesh = config.optimizer.steps, distributed.make_mesh()
    train_set, val_set, plan, cache = open_data(config)
    check_kept(run, {"training data": train_set, "validation data": val_set}, allow_change)
    categories = train_set.categories
    model = models.create(config.model, len(categories))
    sgd = optimizer.create(optimizer.for_batch(config), config.model)
    saved = resume.saved_state(config, run, origin, model, categories, mesh)
    state, window = saved or (_new_state(config, model, sgd, mesh), [])
    start = int(state.step)
    profile = Profile(run.profile, start, total, profiled)
    if not saved:
        run.begin(config)  # a start that failed until here has left its error in the log alone
    checkpoints = Checkpoints(run, config.train.keep_checkpoints)
    report = Reporter(config, run, train_set, plan, start, window, clock, callbacks)
    report.introduce(state.params, val_set)
    page = RunPage(run, report, train_set, val_set)
    train_step = Programs(make_train_step(model, sgd, config, mesh), plan.soon(start))

    def detector(step: int) -> Detector:
        canvases = plan.buckets.shapes_hw
        return Detector(config, categories, state.variables, step, canvases_hw=canvases)

    def save(step: int) -> None:
        with report.doing("save"):
            run.check_held()
            checkpoints.save(detector(step), state.training, report.window())

    def evaluate_now(step: int) -> dict[str, Any] | None:
        """The numbers, on the main process, which scores; the others go on."""
        save(step)
        with report.doing("save"):
            saved = checkpoints.wait()
        doing = f"during the evaluation of step {step}, which is saved"
        with (
            stopping.nothing_to_save(doing) if saved else contextlib.nullcontext(),
            report.doing("evaluate", f"evaluating step {step}"),
        ):
            numbers = evaluate(detector(step), val_set, run.folder)
        if numbers is None:
            return None
        run.check_held_here()
        checkpoints.save_if_best(detector(step), numbers["AP"] or 0.0)
        report.evaluated(step, numbers)
        page.after_evaluation(step)
        return numbers

    def is_due(step: int) -> bool:
        every = config.train.eval_every
        return bool(every) and step % every == 0 and 0 < step < total

    def is_early_end(step: int) -> bool:
        """Whether `train.patience` is exhausted: the main process knows the evaluations."""
        waits = is_due(step) and config.train.patience
        return bool(waits) and coordination.share(report.is_patience_exhausted())

    incoming = batches(
        train_set,
        plan,
        rows=rows,
        threads=config.data.threads,
        prefetch=config.data.prefetch,
        start=start,
        cache=cache,
    )
    step, evaluated, numbers = start, None, None
    # The report closes first: it writes what it could not write before, even if the disk is full.
    with (
        contextlib.closing(profile),
        contextlib.closing(train_step),
        contextlib.closing(checkpoints),
        contextlib.closing(report),
    ):
        if origin:
            save(start)
        if is_due(start) and not resume.is_evaluated(run, start):
            logger.info("the evaluation of step %d was not completed: it is repeated", start)
            evaluated, numbers = start, evaluate_now(start)
        early = is_early_end(start)
        rest = () if early or start >= total else report.waited_for(incoming)
        for step, batch in enumerate(rest, start + 1):
            batch = distributed.to_devices(batch, mesh)
            with profile.step(step), report.compiling(batch, train_step):
                state, scalars = train_step(state, batch)
            stopping.save_from_now_on(coordination.stop_all)
            report.step(step, scalars)
            profile.stepped(step, scalars)
            if step % config.train.checkpoint_every == 0 or step == total:
                save(step)
            if checkpoints.preempted(step):
                save(step)
                break
            if is_due(step):
                evaluated, numbers = step, evaluate_now(step)
                if early := is_early_end(step):
                    break
        if step >= total or early:
            report.close_window(step)
            numbers = numbers if evaluated == step else evaluate_now(step)
            report.conclude(step)
            page.at_end(step)
            return coordination.share(numbers)
        if checkpoints.wait():
            logger.warning("asked to stop: step %d is saved; the same command resumes", step)
        return None
