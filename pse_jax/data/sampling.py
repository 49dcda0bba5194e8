"""What training sees of a data set: how often each image, and at which sizes."""

import logging
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from pse_jax.config import Config
from pse_jax.data import augment
from pse_jax.data.augment import Augment
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan, buckets_for, resized_sizes

logger = logging.getLogger(__name__)

RAREST_SHOWN = 5


def images_with(dataset: Dataset) -> Int[np.ndarray, " c"]:
    """How many images have a box of each category."""
    image = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    pairs = np.unique(np.stack([dataset.labels, image]), axis=1)
    return np.bincount(pairs[0], minlength=len(dataset.categories))


def category_factors(dataset: Dataset, threshold: float) -> Float[np.ndarray, " c"]:
    """r(c) = max(1, √(t / f(c))), f(c) the share of images that show c (LVIS, app. B).

    1 for a category that no image shows.
    """
    share = images_with(dataset) / len(dataset)
    return np.maximum(1.0, np.sqrt(threshold / np.where(share > 0, share, 1.0)))


def repeat_factors(dataset: Dataset, threshold: float) -> Float[np.ndarray, " n"]:
    """How often an epoch has each image: the largest r(c) of its categories; 1 without boxes."""
    factors = np.ones(len(dataset))
    image = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    np.maximum.at(factors, image, category_factors(dataset, threshold)[dataset.labels])
    return factors


def plan_for(dataset: Dataset, config: Config) -> TrainPlan:
    """All batches of a run, as the configuration says; the same in every process."""
    data = config.data
    jitter = [
        resized_sizes(dataset.sizes_hw, side, data.long_side, data.resize) for side in data.jitter
    ]
    factors = repeat_factors(dataset, data.repeat_threshold) if data.repeat_threshold else None
    plan = TrainPlan(
        buckets_for(dataset.sizes_hw, data),
        data.batch_size,
        config.seed,
        data.flip,
        config.optimizer.steps,
        jitter,
        factors,
        Augment(data, config.seed) if augment.wanted(data) else None,
    )
    for sentence in _choices(dataset, plan, config, factors):
        logger.info(sentence)
    return plan


def _choices(
    dataset: Dataset, plan: TrainPlan, config: Config, factors: Float[np.ndarray, " n"] | None
) -> Iterator[str]:
    data = config.data
    if data.jitter:
        sides = ", ".join(map(str, data.jitter))
        yield (
            f"short sides of {sides} px, drawn for each batch, in {len(plan.buckets.shapes_hw)} "
            f"buckets: {len(plan.shapes_hw)} image shapes, each compiled when it first comes"
        )
    if factors is not None:
        of_class, images = category_factors(dataset, data.repeat_threshold), images_with(dataset)
        repeated = int((factors > 1).sum())
        there = np.flatnonzero(images)
        rarest = there[np.argsort(images[there], kind="stable")][:RAREST_SHOWN]
        named = ", ".join(
            f"{dataset.categories.names[c]} ({images[c]:,} images) x{of_class[c]:.2f}"
            for c in rarest
        )
        yield (
            f"{repeated:,} of {len(dataset):,} images are repeated, an epoch has {plan.epoch:,.0f}"
            f"; the rarest classes: {named}"
        )
