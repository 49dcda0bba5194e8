"""A detector from wherever it is: a run's folder or a published detector's file."""

import dataclasses
import os

import jax

from pse_jax import addresses, distributed, models
from pse_jax.addresses import Place
from pse_jax.config import Config
from pse_jax.data import sources
from pse_jax.data.dataset import Dataset
from pse_jax.detector import Detector
from pse_jax.errors import CheckpointError, UserError
from pse_jax.runs.checkpoint import read_categories, read_variables
from pse_jax.runs.folder import Run
from pse_jax.weights.published import load_published


def load(source: str | os.PathLike, checkpoint: str = "best") -> Detector:
    """A detector, ready to use.

    Args:
        source: the folder of a run, or its address (gs://...); or a published FCOS detector, a
            .pth or .safetensors file or the address of one.
        checkpoint: of a run: "best" (by AP), "latest", or a step's number.

    Raises:
        UserError: if there is no such run, checkpoint or file, or it cannot be used.
    """
    where = os.fspath(source)
    if where.startswith(("https://", "http://")):
        detector = load_published(where)[0]
    else:
        detector = _load_from(addresses.place(source), where, checkpoint)
    device = jax.local_devices()[0]  # where a single image goes
    return dataclasses.replace(detector, variables=jax.device_put(detector.variables, device))


def _load_from(place: Place, where: str, checkpoint: str) -> Detector:
    if addresses.is_remote(place):
        try:
            if addresses.exists(place / "config.json"):
                return load_run(Run(place), checkpoint)
        except UserError as error:  # of the local copy
            raise type(error)(addresses.named(str(error))) from error
    elif place.is_dir():
        return load_run(Run(place), checkpoint)
    if addresses.exists(place):
        return load_published(where)[0]
    raise CheckpointError(
        f"there is no {where}; give the folder of a run, or the file of a published detector"
    )


def open_val(detector: Detector) -> Dataset:
    """The validation data of a detector's configuration.

    Raises:
        UserError: if they cannot be read, or their categories are not the detector's.
    """
    dataset = sources.open_val(detector.config.data)
    sources.check_categories(dataset.categories, detector.categories, "the checkpoint")
    return dataset


def load_run(run: Run, checkpoint: str, config: Config | None = None) -> Detector:
    """The detector of a checkpoint, whole on every device.

    Args:
        run: where it was trained.
        checkpoint: "best", "latest", or a step's number.
        config: to use it by, if not by the run's own.

    Raises:
        UserError: if the checkpoint is not there, or holds another model than the configuration's.
    """
    config = run.config() if config is None else config
    categories = read_categories(run, checkpoint)
    model = models.create(config.model, len(categories))
    shapes = jax.eval_shape(lambda key: models.init(model, key), jax.random.key(0))
    variables, step = read_variables(run, checkpoint, shapes, distributed.make_mesh())
    return Detector(config, categories, variables, step)
