"""The trials of a sweep, and the promise that one folder holds one sweep.

OUT/sweep.json says what the sweep is; OUT/VARIANT/seedN is the workdir of one trial.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from pse_jax.config import Config, differences, from_dict, get, to_dict
from pse_jax.config_checks import override, validate
from pse_jax.errors import ConfigError
from pse_jax.experiments.sweep import records
from pse_jax.experiments.sweep.variants import BASELINE, Overrides
from pse_jax.files import make_folder, write_whole
from pse_jax.runs import folder
from pse_jax.runs.folder import Run, changes, numbers_file

# Less than a run that resumes: what changes a number of a finished run must stay as it was.
MAY_CHANGE = tuple(
    name for name in folder.MAY_CHANGE if name not in ("inference.", "optimizer.steps")
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: a variant and a seed, in a folder of its own."""

    variant: str
    seed: int
    folder: Path
    config: Config
    flags: list[str]  # to set on the configuration file

    @property
    def output(self) -> Path:
        """All that the training command printed."""
        return self.folder / "output.log"

    @property
    def exit_status(self) -> Path:
        """Holds the exit status of the last attempt once that has ended."""
        return self.folder / "exit_status"

    def __str__(self) -> str:
        return f"{self.variant} seed {self.seed}"


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is compared: the baseline, what each variant changes of it, and how many seeds."""

    config_file: str
    shared: Overrides  # of the configuration file, for all
    baseline: Config
    variants: dict[str, Overrides]
    tables: tuple[str, ...]
    seeds: int  # how many; they count up from the baseline's

    def config_of(self, variant: str, seed: int) -> Config:
        """The whole configuration of one trial; `seed` counts from 0."""
        changed = {} if variant == BASELINE else self.variants[variant]
        config = override(self.baseline, as_flags(changed))
        config.seed += seed
        return config

    def trials(self, out: Path) -> list[Trial]:
        """Every trial, one seed after the other, so that half a sweep has whole pairs."""
        trials = []
        for count in range(self.seeds):
            seed = self.baseline.seed + count
            for name, changed in self.variants.items():
                settings = {**self.shared, **self.variants[BASELINE], **changed, "seed": str(seed)}
                config = self.config_of(name, count)
                where = out / name / f"seed{seed}"
                trials.append(Trial(name, seed, where, config, as_flags(settings)))
        return trials


def as_flags(overrides: Overrides) -> list[str]:
    """`--config.x.y=z` of each."""
    return [f"--config.{path}={value}" for path, value in overrides.items()]


def plan(
    config_file: str,
    config: Config,
    shared: Overrides,
    variants: dict[str, Overrides],
    tables: tuple[str, ...],
    seeds: int,
) -> Sweep:
    """A sweep of these variants, the baseline among them, whose every configuration is valid.

    Raises:
        ConfigError: for an invalid value, a variant that is the baseline or another variant, and
            for settings that contradict each other.
    """
    for path in sorted(shared.keys() & variants[BASELINE].keys()):
        raise ConfigError(
            f'--config.{path}: the baseline sets it; redefine that with --variant "{BASELINE}: '
            f'--config.{path}=VALUE"'
        )
    for name, changed in variants.items():
        if "seed" in changed:
            raise ConfigError(f"variant {name} sets the seed; that is what --seeds is for")
    baseline = override(config, as_flags(shared | variants[BASELINE]))
    sweep = Sweep(config_file, shared, baseline, variants, tables, seeds)
    seen: dict[str, str] = {}
    for name in variants:
        resolved = sweep.config_of(name, 0)
        validate(resolved)
        if resolved.train.patience:
            raise ConfigError(
                "config.train.patience: a sweep compares runs of equal length; add "
                "--config.train.patience=0"
            )
        same = seen.setdefault(json.dumps(to_dict(resolved)), name)
        if same != name:
            raise ConfigError(f"variants {same} and {name} have the same configuration")
    return sweep


def claim(sweep: Sweep, out: Path) -> Sweep:
    """Writes OUT/sweep.json; a sweep that is there already must be of the same recipe.

    Returns:
        It with what is new: variants, tables and seeds are added to those that are there.

    Raises:
        ConfigError: if the folder holds a sweep with another recipe.
    """
    # Before one of these is there, nothing can be lost.
    started = bool(records.read(out)) or any(out.glob("*/seed*/checkpoints/[0-9]*"))
    if started and (out / "sweep.json").exists():
        old = load(out)
        for name in (name for name in sweep.variants if name in old.variants):  # the baseline first
            changed = changes(old.config_of(name, 0), sweep.config_of(name, 0), but=MAY_CHANGE)
            if changed:
                listing = (f"config.{p} was {a!r} and is {b!r}" for p, (a, b) in changed.items())
                raise ConfigError(
                    f"{out} holds a sweep with another recipe: in {name}, {', '.join(listing)}. "
                    "Give the same values to resume it, or another --out to start a new one"
                )
        sweep = dataclasses.replace(
            sweep,
            variants=old.variants | sweep.variants,
            tables=tuple(dict.fromkeys(old.tables + sweep.tables)),
            seeds=max(old.seeds, sweep.seeds),
        )
    make_folder(out, "the folder of a sweep")
    content = json.dumps(dataclasses.asdict(sweep), indent=2) + "\n"
    write_whole(out / "sweep.json", content, "the plan of the sweep")
    return sweep


def load(out: Path) -> Sweep:
    """The sweep of a folder.

    Raises:
        ConfigError: if it holds none.
    """
    file = out / "sweep.json"
    if not file.is_file():
        raise ConfigError(f"{file} does not exist: {out} holds no sweep")
    content = json.loads(file.read_text())
    content["baseline"] = from_dict(content["baseline"])
    content["tables"] = tuple(content["tables"])
    return Sweep(**content)


def read_numbers(trial: Trial) -> dict[str, Any] | None:
    """What the evaluation of the last step wrote; None if the trial is not finished.

    Raises:
        ConfigError: if they come from another configuration than the plan's.
    """
    try:
        numbers = json.loads(numbers_file(trial.folder, trial.config.optimizer.steps).read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # the latter: killed while it wrote
        return None
    # Also after the fact: each trial differs from the baseline in what its variant names alone.
    trained = Run(trial.folder).config()
    for path, (wanted, found) in changes(trial.config, trained, but=MAY_CHANGE).items():
        raise ConfigError(
            f"{trial.folder} was trained with config.{path}={found!r}; this sweep asks for "
            f"{wanted!r}. Move the folder away, and delete its row in runs.csv, to train it again"
        )
    gap = [numbers.get("oracle_AP"), numbers.get("AP")]
    numbers["oracle_gap"] = gap[0] - gap[1] if None not in gap else math.nan
    return numbers


def describe(sweep: Sweep, variant: str) -> str:
    """What makes a variant: `loss.association=pse`."""
    if variant == BASELINE:
        values = {path: get(sweep.baseline, path) for path in sweep.variants[BASELINE]}
    else:
        changed = differences(sweep.baseline, sweep.config_of(variant, 0))
        values = {path: value for path, (_, value) in changed.items()}
    return ", ".join(f"{path}={value}" for path, value in values.items())
