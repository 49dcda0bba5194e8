"""One training step: a pure function from (state, batch) to (state, metrics)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool

from pse_jax import distributed, models
from pse_jax.config import Config
from pse_jax.training.objective import Batch, gradients

Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that changes from step to step; the counters are int32 scalars."""

    step: Any  # steps taken, skipped ones included
    params: dict[str, Any]
    frozen: dict[str, Any]  # folded batch-norm values; constant
    opt_state: Any
    bad_steps: Any  # non-finite steps in a row, up to now
    skipped: Any  # non-finite steps altogether
    average: dict[str, Any] | None = None  # of the parameters over past steps; None: not kept

    @property
    def variables(self) -> models.Variables:
        """What a detector consists of: the average of the parameters, if there is one."""
        return {
            "params": self.params if self.average is None else self.average,
            "frozen": self.frozen,
        }

    @property
    def training(self) -> dict[str, Any]:
        """Everything else, what only training needs."""
        kept = ("step", "opt_state", "bad_steps", "skipped")
        rest = {name: getattr(self, name) for name in kept}
        return rest if self.average is None else {**rest, "params": self.params}

    @staticmethod
    def join(variables: models.Variables, training: dict[str, Any]) -> "TrainState":
        """The state whose `variables` and `training` these are."""
        if "params" not in training:
            return TrainState(**variables, **training)
        frozen, average = variables["frozen"], variables["params"]
        return TrainState(frozen=frozen, average=average, **training)

    def averaging(self, on: bool) -> "TrainState":
        """The same state with or without an average, which begins with the parameters."""
        if on == (self.average is not None):
            return self
        # A copy: a step takes over the buffers of its state, each of them once.
        average = jax.tree.map(jnp.copy, self.params) if on else None
        return dataclasses.replace(self, average=average)


def create_state(
    model: models.FCOS, optimizer: optax.GradientTransformation, key: Array
) -> TrainState:
    """The state before the first step, without an average."""
    variables = models.init(model, key)
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        frozen=variables.get("frozen", {}),
        opt_state=optimizer.init(variables["params"]),
        bad_steps=jnp.int32(0),
        skipped=jnp.int32(0),
    )


def moved(average: dict[str, Any], params: dict[str, Any], step: Array, decay: float) -> Any:
    """The average after one more step: decay · average + (1 - decay) · params.

    With the customary warm-up: the decay is at most (1 + t) / (10 + t) after t steps, so that an
    average of few steps is not one of random weights.
    """
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (1.0 - rate) * (p - a), average, params)


def keep_if(ok: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` where ok, else `old`; counters always move on: the schedule follows the step."""
    return jax.tree.map(
        lambda n, o: jnp.where(ok, n, o) if jnp.issubdtype(n.dtype, jnp.inexact) else n, new, old
    )


def make_train_step(
    model: models.FCOS, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it takes over (donates) the state that it is given.

    A step whose loss or gradient is not finite changes neither parameters nor their average nor
    velocities; it is counted in the state, and the metric `finite` is 0.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        variables = {"params": state.params, "frozen": state.frozen}
        slopes, losses = gradients(variables, batch, model, config, mesh)
        norm = optax.tree.norm(slopes)
        finite = jnp.isfinite(losses.total) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(slopes, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params = keep_if(finite, params, state.params)
        average = state.average
        if average is not None:
            after = moved(average, params, state.step, config.optimizer.ema_decay)
            average = keep_if(finite, after, average)
        bad = (~finite).astype(jnp.int32)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            frozen=state.frozen,
            opt_state=keep_if(finite, opt_state, state.opt_state),
            bad_steps=(state.bad_steps + 1) * bad,
            skipped=state.skipped + bad,
            average=average,
        )
        metrics = {
            "loss": losses.total,
            "cls": losses.classification,
            "box": losses.box,
            "assoc": losses.association,
            "quality": losses.quality,
            "positives": losses.positives,
            "grad_norm": norm,
            "finite": finite.astype(jnp.float32),
            "bad_steps": new_state.bad_steps,
            "skipped": new_state.skipped,
            "unreadable": batch["unreadable"].sum(),
        }
        return new_state, metrics

    same = distributed.replicated(mesh)
    return jax.jit(train_step, donate_argnums=0, out_shardings=(same, same))
