"""What training starts from: random values, or in their place the weights that a file holds."""

import logging
from pathlib import Path

import jax
from jax.sharding import Mesh

from pse_jax import distributed
from pse_jax.config import Config, ModelConfig
from pse_jax.models import Variables
from pse_jax.weights import backbones, published
from pse_jax.weights.fetch import resolve
from pse_jax.weights.fit import Fitted, check_settings, fit
from pse_jax.weights.published import Published
from pse_jax.weights.read import Checkpoint, read

logger = logging.getLogger(__name__)

# Fields that a model must share with a detector for its arrays to mean the same.
MEANING = (
    "depth", "width", "stride_in_1x1", "norm", "fpn_channels", "head_convs", "tower_bias",
    "distances", "grid", "channel_order", "pixel_mean", "pixel_std",
)  # fmt: skip


def initial_variables(config: Config, variables: Variables, mesh: Mesh) -> Variables:
    """Variables with the weights that `config.model.init_from` names, on every device.

    The main process downloads and reads for all: the others need no file.

    Raises:
        UserError: if the file cannot be found or read, or does not fit the model.
    """
    where = config.model.init_from
    if not where:
        _warn_of_random_frozen_layers(config)
        return variables
    on_host = jax.device_get(variables)

    def load() -> Variables:
        path = resolve(where, Path(config.data.cache_dir))
        loaded, report = load_into(config.model, on_host, path)
        for line in str(report).splitlines():
            logger.info("start       %s", line)
        return loaded

    return distributed.to_every_device(distributed.from_main(load, like=on_host), mesh)


def load_into(model: ModelConfig, variables: Variables, path: Path) -> tuple[Variables, Fitted]:
    """The variables with a file's weights in place: a published ResNet's or detector's.

    Raises:
        WeightsError: for another file, or one whose weights would mean something else in the model.
    """
    checkpoint = read(path)
    kind = backbones.kind_of(checkpoint.arrays)
    if kind is None:
        return _load_detector(model, variables, checkpoint, str(path))
    backbone = backbones.translate(checkpoint.arrays, kind, str(path))
    what = f"{path} is a ResNet-{backbone.depth} of {kind}"
    check_settings(model, backbones.expects(kind, backbone.depth), what)
    return fit(
        variables,
        backbone.found,
        expected_missing=lambda name: name.split("/")[1] != "backbone",
        names_in_file=backbone.names_in_file,
        unused=[*backbone.unused, *checkpoint.extra_names],
        source=str(path),
    )


def _load_detector(
    model: ModelConfig, variables: Variables, checkpoint: Checkpoint, source: str
) -> tuple[Variables, Fitted]:
    """`load_into` of a whole detector, to be fine-tuned.

    An official FCOS that may be base or improved is taken for what the model is. With other classes
    only the class convolution keeps its random values. A quality branch that the file or the model
    lacks is left as it was initialised, or left out.
    """
    presumed = {"exp": "fcos", "relu": "fcos-improved"}[model.distances]
    detector = published.translate(
        checkpoint.arrays, source, presumed=presumed, metadata=checkpoint.metadata
    )
    for note in detector.notes:
        logger.info("start       %s", note)
    check_meaning(detector, model, source)
    found, quality = dict(detector.found), "params/head/quality_conv"
    unused = [*detector.unused, *checkpoint.extra_names]
    if model.quality == "none":
        for path in [path for path in found if path.startswith(quality)]:
            unused.append(detector.names_in_file[path])
            del found[path]
    return fit(
        variables,
        found,
        may_reinitialise=lambda path: path.startswith("params/head/class_conv"),
        expected_missing=lambda path: path.startswith(quality),
        names_in_file=detector.names_in_file,
        unused=unused,
        source=source,
    )


def check_meaning(detector: Published, model: ModelConfig, source: str) -> None:
    """Raises WeightsError, with the flags to set, if the model would misread the detector."""
    theirs = detector.config.model
    expects = {name: getattr(theirs, name) for name in MEANING}
    if theirs.depth < 50:
        del expects["stride_in_1x1"]  # basic blocks have no 1x1 convolutions
    if model.quality != "none" and theirs.quality != "none":
        expects["quality_tower"] = theirs.quality_tower
    check_settings(model, expects, f"{source} is a detector of format {detector.form}")


def _warn_of_random_frozen_layers(config: Config) -> None:
    random = []
    if config.model.norm == "frozen_bn":
        random.append("its frozen batch norms change nothing")
    if config.model.frozen_stages:
        random.append(f"{config.model.frozen_stages} of its stages keep their random weights")
    if random:
        logger.warning(
            "config.model.init_from is empty: the backbone starts from random weights, and %s. To "
            "learn anything, start from ImageNet weights (--config.model.init_from=msra_r50), or "
            "set --config.model.norm=gn --config.model.frozen_stages=0",
            " and ".join(random),
        )
