"""The one grammar of the command line, and what the verbs share.

Imports nothing slow: a wrong flag or value is answered before JAX is loaded.
"""

import argparse
import difflib
import os
import re
import runpy
import traceback
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from absl import logging

from pse_jax import addresses, progress
from pse_jax.addresses import Place
from pse_jax.config import Config, get
from pse_jax.config_checks import override, validate
from pse_jax.errors import ConfigError, UserError
from pse_jax.files import reason

if TYPE_CHECKING:
    from pse_jax.runs.folder import Run

logger = getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "configs"
OVERRIDE = re.compile(r"--?config\.([^=]+)(=.*)?|--?noconfig\.([^=]+)", re.DOTALL)
HOW = "write one that returns a pse_jax.config.Config, as configs/coco_pse.py does"


class Parser(argparse.ArgumentParser):
    """argparse's; its errors are UserErrors, which only `__main__` prints."""

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message} ({self.prog} --help lists the flags)")


def parser(verb: str, description: str | None, **more: Any) -> Parser:
    """An empty parser of `python -m pse_jax VERB`; `more` goes to argparse."""
    more = {"formatter_class": argparse.RawDescriptionHelpFormatter, **more}
    return Parser(f"python -m pse_jax {verb}", None, description, allow_abbrev=False, **more)


