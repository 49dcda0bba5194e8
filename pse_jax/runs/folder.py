"""The folder of a run: what is where in it."""

import json
from pathlib import Path
from typing import Any

from pse_jax import distributed
from pse_jax.config import Config, differences, from_dict, to_dict
from pse_jax.errors import CheckpointError, ConfigError

# A run may resume with other values of these: they change nothing of what it computes, or only
# say how long.
MAY_CHANGE = ("name", "train.", "inference.", "data.root", "data.cache_dir", "data.threads",
              "data.prefetch", "optimizer.steps")  # fmt: skip


class Run:
    """The files of one run, and the promise that its folder holds no other."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config_file = folder / "config.json"  # the resolved configuration
        self.checkpoints = folder / "checkpoints"  # STEP/: the newest states, to resume from
        self.best = folder / "best"  # STEP/: the parameters with the highest AP so far
        self.metrics = folder / "metrics.jsonl"  # every logged scalar, one JSON object per line
        self.tensorboard = folder / "tensorboard"  # the same
        self.log = folder / "train.log"
        self.evaluations = folder / "evaluations"  # NAME/: of anything but the run as it is

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint; before that, nothing can be lost."""
        return any(self.checkpoints.glob("[0-9]*"))

    def check_new(self) -> None:
        """Raises CheckpointError if the folder holds a run."""
        if self.started:
            raise CheckpointError(f"{self.folder} holds a run already; give another --workdir")

    def config(self) -> Config:
        """The configuration that the run was started with.

        Raises:
            ConfigError: if there is none.
        """
        file = self.config_file
        if not file.is_file():
            raise ConfigError(f"{file} does not exist: {self.folder} holds no run")
        try:
            return from_dict(json.loads(file.read_text()))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{file} is not valid JSON ({error}); delete it to start anew"
            ) from error

    def claim(self, config: Config) -> None:
        """Makes the folder and writes its configuration; a run in it must have the same.

        Raises:
            ConfigError: if the folder holds a run with another configuration.
        """
        if self.config_file.exists() and self.started:
            changed = changes(self.config(), config, but=MAY_CHANGE)
            if changed:
                listing = ", ".join(
                    f"config.{path} was {a!r} and is {b!r}" for path, (a, b) in changed.items()
                )
                raise ConfigError(
                    f"{self.folder} holds a run with another configuration: {listing}. Give the "
                    "same values to resume it, or another --workdir to start a new one"
                )
        if distributed.is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.config_file.write_text(json.dumps(to_dict(config), indent=2) + "\n")


def numbers_file(folder: Path, step: int) -> Path:
    """What an evaluation of that step found: COCO's numbers, correlations, counts."""
    return folder / f"eval_{step}.json"


def detections_file(folder: Path, step: int) -> Path:
    """The detections behind them, in COCO's results format."""
    return folder / f"detections_{step}.json"


def changes(a: Config, b: Config, *, but: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ, apart from the fields that begin with one of `but`."""
    return {path: v for path, v in differences(a, b).items() if not path.startswith(but)}
