"""The folder of a run: what is where in it."""

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pse_jax import distributed
from pse_jax.config import Config, differences, from_dict, to_dict
from pse_jax.errors import CheckpointError, ConfigError
from pse_jax.files import write_whole

logger = logging.getLogger(__name__)

# A run may resume with other values of these: they change nothing of what it computes, or only
# say how long.
MAY_CHANGE = ("name", "train.", "inference.", "data.root", "data.cache_dir", "data.threads",
              "data.prefetch", "optimizer.steps")  # fmt: skip


class Run:
    """The files of one run, and the promise that its folder holds no other."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config_file = folder / "config.json"  # the resolved configuration
        self.history = folder / "config_history.jsonl"  # what was changed in it, from which step on
        self.checkpoints = folder / "checkpoints"  # STEP/: the newest states, to resume from
        self.best = folder / "best"  # STEP/: the parameters with the highest AP so far
        self.metrics = folder / "metrics.jsonl"  # every logged scalar, one JSON object per line
        self.tensorboard = folder / "tensorboard"  # the same
        self.log = folder / "train.log"
        self.evaluations = folder / "evaluations"  # NAME/: of anything but the run as it is

    @property
    def started(self) -> bool:
        """Whether there is a checkpoint; before that, nothing can be lost."""
        found = self.checkpoints.glob("[0-9]*")
        return any("orbax" not in path.name for path in found)  # but for unfinished ones

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

    def claim(self, config: Config, allow_change: Collection[str] = ()) -> None:
        """Makes the folder and writes its configuration; a run in it must have the same.

        Args:
            config: of the run.
            allow_change: fields that may have other values than they had up to now, apart from
                those that always may; once the run resumes, `record` writes them.

        Raises:
            ConfigError: if the folder holds a run with another configuration.
        """
        resumes = self.config_file.exists() and self.started
        if resumes:
            changed = changes(self.config(), config, but=MAY_CHANGE)
            changed = {path: v for path, v in changed.items() if path not in allow_change}
            if changed:
                listing = ", ".join(
                    f"config.{path} was {a!r} and is {b!r}" for path, (a, b) in changed.items()
                )
                raise ConfigError(
                    f"{self.folder} holds a run with another configuration: {listing}. Give the "
                    "same values to resume it, or another --workdir to start a new one. To resume "
                    "with the new values, run the same command again with "
                    f"--allow-change={','.join([*changed, *allow_change])}"
                )
        if distributed.is_main() and not resumes:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.history.unlink(missing_ok=True)
            self.config_file.write_text(json.dumps(to_dict(config), indent=2) + "\n")

    def record(self, config: Config, step: int, origin: Path | None = None) -> None:
        """Notes the fields that have other values from this step on; config.json holds these.

        Args:
            config: of the run from now on.
            step: that it resumes from.
            origin: the checkpoint of another run that it starts from.
        """
        before = Run(origin.parents[1]).config() if origin else self.config()
        changed = differences(before, config)
        for path, (a, b) in changed.items():
            logger.info("config.%s was %r and is %r after step %d", path, a, b, step)
        if not distributed.is_main() or not (changed or origin):
            return
        entry = {"step": step, "changed": {path: list(pair) for path, pair in changed.items()}}
        entry |= {"from": str(origin)} if origin else {}
        earlier = "" if origin or not self.history.exists() else self.history.read_text()
        what = "the changes of the configuration"
        write_whole(self.history, earlier + json.dumps(entry) + "\n", what)
        content = json.dumps(to_dict(config), indent=2) + "\n"
        write_whole(self.config_file, content, "the configuration")

    @property
    def origin(self) -> str | None:
        """The checkpoint of another run that this one started from, if it did."""
        lines = self.history.read_text().splitlines() if self.history.exists() else []
        return json.loads(lines[0]).get("from") if lines else None


def numbers_file(folder: Path, step: int) -> Path:
    """What an evaluation of that step found: COCO's numbers, correlations, counts."""
    return folder / f"eval_{step}.json"


def detections_file(folder: Path, step: int) -> Path:
    """The detections behind them, in COCO's results format."""
    return folder / f"detections_{step}.json"


def changes(a: Config, b: Config, *, but: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ, apart from the fields that begin with one of `but`."""
    return {path: v for path, v in differences(a, b).items() if not path.startswith(but)}
