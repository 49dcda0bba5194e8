"""Which published detector a file holds, and what its arrays tell about the model."""

import re
from collections.abc import Collection
from pathlib import PurePath

from pse_jax.config import Config
from pse_jax.errors import WeightsError
from pse_jax.weights.layout import Arrays, depth_of, need
from pse_jax.weights.names import OFFICIAL, STYLES, Style, tower_names
from pse_jax.weights.presets import FORMATS


def up_to_date(name: str) -> str:
    """The name that newer versions give an array: of torchvision's pyramid, of mmdet's outputs."""
    name = re.sub(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2", name)
    return re.sub(r"^bbox_head\.fcos_(cls|reg|centerness)\.", r"bbox_head.conv_\1.", name)


def code_base(names: Collection[str], source: str) -> str:
    """Whose names these are: a key of `STYLES`. The class and box outputs decide.

    Raises:
        WeightsError: if they are not a known detector's.
    """
    for base, style in STYLES.items():
        if {f"{style.head[0]}.weight", f"{style.head[1]}.weight"} <= set(names):
            return base
    if any(name.endswith(("conv1.weight", "conv1_w")) for name in names):
        advice = "if it is a backbone, train from it with --config.model.init_from=FILE"
    else:
        advice = "give an official, AdelaiDet, torchvision or mmdet FCOS, or a ResNet to train from"
    raise WeightsError(
        f"{source} is not a known FCOS detector (it holds {', '.join(sorted(names)[:3])}, ...); "
        f"{advice}"
    )


def settle(
    asked: str | None, base: str, arrays: Arrays, source: str, presumed: str | None
) -> tuple[str, str]:
    """(format, how it is known).

    Args:
        asked: what the user says it is, or None.
        base: the code base whose names the arrays have.
        arrays: under up-to-date names.
        source: the file; a published name tells official base and improved models apart.
        presumed: which of the two it is if the name does not tell; None makes that an error.

    Raises:
        WeightsError: if it is not what was asked for, or one of two that cannot be told apart.
    """
    if asked is not None:
        if asked not in FORMATS:
            raise WeightsError(f"--format {asked} is unknown; use one of {', '.join(FORMATS)}")
        if not asked.startswith(base):
            raise WeightsError(
                f"{source} cannot be --format {asked}: its arrays have {base}'s names, such as "
                f"{STYLES[base].head[0]}.weight"
            )
        return asked, "as --format says"
    if base == "mmdet":  # the two published heads differ in this alone
        if f"{tower_names(STYLES[base].class_tower, 0)[0]}.bias" in arrays:
            return "mmdet-improved", "the convolutions of its towers have biases"
        return "mmdet", "the convolutions of its towers have no biases"
    return _base_or_improved(source, presumed) if base == "fcos" else (base, "by its arrays' names")


def _base_or_improved(source: str, presumed: str | None) -> tuple[str, str]:
    stem = PurePath(source).name
    if "imprv" in stem.lower():
        return "fcos-improved", f"{stem} contains imprv; if that is wrong, give --format fcos"
    if re.match(r"FCOS_(R|X|syncbn_bs32_c128_MNV2)_.*FPN_\dx\b", stem):
        return "fcos", f"{stem} is a published name without imprv; if that is wrong, give --format"
    if presumed is not None:
        return presumed, "assumed from config.model.distances; nothing in the file tells"
    raise WeightsError(
        f"{source} is an official FCOS, base or improved: both have arrays of the same names and "
        "shapes with different meanings, so say which it is: --format fcos (distances are "
        "exponentials, centre-ness is on the class tower) or --format fcos-improved (ReLU, on the "
        "box tower; published with imprv in the file's name)"
    )


def read_off(config: Config, arrays: Arrays, style: Style, source: str) -> list[str]:
    """Sets in `config` what the arrays themselves tell; returns notes for the user."""
    model, notes = config.model, []
    stem, stem_norm = style.body.stem
    first = tower_names(style.class_tower, 0)[0]
    need(arrays, [f"{module}.weight" for module in (stem, style.laterals[0], first)], source)
    model.depth = depth_of(arrays.keys(), style.body, source)  # pyright: ignore
    model.width = arrays[f"{stem}.weight"].shape[0]
    model.fpn_channels = arrays[f"{style.laterals[0]}.weight"].shape[0]
    model.tower_bias = f"{first}.bias" in arrays
    model.head_convs = 0
    while f"{tower_names(style.class_tower, model.head_convs)[0]}.weight" in arrays:
        model.head_convs += 1
    if style is OFFICIAL and f"{stem_norm}.running_var" not in arrays:
        model.norm, model.frozen_stages = "gn", 0
        notes.append("the backbone's norms have no statistics: GroupNorm, in 32 groups")
    if style is OFFICIAL and f"{style.head[2]}.weight" not in arrays:
        model.quality, config.inference.sqrt_score = "none", False
        config.loss.box_by_centerness = False
        notes.append(f"there is no {style.head[2]}: scores are the class scores alone")
    for name in ("pixel_mean", "pixel_std"):  # AdelaiDet's models carry them
        if name in arrays:
            value = tuple(float(f"{v:.7g}") for v in arrays[name].reshape(-1))
            if value != getattr(model, name):
                notes.append(f"{name} is the file's own, {value}")
            setattr(model, name, value)
    return notes
