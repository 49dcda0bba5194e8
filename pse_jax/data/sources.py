"""Opens the data sets that a configuration names."""

import dataclasses
import logging
from pathlib import Path

import numpy as np

from pse_jax import addresses
from pse_jax.addresses import Place
from pse_jax.config import DataConfig
from pse_jax.data import coco
from pse_jax.data.dataset import Dataset
from pse_jax.data.formats import straight
from pse_jax.data.shapes import write_shapes
from pse_jax.data.tfds import prepared
from pse_jax.data.tfds import reader as tfds
from pse_jax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def locate(config: DataConfig) -> DataConfig:
    """The configuration with a root that exists; generates `shapes` if that is the source.

    Raises:
        ConfigError: if there is no data set; says how to provide one.
    """
    if config.source == "shapes":
        root = write_shapes(config.shapes, Path(config.cache_dir).expanduser())
        return dataclasses.replace(
            config,
            root=str(root),
            train_annotations="annotations/instances_train.json",
            train_images="train",
            val_annotations="annotations/instances_val.json",
            val_images="val",
        )
    if config.root and config.source == "coco":
        return straight.names_found(config)
    if config.source == "tfds" and "://" in config.root:
        raise ConfigError(
            f"config.data.root={config.root}: array_record is read from a local or a mounted disk; "
            "mount the bucket or copy the folder, and give that path"
        )
    root = Path(config.root or prepared.default_root()).expanduser()
    if prepared.find(root) is not None:
        if config.source == "coco":
            logger.info("config.data.root is empty: coco/2017 is read by TFDS, from %s", root)
        return dataclasses.replace(config, source="tfds", root=str(root))
    empty = "config.data.root is empty, and " if not config.root else ""
    raise ConfigError(f"{empty}there is no coco/2017 in TFDS's folder {root}.{coco.WAYS}")


def open_split(config: DataConfig, split: str, *, require_images: bool = True) -> Dataset:
    """The "train" or "val" part of the data set; `require_images` as in `coco.load`.

    With `overfit` both are the same few training images.
    """
    config = locate(config)
    if count := config.overfit:
        config = dataclasses.replace(config, overfit=0)
        whole = open_split(config, "train", require_images=require_images).without_empty()
        return whole.select(np.arange(min(count, len(whole))))
    root = addresses.place(config.root)
    if config.source == "tfds":
        official, cache = _official(config, split), Path(config.cache_dir)
        return tfds.load(
            Path(root), split, official, cache, threads=config.threads, exif=config.exif
        )
    annotations = {"train": config.train_annotations, "val": config.val_annotations}[split]
    images = {"train": config.train_images, "val": config.val_images}[split]
    if not addresses.is_remote(root):
        straight.require(Path(root), annotations, split)
    return coco.load(
        _within(root, annotations),
        _within(root, images),
        exif=config.exif,
        outside=config.outside_images,
        require_images=require_images,
    )


def _official(config: DataConfig, split: str) -> Path | None:
    """COCO's own JSON for a split of `tfds`: optional, unless it was asked for by another name."""
    field = f"{split}_annotations"
    file = Path(config.root).expanduser() / Path(getattr(config, field)).expanduser()
    if file.exists():
        return file
    if getattr(config, field) != getattr(DataConfig(), field):
        raise DataError(
            f"no annotations at {file}; with config.data.source=tfds, config.data.{field} names "
            "COCO's official JSON; leave it out to use TFDS's own annotations"
        )
    return None


def _within(root: Place, name: str) -> Place:
    """A part of the data set: below its root, or wherever its path or address says."""
    return addresses.place(name) if addresses.ADDRESS.match(name) else addresses.join(root, name)


def open_train(config: DataConfig) -> Dataset:
    """What is trained on: without images that have no boxes, unless `keep_empty`."""
    dataset = open_split(config, "train")
    if not config.keep_empty:
        dataset = dataset.without_empty()
    if len(dataset) == 0:
        raise DataError(
            f"{dataset.source}: no image has a box to learn from; see the warnings above "
            "for what was left out, or set --config.data.keep_empty=true"
        )
    return dataset


def check_categories(ours: coco.Categories, theirs: coco.Categories, whose: str) -> None:
    """Raises DataError unless two tables have the same ids and names."""
    if ours == theirs:
        return
    a, b = (dict(zip(t.ids, t.names, strict=True)) for t in (ours, theirs))
    different = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    some = ", ".join(f"id {k}: {a.get(k, 'none')} / {b.get(k, 'none')}" for k in different[:5])
    raise DataError(
        f"the categories of the evaluation data differ from those of {whose} ({some}"
        f"{', ...' if len(different) > 5 else ''}); evaluate on annotations with the same category "
        "ids and names"
    )
