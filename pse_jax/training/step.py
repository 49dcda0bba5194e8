"""One training step: a pure function from (state, batch) to (state, metrics)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool

from pse_jax import distributed, models
from pse_jax.config import Config
from pse_jax.losses.detection import Losses, detection_losses
from pse_jax.points import locations
from pse_jax.targets import Targets, assign

Batch = dict[str, Array]
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

    @property
    def variables(self) -> models.Variables:
        """What the model needs."""
        return {"params": self.params, "frozen": self.frozen}

    @property
    def training(self) -> dict[str, Any]:
        """Everything else, what only training needs."""
        everything = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v for k, v in everything.items() if k not in ("params", "frozen")}


def create_state(
    model: models.FCOS, optimizer: optax.GradientTransformation, key: Array
) -> TrainState:
    """The state before the first step."""
    variables = models.init(model, key)
    return TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        frozen=variables.get("frozen", {}),
        opt_state=optimizer.init(variables["params"]),
        bad_steps=jnp.int32(0),
        skipped=jnp.int32(0),
    )


def batch_losses(
    variables: models.Variables, batch: Batch, model: models.FCOS, config: Config, mesh: Mesh
) -> Losses:
    """The losses of a batch; the targets of an image are computed on the device that holds it."""
    images = models.preprocess(batch["image"], batch["size_hw"], config.model)
    predictions: Any = model.apply(variables, images)
    shape = (batch["image"].shape[1], batch["image"].shape[2])
    points_xy, levels = (jnp.asarray(a) for a in locations(*shape, config.model.grid))

    def assign_all(boxes: Array, labels: Array, valid: Array) -> Targets:
        one = lambda b, k, v: assign(points_xy, levels, b, k, v, config.targets)  # noqa: E731
        return jax.vmap(one)(boxes, labels, valid)

    rows = PartitionSpec("data")
    local = jax.shard_map(assign_all, mesh=mesh, in_specs=rows, out_specs=rows)
    targets = local(batch["boxes"], batch["labels"], batch["box_valid"])
    return detection_losses(predictions, targets, batch["image_valid"], config)


def keep_if(ok: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` where ok, else `old`; counters always move on: the schedule follows the step."""
    return jax.tree.map(
        lambda n, o: jnp.where(ok, n, o) if jnp.issubdtype(n.dtype, jnp.inexact) else n, new, old
    )


def make_train_step(
    model: models.FCOS, optimizer: optax.GradientTransformation, config: Config, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted step; it takes over (donates) the state that it is given.

    A step whose loss or gradient is not finite changes neither parameters nor velocities; it is
    counted in the state, and the metric `finite` is 0.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        def objective(params: dict[str, Any]) -> tuple[Array, Losses]:
            variables = {"params": params, "frozen": state.frozen}
            losses = batch_losses(variables, batch, model, config, mesh)
            return losses.total, losses

        gradients, losses = jax.grad(objective, has_aux=True)(state.params)
        norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(losses.total) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        bad = (~finite).astype(jnp.int32)
        new_state = TrainState(
            step=state.step + 1,
            params=keep_if(finite, params, state.params),
            frozen=state.frozen,
            opt_state=keep_if(finite, opt_state, state.opt_state),
            bad_steps=(state.bad_steps + 1) * bad,
            skipped=state.skipped + bad,
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