def place(text: str) -> Place:
    """The argparse type of files and folders that may also be addresses, as gs://bucket/run.

    Raises:
        ArgumentTypeError: for an address that cannot be served.
    """
    try:
        return addresses.place(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path(text: str) -> Path:
    """The argparse type of files and folders on this machine: `~` is the home folder.

    Raises:
        ArgumentTypeError: for an address.
    """
    try:
        return addresses.local(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_config(parser: Parser) -> None:
    """`--config FILE`, and `--config.x.y=z`."""
    help = f"configuration: a file, or one of {', '.join(shipped())}"
    parser.add_argument("--config", metavar="FILE", help=help)
    add_overrides(parser)


def add_overrides(parser: Parser) -> None:
    """`--config.x.y=z` of a verb that takes no `--config FILE`."""
    if parser.get_default("overrides") is None:
        parser.set_defaults(overrides=[])
        parser.add_argument_group(
            "any field of the configuration", "--config.SECTION.FIELD=VALUE (pse_jax/config.py)"
        )


def add_workdir(parser: Parser, help: str = "folder of the run", **more: Any) -> None:
    """`--workdir DIR`, and `--config.x.y=z` to change the configuration of the run in it."""
    parser.add_argument("--workdir", type=place, metavar="DIR", help=help, **more)
    add_overrides(parser)


def add_checkpoint(parser: Parser) -> None:
    """`--checkpoint WHICH`."""
    parser.add_argument(
        "--checkpoint", default="best", help="best (by AP; the default), latest, or a step's number"
    )


def add_processes(parser: Parser) -> None:
    """How a command joins the other processes of its job, and how long they wait for each other."""
    group = parser.add_argument_group("several processes (docs/pods.md)")
    for flag, default, help in (
        (
            "--heartbeat",
            100,
            "silence after which a process counts as hung: all end, and name it",
        ),
        ("--shutdown-timeout", 300, "longest wait for other processes to finish"),
        ("--join-timeout", 300, "longest wait for other processes to start"),
    ):
        text = f"{help}; {default} s by default"
        group.add_argument(
            flag, type=count("seconds"), metavar="SECONDS", default=default, help=text
        )
    text = "run as one process even where the environment (Slurm, MPI, ...) shows others"
    group.add_argument("--single-process", action="store_true", help=text)


def processes(options: argparse.Namespace) -> dict[str, Any]:
    """What `job.join` takes, of the flags of `add_processes`."""
    names = ("heartbeat", "shutdown_timeout", "join_timeout", "single_process")
    return {name: getattr(options, name) for name in names}


def count(what: str) -> Callable[[str], int]:
    """The argparse type of a number of `what`, 1 or more."""

    def number(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}, 1 or more")
        return int(text)

    return number


def share(text: str) -> float:
    """The argparse type of a share of the images, from 0 up to 1.

    Raises:
        ArgumentTypeError: for anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 up to 1")
    return value


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """The flags; in `.overrides` those that set a field, as `--config.x.y=value`.

    Raises:
        UserError: for a flag that is unknown, incomplete or missing.
    """
    rest, overrides = split_overrides(argv)
    # Files may stand before, between and after flags; that parser of Python 3.11 forgets a `--`.
    mixed = "--" not in rest
    parse_known = parser.parse_known_intermixed_args if mixed else parser.parse_known_args
    options, unknown = parse_known(rest)
    if unknown and unknown[0].startswith("-"):
        flag = unknown[0].split("=")[0]
        close = difflib.get_close_matches(flag, parser._option_string_actions, n=1)
        parser.error(f"there is no flag {flag}" + (f"; did you mean {close[0]}?" if close else ""))
    if unknown:
        parser.error(f"{unknown[0]!r} is not a flag; write --config.section.field=value, no spaces")
    if "overrides" in options:
        options.overrides = overrides
    elif overrides:
        parser.error(f"{overrides[0]}: this command has no configuration")
    return options


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The other flags, and those that set a field, each as `--config.x.y=value`.

    They may also be given as `--config.x.y value`; `--config.x.y` and `--noconfig.x.y` switch a
    boolean on and off.

    Raises:
        ConfigError: for a flag without its value.
    """
    rest: list[str] = []
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        match = OVERRIDE.fullmatch(word)
        if not match:
            rest.append(word)
            continue
        field, value, negated = match.groups()
        if negated:
            field, value = negated, "=false"
        elif value is None and _is_boolean(field):
            value = "=true"
        elif value is None:
            value = f"={next(words, '--')}"
            if value.startswith("=--"):
                raise ConfigError(f"{word} has no value; write --config.{field}=VALUE")
        overrides.append(f"--config.{field}{value}")
    return rest, overrides


def _is_boolean(field: str) -> bool:
    try:
        return isinstance(get(Config(), field), bool)
    except AttributeError:  # no such field: the check of the overrides says so
        return False


def config_of(options: argparse.Namespace) -> Config:
    """The configuration of --config with the overrides, checked.

    Raises:
        ConfigError: if there is none, or it holds an invalid value.
    """
    config = override(load_config(options.config), options.overrides)
    validate(config)
    return config


def run_of(options: argparse.Namespace, workdir: Place | None = None) -> "tuple[Run, Config]":
    """The run in --workdir (or `workdir`), and its configuration with the overrides, checked.

    A verb that also takes --config lets it replace the run's own; --workdir is then runs/NAME by
    default, NAME being config.name.

    Raises:
        ConfigError: if the folder holds no run, or the configuration an invalid value.
    """
    from pse_jax.runs.folder import Run

    workdir = workdir or options.workdir
    if getattr(options, "config", None):
        config = config_of(options)
        return Run(workdir or Path("runs", config.name)), config
    if workdir is None:
        raise ConfigError("--workdir is missing; give the folder of a run")
    run = Run(workdir)
    config = override(run.config(), options.overrides)
    validate(config)
    return run, config


def prepare(config: Config) -> None:
    """Shows the log and turns on the cache of compiled programs."""
    logging.set_verbosity(logging.ERROR)  # Orbax logs every stage of a save, and that it waits
    # XLA's own lines, such as that a compilation is slow; whoever wants them sets this to 0.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    progress.show_log()
    if config.train.compilation_cache:
        from pse_jax import distributed

        folder = addresses.local(config.data.cache_dir) / "xla"
        try:
            distributed.use_compilation_cache(folder)
        except OSError as error:
            logger.warning("%s: compiled programs are not kept: %s", folder, reason(error))


def shipped() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(file.stem for file in SHIPPED.glob("[!_]*.py"))


def find_config(value: str | None) -> tuple[Path, list[str]]:
    """The file that a value of --config names, and the argument after its colon, if any.

    Raises:
        ConfigError: if there is no value or no such file.
    """
    if not value:
        raise ConfigError(f"--config is missing; give a file, or one of {', '.join(shipped())}")
    if "://" in value:
        addresses.local(value)  # refuses it
    name, *argument = value.split(":", 1)
    file = Path(name).expanduser()
    if name in shipped() and not file.is_file():
        file = SHIPPED / f"{name}.py"
    if not file.is_file():
        known = {name: name for name in shipped()}
        if file.suffix or file.parent.name:
            known |= {other.stem: str(other) for other in file.parent.glob("[!_]*.py")}
        close = difflib.get_close_matches(file.stem, known, n=1)
        hint = f"did you mean {known[close[0]]}?" if close else f"there are {', '.join(shipped())}"
        raise ConfigError(f"no configuration at {file}; {hint}")
    return file, argument


def absolute(value: str) -> str:
    """The same value of --config for a process with another working folder."""
    file, argument = find_config(value)
    return ":".join([str(file.resolve()), *argument])


def load_config(value: str | None) -> Config:
    """The configuration of a file, `FILE[:ARGUMENT]`, or of a shipped name; not yet checked.

    Raises:
        ConfigError: if the file does not exist, fails, or returns no configuration.
    """
    file, argument = find_config(value)
    try:
        get_config = runpy.run_path(str(file)).get("get_config")
        config = get_config(*argument) if get_config else None
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(_what_broke(file, error)) from error
    if get_config is None:
        raise ConfigError(f"{file} has no get_config(); {HOW}")
    if not isinstance(config, Config):
        raise ConfigError(f"{file}: get_config() returns a {type(config).__name__}; {HOW}")
    return config


def _what_broke(file: Path, error: Exception) -> str:
    """Where in the user's file an exception arose, and what it says."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == file.resolve()]
    where = f"{file}, line {lines[-1]}" if lines else str(file)
    return f"{where}: {type(error).__name__}: {error}"
