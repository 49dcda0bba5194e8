"""Checks a configuration against its types and bounds, and applies command-line flags to it."""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from absl import flags as absl_flags
from ml_collections import ConfigDict, config_flags

from pse_jax.addresses import local, place
from pse_jax.config import Config, from_dict, get, leaves, to_dict
from pse_jax.errors import ConfigError, UserError

FIELDS = {path: (kind, default) for path, kind, default in leaves(Config())}
MAY_BE_ADDRESSES = (
    "model.init_from", "data.root", "data.train_annotations", "data.train_images",
    "data.val_annotations", "data.val_images", "data.cache_dir",
)  # fmt: skip
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def validate(config: Config) -> None:
    """Raises ConfigError for the first invalid value. Touches no device and no local file."""
    from pse_jax.losses import table  # needs jax, which `override` must not wait for

    for path in FIELDS:
        _check(config, path)
    for path, names in (
        ("loss.classification", table.CLASSIFICATIONS),
        ("loss.association", ["none", *table.ASSOCIATIONS]),
        ("model.quality", ["none", *table.QUALITIES]),
    ):
        _require(get(config, path) in names, config, path, _one_of(names, get(config, path)))
    table.check_pair(config.loss)
    model, data, shapes = config.model, config.data, config.data.shapes
    for path, channels in (
        ("model.norm_groups", model.width if model.norm == "gn" else 0),
        ("model.head_groups", model.fpn_channels),
    ):
        must_be = f"a divisor of the {channels} channels that it normalises"
        _require(channels % get(config, path) == 0, config, path, must_be)
    ordered, must_be = shapes.smallest <= shapes.largest, f"at most largest ({shapes.largest})"
    _require(ordered, config, "data.shapes.smallest", must_be)
    ordered, must_be = data.short_side <= data.long_side, f"at most long_side ({data.long_side})"
    _require(ordered, config, "data.short_side", must_be)
    ordered = max(data.jitter, default=0) <= data.long_side
    _require(ordered, config, "data.jitter", f"at most long_side ({data.long_side}), each")
    even, must_be = data.batch_size % config.train.accumulate == 0, "a divisor of data.batch_size "
    _require(even, config, "train.accumulate", f"{must_be}({data.batch_size})")
    if config.train.patience and not config.train.eval_every:
        raise ConfigError(
            f"config.train.patience is {config.train.patience} and config.train.eval_every 0: "
            "there would be no evaluation to wait for; give an eval_every"
        )
    table.check_parts(config.loss, config.train.accumulate)
    _check_addresses(config)


def _check_addresses(config: Config) -> None:
    """Raises ConfigError for an address that cannot be served."""
    for path in MAY_BE_ADDRESSES:
        value = get(config, path)
        if path == "model.init_from" and value.startswith(("http://", "https://")):
            continue  # fetch.py's
        try:
            (local if path == "data.cache_dir" else place)(value)
        except UserError as error:
            raise ConfigError(f"config.{path}: {error}") from error


def override(config: Config, flags: Sequence[str]) -> Config:
    """A copy with these `--config.section.field=value` flags applied, by ml_collections.

    Raises:
        ConfigError: for a flag that names no field, or whose value does not fit the field.
    """
    paths = [path for path in map(_path_of, flags) if path]
    view = ConfigDict(to_dict(from_dict(to_dict(config))))
    parsed, argv = absl_flags.FlagValues(), ["", *flags]
    try:
        holder = config_flags.DEFINE_config_dict("config", view, flag_values=parsed, sys_argv=argv)
        rest = parsed(argv)[1:]
    except absl_flags.Error as error:
        what = re.split(r"[:.] ", str(error).removeprefix("flag "))[0]
        path = re.search(r"config\.([\w.]+)", what)
        why = f"config.{path[1]} must be {_wanted(path[1])}" if path else "write --config.x.y=z"
        raise ConfigError(f"{what}: {why}") from error
    if rest:
        raise ConfigError(f"{rest[0]!r} is not a flag; write --config.section.field=value")
    changed = from_dict(holder.value.to_dict())
    for path in paths:
        _check(changed, path)
    return changed


def _require(holds: bool, config: Config, path: str, must_be: str) -> None:
    if not holds:
        raise ConfigError(f"config.{path} is {get(config, path)!r}; it must be {must_be}")


def _check(config: Config, path: str) -> None:
    """Raises ConfigError if a value does not fit the type and the bounds of its field."""
    value, kind = get(config, path), FIELDS[path][0]
    _require(_has_type(value, kind), config, path, _wanted(path))
    if get_origin(kind) is Literal:
        _require(value in get_args(kind), config, path, _one_of(get_args(kind), value))
    if get_origin(kind) is Annotated:
        bound = get_args(kind)[1]
        _require(bound.holds(value), config, path, bound.must_be)


def _base(kind: Any) -> Any:
    """A type without its bounds, and for `Literal` the type of its values."""
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _has_type(value: Any, kind: Any) -> bool:
    """Whether a value fits a type. Whole numbers are numbers; NaN and infinity are not."""
    parts = get_args(kind := _base(kind))
    if parts:  # tuple[int, ...] or tuple[float, float, float]
        fits = isinstance(value, tuple) and (... in parts or len(value) == len(parts))
        return fits and all(_has_type(v, parts[0]) for v in value)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _wanted(path: str) -> str:
    """A field's type in words, with an example."""
    kind, default = _base(FIELDS[path][0]), FIELDS[path][1]
    parts = get_args(kind)
    if not parts:
        return KINDS[kind] + (f", such as {default}" if kind in (int, float) else "")
    count = "" if ... in parts else f"{len(parts)} "
    example = default or (640, 800)
    return f"{count}{KINDS[parts[0]].removeprefix('a ')}s, such as {example}"


def _one_of(choices: Iterable[Any], value: Any) -> str:
    names = [str(choice) for choice in choices]
    close = difflib.get_close_matches(str(value), names, n=1)
    return "one of " + ", ".join(names) + (f"; did you mean {close[0]}?" if close else "")


def _path_of(flag: str) -> str:
    """The field that a `--config.` flag names; empty for another word."""
    match = re.match(r"--?(?:no)?config\.([^=]+)", flag)
    if not match:
        return ""
    node, where = Config(), "config"
    for name in match[1].split("."):
        if not dataclasses.is_dataclass(node):
            raise ConfigError(f"{flag}: {where} is a value, not a section")
        if not hasattr(node, name):
            raise ConfigError(f"{flag}: {where} has no field {name!r}; {_hint(node, name)}")
        node, where = getattr(node, name), f"{where}.{name}"
    if dataclasses.is_dataclass(node):
        names = ", ".join(f"{match[1]}.{name}" for name in vars(node))
        raise ConfigError(f"{flag}: {where} is a section; set one of {names}")
    return match[1]


def _hint(node: Any, name: str) -> str:
    """The fields of the same or of a similar name; else all that are here."""
    paths = {path: path.split(".")[-1] for path in (*FIELDS, *vars(Config()))}
    close = difflib.get_close_matches(name, paths.values(), n=1)
    found = [f"config.{path}" for path, leaf in paths.items() if leaf in close]
    return f"did you mean {' or '.join(found)}?" if found else f"it has {', '.join(vars(node))}"
