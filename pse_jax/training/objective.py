"""What a step minimises: the losses of a batch and their gradients, at once or in parts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from pse_jax import models
from pse_jax.config import Config
from pse_jax.losses.detection import Divisors, Losses, detection_losses, divisors
from pse_jax.points import locations
from pse_jax.targets import Targets, assign

Batch = dict[str, Array]


def batch_targets(batch: Batch, config: Config, mesh: Mesh) -> Targets:
    """The targets of a batch; those of an image are computed on the device that holds it."""
    shape = (batch["image"].shape[1], batch["image"].shape[2])
    points_xy, levels = (jnp.asarray(a) for a in locations(*shape, config.model.grid))

    def assign_all(boxes: Array, labels: Array, valid: Array) -> Targets:
        one = lambda b, k, v: assign(points_xy, levels, b, k, v, config.targets)  # noqa: E731
        return jax.vmap(one)(boxes, labels, valid)

    rows = PartitionSpec("data")
    local = jax.shard_map(assign_all, mesh=mesh, in_specs=rows, out_specs=rows)
    return local(batch["boxes"], batch["labels"], batch["box_valid"])


def batch_losses(
    variables: models.Variables, batch: Batch, model: models.FCOS, config: Config, mesh: Mesh
) -> Losses:
    """The losses of a batch, all of it at once."""
    targets = batch_targets(batch, config, mesh)
    over = divisors(targets, batch["image_valid"], config)
    return _losses(variables, (batch, targets), over, model, config)


def _losses(
    variables: models.Variables,
    part: tuple[Batch, Targets],
    over: Divisors,
    model: models.FCOS,
    config: Config,
) -> Losses:
    """What some images of a batch add to its losses."""
    batch, targets = part
    images = models.preprocess(batch["image"], batch["size_hw"], config.model)
    predictions: Any = model.apply(variables, images)
    return detection_losses(predictions, targets, batch["image_valid"], config, over)


def in_parts(batch: Any, parts: int, mesh: Mesh) -> Any:
    """[b, ...] to [parts, b / parts, ...]: each device splits its own images, and none moves."""
    split = jax.shard_map(
        lambda tree: jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(None, "data"),
    )
    return split(batch)


def gradients(
    variables: models.Variables, batch: Batch, model: models.FCOS, config: Config, mesh: Mesh
) -> tuple[dict[str, Any], Losses]:
    """The gradients by the parameters, and the losses, of a batch that is computed in parts.

    All parts share the divisors of the whole batch, so that `train.accumulate` changes no more than
    the order of a sum. The activations of one part at a time are in memory.
    """
    targets, parts = batch_targets(batch, config, mesh), config.train.accumulate
    over = divisors(targets, batch["image_valid"], config)
    batch = {name: batch[name] for name in ("image", "size_hw", "image_valid")}

    def objective(params: dict[str, Any], part: tuple[Batch, Targets]) -> tuple[Array, Losses]:
        losses = _losses(variables | {"params": params}, part, over, model, config)
        return losses.total, losses

    slopes = jax.grad(objective, has_aux=True)
    if parts == 1:
        return slopes(variables["params"], (batch, targets))
    nothing = Losses(*(jnp.zeros(()) for _ in dataclasses.fields(Losses)))
    start = jax.tree.map(jnp.zeros_like, variables["params"]), nothing

    def add(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, slopes(variables["params"], part)), None

    return jax.lax.scan(add, start, in_parts((batch, targets), parts, mesh))[0]
