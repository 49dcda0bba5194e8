"""Published FCOS detectors in this project's terms."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from pse_jax import models
from pse_jax.categories import COCO, Categories
from pse_jax.config import Config, from_dict
from pse_jax.config_checks import override, validate
from pse_jax.detector import Detector
from pse_jax.errors import WeightsError
from pse_jax.weights.fetch import resolve
from pse_jax.weights.fit import fit
from pse_jax.weights.identify import code_base, read_off, settle, up_to_date
from pse_jax.weights.layout import Arrays, convert, need
from pse_jax.weights.names import STYLES, TORCHVISION, detector_layers
from pse_jax.weights.presets import preset
from pse_jax.weights.read import read

METADATA = "pse_jax"  # the key under which export-weights leaves the configuration
SKIPPED = ("num_batches_tracked", "pixel_mean", "pixel_std")  # counters; pixels go to the config


@dataclasses.dataclass(frozen=True)
class Published:
    """The content of a published detector's file, not yet fitted to a model."""

    form: str  # one of FORMATS
    config: Config  # how it was trained and is evaluated
    found: dict[str, np.ndarray]  # "params/head/class_conv/kernel" -> array, in our layout
    names_in_file: dict[str, str]  # for each path of `found`
    categories: Categories | None  # None if the file does not tell and they are not COCO's
    unused: list[str]  # names in the file
    notes: list[str]  # what was concluded and from what


def load_published(
    source: str,
    *,
    form: str | None = None,
    categories: Categories | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Detector, list[str]]:
    """A published detector, and a report: what it was taken for, what was loaded and what was not.

    Args:
        source: a path or an https address; `config.data.cache_dir` keeps what is downloaded.
        form: one of `FORMATS`, where the file does not tell or tells wrong.
        categories: of the classes, where they are not COCO's.
        overrides: `--config.section.field=value` flags, over what the file is known to need.

    Raises:
        UserError: for an invalid flag, or a file that cannot be found, read or understood.
    """
    cache_dir = override(Config(), overrides).data.cache_dir
    checkpoint = read(resolve(source, Path(cache_dir)))
    name = re.split("[#?]", source)[0]
    published = translate(
        checkpoint.arrays,
        name,
        form=form,
        metadata=checkpoint.metadata,
        categories=categories,
        overrides=overrides,
    )
    config, categories = published.config, published.categories
    validate(config)
    if categories is None:
        raise WeightsError(
            f"{name} has {len(published.found['params/head/class_conv/bias'])} class channels, not "
            "COCO's 80; name the categories with --annotations FILE (a file in COCO's format)"
        )
    model = models.create(config.model, len(categories))
    template = jax.eval_shape(lambda key: models.init(model, key), jax.random.key(0))
    variables, report = fit(
        template,
        published.found,
        names_in_file=published.names_in_file,
        unused=[*published.unused, *checkpoint.extra_names],
        source=name,
    )
    detector = Detector(config, categories, {"frozen": {}} | variables)
    return detector, [*published.notes, *str(report).splitlines()]


def translate(
    arrays: Arrays,
    source: str,
    *,
    form: str | None = None,
    presumed: str | None = None,
    metadata: Mapping[str, str] | None = None,
    categories: Categories | None = None,
    overrides: Sequence[str] = (),
) -> Published:
    """The detector in these arrays, which may be views of the file.

    `source`, the file's name, may tell the official base and improved models apart; where nothing
    does, `presumed` ("fcos" or "fcos-improved") decides. `metadata` is that of a .safetensors file,
    in which export-weights leaves everything. The other keywords are those of `load_published`.

    Raises:
        WeightsError: for another network, a missing array, or a format that cannot be told.
    """
    arrays = {up_to_date(name): array for name, array in arrays.items()}
    base = code_base(arrays.keys(), source)
    style, saved = STYLES[base], (metadata or {}).get(METADATA)
    if saved is not None and form is None and base == "fcos":
        form, config, own = _as_exported(saved, source)
        categories = categories or own
        notes = [f"format {form}: exported by pse_jax, with its configuration"]
    else:
        form, why = settle(form, base, arrays, source, presumed)
        config = preset(form)
        notes = [f"format {form}: {why}", *read_off(config, arrays, style, source)]
    config = override(config, overrides)

    found, names = convert(arrays, detector_layers(style, config.model), style.bn_epsilon, source)
    scales = [style.scales.format(i=i) for i in range(5)] if style.scales else []
    need(arrays, scales, source)
    values = [arrays[name].item() for name in scales] or [1.0] * 5  # torchvision has none
    found["params/head/scales"] = np.array(values, np.float32)

    classes = len(found["params/head/class_conv/bias"])
    if categories is None and classes == (91 if style is TORCHVISION else len(COCO)):
        categories = COCO
    if style is TORCHVISION and categories is not None:
        found |= _channels_of(categories, found, source)
        notes.append(f"{len(categories)} of {classes} class channels: those of the category ids")
    used = {name for layer in detector_layers(style, config.model) for name in layer.in_file}
    unused = sorted(n for n in arrays.keys() - used - set(scales) if not n.endswith(SKIPPED))
    return Published(form, config, found, names, categories, unused, notes)


def _as_exported(saved: str, source: str) -> tuple[str, Config, Categories]:
    """What export-weights wrote: the format, the configuration, the category table."""
    try:
        content = json.loads(saved)
        ids, names = content["category_ids"], content["category_names"]
        own = Categories(tuple(map(int, ids)), tuple(map(str, names)))
        return str(content["format"]), from_dict(content["config"]), own
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{source}: its metadata {METADATA!r} is invalid ({error}); give --format to use the "
            "arrays alone"
        ) from error


def _channels_of(
    categories: Categories, found: Mapping[str, np.ndarray], source: str
) -> dict[str, np.ndarray]:
    """Class channels of torchvision are numbered by category id; 0 is the background."""
    kernel, bias = found["params/head/class_conv/kernel"], found["params/head/class_conv/bias"]
    ids = list(categories.ids)
    if not 0 < min(ids) <= max(ids) < len(bias):
        raise WeightsError(
            f"{source} has {len(bias)} class channels, numbered by category id, but the category "
            f"ids are {min(ids)}..{max(ids)}; give the categories that it was trained on"
        )
    return {
        "params/head/class_conv/kernel": kernel[..., ids],
        "params/head/class_conv/bias": bias[ids],
    }
