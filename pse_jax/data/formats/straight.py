"""Training on a folder as it is: the names of its annotations and images, found by looking."""

import dataclasses
import logging
import os
from pathlib import Path

from pse_jax.config import DataConfig
from pse_jax.data.formats.advice import explained
from pse_jax.data.formats.look import USABLE, look
from pse_jax.errors import DataError

logger = logging.getLogger(__name__)

NAMES = ("train_annotations", "train_images", "val_annotations", "val_images")


def names_found(config: DataConfig) -> DataConfig:
    """The configuration with the names of what is in its root, where COCO 2017's are not there.

    Names that somebody gave are left as they are. Only a folder in COCO's format has such names;
    of any other, `require` says what it is.
    """
    root, default = Path(config.root).expanduser(), DataConfig()
    given = any(getattr(config, name) != getattr(default, name) for name in NAMES)
    files = (root / config.train_annotations, root / config.val_annotations)
    if given or not root.is_dir() or any(map(os.path.exists, files)):
        return config
    found = look(root)
    if found.kind not in USABLE:
        return config
    names = {}
    for split in ("train", "val"):
        for part in found.parts.get(split, ())[:1]:
            names[f"{split}_annotations"] = os.path.relpath(part.labels, root)
            names[f"{split}_images"] = os.path.relpath(part.images, root)
    told = ", ".join(
        names[name] for name in NAMES if name.endswith("annotations") and name in names
    )
    logger.info("%s is %s; taken: %s", root, found.what, told)
    return dataclasses.replace(config, **names)


def require(root: Path, annotations: str, split: str) -> None:
    """Raises DataError if there is no such file in a folder in which something else is known."""
    if os.path.exists(root / annotations) or not root.exists():
        return
    said = explained(root, f"a folder with {annotations} for {split}")
    if said:
        raise DataError(said)
