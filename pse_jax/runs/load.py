"""A detector from wherever it is: a run's folder or a published detector's file."""

import dataclasses
import difflib
import json
import os
from collections.abc import Sequence

import jax

from pse_jax import addresses, distributed, models
from pse_jax.addresses import Place
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.data import sources
from pse_jax.data.dataset import Dataset
from pse_jax.detections import Thresholds
from pse_jax.detector import Detector
from pse_jax.errors import CheckpointError, UserError
from pse_jax.files import read_regular
from pse_jax.runs.checkpoint import read_canvases, read_categories, read_variables
from pse_jax.runs.folder import Run, numbers_file
from pse_jax.weights.fetch import DETECTORS, SHORT_NAMES
from pse_jax.weights.published import load_published


def load(
    source: str | os.PathLike, checkpoint: str = "best", *, overrides: Sequence[str] = ()
) -> Detector:
    """A detector, ready to use.

    Args:
        source: the folder of a run, or its address (gs://...); or a published FCOS detector: a
            .pth or .safetensors file, the address of one, or a name, "torchvision_fcos_r50".
        checkpoint: of a run: "best" (by AP), "latest", or a step's number.
        overrides: `--config.section.field=value` flags, over the detector's own configuration.

    Raises:
        UserError: if there is no such run, checkpoint or file, or it cannot be used.
    """
    where = os.fspath(source)
    if where.startswith(("https://", "http://")) or where in SHORT_NAMES:
        detector = load_published(where, overrides=overrides)[0]
    else:
        detector = _load_from(addresses.place(source), where, checkpoint, overrides)
    device = jax.local_devices()[0]  # where a single image goes
    return dataclasses.replace(detector, variables=jax.device_put(detector.variables, device))


def _load_from(
    place: Place, where: str, checkpoint: str, overrides: Sequence[str] = ()
) -> Detector:
    if addresses.is_remote(place):
        try:
            if addresses.exists(place / "config.json"):
                return _of_run(Run(place), checkpoint, overrides)
        except UserError as error:  # of the local copy
            raise type(error)(addresses.named(str(error))) from error
    elif place.is_dir():
        return _of_run(Run(place), checkpoint, overrides)
    if addresses.exists(place):
        return load_published(where, overrides=overrides)[0]
    close = difflib.get_close_matches(where, DETECTORS, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise CheckpointError(
        f"there is no {where}{hint or ';'} give the folder of a run, the file of a published "
        f"detector, or a name ({', '.join(DETECTORS)})"
    )


def _of_run(run: Run, checkpoint: str, overrides: Sequence[str]) -> Detector:
    config = override(run.config(), overrides)
    validate(config)
    return load_run(run, checkpoint, config)


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
    own = run.config()
    config = own if config is None else config
    categories = read_categories(run, checkpoint)
    same = _sizes(config) == _sizes(own)  # as in training
    canvases = read_canvases(run, checkpoint) if same else ()
    model = models.create(config.model, len(categories))
    shapes = jax.eval_shape(lambda key: models.init(model, key), jax.random.key(0))
    variables, step = read_variables(run, checkpoint, shapes, distributed.make_mesh())
    return Detector(config, categories, variables, step, read_thresholds(run, step), canvases)


def _sizes(config: Config) -> tuple[int, int, str]:
    """What decides on the sizes of images."""
    return config.data.short_side, config.data.long_side, config.data.resize


def read_thresholds(run: Run, step: int) -> Thresholds | None:
    """What the evaluation of that step saved, of the run itself or below its evaluations/."""
    for folder in (run.folder, run.evaluations / f"step_{step}"):
        file = numbers_file(folder, step)
        run.fetch_file(file)
        try:
            saved = json.loads(read_regular(file))["thresholds"]
            return Thresholds(saved["overall"], dict(saved["per_class"]))
        except (OSError, ValueError, KeyError, TypeError):  # there is none, or from before
            continue
    return None
