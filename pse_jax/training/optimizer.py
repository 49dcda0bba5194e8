"""SGD as PyTorch does it, in FCOS's parameter groups, and FCOS's schedule."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from pse_jax.config import Config, ModelConfig, OptimizerConfig
from pse_jax.models import is_frozen


def for_batch(config: Config) -> OptimizerConfig:
    """The optimiser with the learning rate for this run's batch, as `batch_rule` says.

    linear: proportional to the batch (Goyal et al., 2017). Steps and milestones stay.
    """
    given = config.optimizer
    if given.batch_rule == "none":
        return given
    rate = given.learning_rate * config.data.batch_size / given.base_batch
    return dataclasses.replace(given, learning_rate=rate)


def describe_rate(config: Config) -> str:
    """The learning rate and, for another batch than it is meant for, what the linear rule says."""
    given, batch = config.optimizer, config.data.batch_size
    linear = given.learning_rate * batch / given.base_batch
    share = f"{batch / given.base_batch:g} of the {given.base_batch} that"
    if batch == given.base_batch:
        return f"{given.learning_rate:g}"
    if given.batch_rule == "linear":
        return (
            f"{linear:g} by the linear rule: a batch of {batch} is {share} "
            f"{given.learning_rate:g} is meant for"
        )
    return (
        f"{given.learning_rate:g}; a batch of {batch} is {share} it is meant for "
        f"(config.optimizer.base_batch), and the linear rule would give {linear:g}: "
        "--config.optimizer.batch_rule=linear"
    )


def learning_rate(iteration: Any, config: OptimizerConfig, xp: Any = np) -> Any:
    """The rate of the weights at an iteration, counted from 1 as in the logs of FCOS.

    Warm-up until `warmup_steps`, then divided at each milestone: with the paper's values 0.01/3 for
    iterations 1..499, 0.01 for 500..59,999, 0.001 from 60,000 and 0.0001 from 80,000 on.

    Args:
        iteration: one or many.
        config: the schedule.
        xp: numpy, or jax.numpy inside a jitted step.
    """
    passed = sum((iteration >= m) * 1 for m in config.milestones)
    rate = config.learning_rate * config.gamma**passed
    factor = config.warmup_factor
    if config.warmup == "linear":
        factor = factor + (1 - factor) * iteration / max(config.warmup_steps, 1)
    return xp.where(iteration < config.warmup_steps, rate * factor, rate)


def group_of(path: tuple[str, ...], model: ModelConfig) -> str:
    """The group of a parameter, by its name, as FCOS's solver groups them.

    "frozen"; "bias", convolutions' and GroupNorm's; or "weight", all else, so also GroupNorm's
    scales and the scales of the levels.
    """
    if is_frozen(path, model):
        return "frozen"
    return "bias" if path[-1] == "bias" else "weight"


def labels(params: dict[str, Any], model: ModelConfig) -> dict[str, Any]:
    """The group of every parameter, in the shape of the parameters."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: group_of(tuple(key.key for key in path), model), params
    )


def carry_over(state: tuple[Any, ...], like: tuple[Any, ...]) -> tuple[Any, ...]:
    """An optimiser's state for one that clips or does not: clipping precedes and keeps nothing."""
    return (*like[:-1], state[-1])


def clipping(most: float) -> optax.GradientTransformation:
    """Scales all gradients so that their global norm is at most `most`; keeps no state.

    By one factor. `optax.clip_by_global_norm` divides every element by the norm: a loop of its own
    for each parameter, a tenth of the time that compiling a small step takes.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        norm = optax.tree.norm(updates)
        factor = jnp.where(norm > most, most / norm, 1.0)
        return jax.tree.map(lambda slope: slope * factor, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def create(config: OptimizerConfig, model: ModelConfig) -> optax.GradientTransformation:
    """Plain SGD: g ← g + decay·p; v ← momentum·v + g; p ← p - rate·v.

    The decay is coupled (added before the momentum) and the rate stays outside the velocity, so
    that a drop of the rate does not rescale what the velocity remembers: PyTorch's, not Caffe2's.
    """

    def group(rate_factor: float, decay: float) -> optax.GradientTransformation:
        def rate(count: ArrayLike) -> jax.Array:  # optax counts from 0
            return learning_rate(jnp.asarray(count) + 1, config, jnp) * rate_factor

        return optax.chain(
            optax.add_decayed_weights(decay),
            optax.trace(config.momentum),
            optax.scale_by_learning_rate(rate),
        )

    groups: dict[Hashable, optax.GradientTransformation] = {
        "weight": group(1.0, config.weight_decay),
        "bias": group(config.bias_lr_factor, config.bias_weight_decay),
        "frozen": optax.set_to_zero(),
    }
    label: Callable = lambda params: labels(params, model)  # noqa: E731
    clip = [clipping(config.clip_norm)] if config.clip_norm else []
    return optax.chain(*clip, optax.partition(groups, label))
