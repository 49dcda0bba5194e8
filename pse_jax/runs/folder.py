"""The folder of a run: what is where in it."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pse_jax import addresses, distributed
from pse_jax.addresses import Place
from pse_jax.config import Config, differences, from_dict, to_dict
from pse_jax.errors import CheckpointError, ConfigError, UserError, WriteError
from pse_jax.files import FULL, REMEDY, make_folder, read_regular, reason, write_whole
from pse_jax.runs.lock import Lock, held
from pse_jax.runs.remote import claims, mirror
from pse_jax.runs.remote.claims import RemoteLock
from pse_jax.runs.remote.publisher import Publisher

logger = logging.getLogger(__name__)

# A run may resume with other values of these: they change nothing of what it computes, or only
# say how long.
MAY_CHANGE = ("name", "train.", "inference.", "data.root", "data.cache_dir", "data.threads",
              "data.prefetch", "data.cache_gb", "optimizer.steps")  # fmt: skip


class Run:
    """The files of one run, and the promise that its folder holds no other.

    Of a run at an address, `folder` and all that is in it are a local copy: `publish` and, while it
    is being written to, a thread copy it back; messages name the address.

    Raises:
        UserError: if an address cannot be read.
    """

    def __init__(self, folder: Place):
        self.mirror = mirror.Mirror(folder) if addresses.is_remote(folder) else None
        folder = self.mirror.folder if self.mirror else folder
        self.folder: Path = folder
        self.config_file = folder / "config.json"  # the resolved configuration
        self.data_file = folder / "data.json"  # counts and digests of the data it began with
        self.history = folder / "config_history.jsonl"  # what was changed in it, from which step on
        self.checkpoints = folder / "checkpoints"  # STEP/: the newest states, to resume from
        self.best = folder / "best"  # STEP/: the parameters with the highest AP so far
        self.metrics = folder / "metrics.jsonl"  # every logged scalar, one JSON object per line
        self.tensorboard = folder / "tensorboard"  # the same
        self.log = folder / "train.log"
        self.report = folder / "report.html"  # pictures of all this
        self.job_file = folder / "job.json"  # the command, devices and versions that train it
        self.times = folder / "times.json"  # seconds spent on each kind of work
        self.profile = folder / "profile"  # traces of steps, of train.py --profile
        self.evaluations = folder / "evaluations"  # NAME/: of anything but the run as it is
        self.lock: Lock | RemoteLock | None = None  # on the main process, while it writes
        self.publisher: Publisher | None = None  # likewise, of a run at an address

    def make(self) -> None:
        """Makes the folder.

        Raises:
            WriteError: if it cannot be made or written to.
        """
        make_folder(self.folder, "the folder of a run")
        if self.mirror:
            addresses.make(self.mirror.address, "the folder of a run")

    def fetch_file(self, file: Path) -> None:
        """Has a file of the run here, where a line is to be added to it.

        Raises:
            UserError: if it is at an address and cannot be read.
        """
        if self.mirror and file.is_relative_to(self.folder):
            self.mirror.fetch_file(file)

    def publish(self) -> None:
        """Copies to a run's address what was written beside its training, by any process.

        Raises:
            WriteError: if that is not possible.
        """
        if self.mirror:
            self.mirror.publish()

    def saved(self) -> bool:
        """Whether all that was written is where it belongs; of an address, tries it now.

        Called by all processes, and the same on all.
        """
        if not self.mirror:
            return True

        def copied() -> np.int32:
            return np.int32(self.publisher is None or self.publisher.now())

        return bool(distributed.from_main(copied, like=np.int32(0)))

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Makes the folder, and keeps every other process that trains out of it meanwhile.

        An evaluation needs no lock: it reads what is never changed, and its files appear whole.

        Raises:
            LockError: on every process, if another job is writing to the folder.
            WriteError: if the disk is full or cannot be written to; says what is safe.
        """
        self.make()
        with contextlib.ExitStack() as stack:

            def take() -> None:
                self.lock = stack.enter_context(
                    claims.held(self.mirror.address) if self.mirror else held(self.folder)
                )

            distributed.on_main(take)
            stack.callback(setattr, self, "lock", None)
            stack.enter_context(self._mirrored())
            try:
                yield
            except Exception as error:
                if (why := _why_not_written(error, self.folder)) is None:
                    raise
                raise WriteError(f"{why}. {self._safe()} {REMEDY}") from error

    @contextlib.contextmanager
    def _mirrored(self) -> Iterator[None]:
        """Of a run at an address: with its checkpoints here, and what is written copied there."""
        if not self.mirror:
            yield
            return
        self.mirror.look()  # what another process wrote before it let go
        if not isinstance(self.lock, RemoteLock):  # not the main process: it only reads
            yield
            return
        self.mirror.fetch_all()
        self.publisher = copies = Publisher(self.mirror, self.lock.check_now)
        try:
            yield
        except BaseException:
            copies.close(failed=True)
            raise
        else:
            copies.close(failed=False)
        finally:
            self.publisher = None

    def check_held(self) -> None:
        """Raises LockError, on every process, if the folder was taken over by another job."""
        distributed.on_main(self.check_held_here)

    def check_held_here(self) -> None:
        """Raises LockError, on the main process alone, if the folder was taken over."""
        if self.lock:
            self.lock.check()

    def _safe(self) -> str:
        if there := safe_steps(self.mirror.address if self.mirror else self.folder):
            return f"The newest whole checkpoint is that of step {there[-1]}."
        return "There is no whole checkpoint yet."

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
        try:
            values = json.loads(read_regular(file))
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"{file} does not exist: {self.folder} holds no run"
            raise ConfigError(message) from error
        except OSError as error:
            raise ConfigError(f"{file} cannot be read: {reason(error)}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"{file} is not valid JSON ({error}); delete it to start over"
            ) from error
        return from_dict(values)

    def claim(self, config: Config, allow_change: Collection[str] = ()) -> None:
        """`check_claim`, and writes the configuration."""
        self.check_claim(config, allow_change)
        self.begin(config)

    def check_claim(self, config: Config, allow_change: Collection[str] = ()) -> None:
        """A run in the folder must have the same configuration.

        Args:
            config: of the run.
            allow_change: fields that may have other values than they had up to now, apart from
                those that always may; once the run resumes, `record` writes them.

        Raises:
            ConfigError: if the folder holds a run with another configuration.
        """
        if not (self.config_file.exists() and self.started):
            return
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

    def begin(self, config: Config) -> None:
        """Writes the configuration of a run that is new, or that has lost it.

        Raises:
            WriteError: if it cannot be written.
        """
        content = json.dumps(to_dict(config), indent=2) + "\n"

        def write() -> None:
            if self.config_file.exists() and self.started:  # `record` writes it, once it resumes
                return
            self.history.unlink(missing_ok=True)
            file = self.config_file
            if not file.is_file() or file.read_bytes() != content.encode():
                write_whole(file, content, "the configuration")

        distributed.on_main(write)

    def record(self, config: Config, step: int, origin: Place | None = None) -> None:
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


def read_metrics(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """The rows of a metrics.jsonl with their steps, and the number of damaged lines.

    A line is damaged if a kill or a full disk cut it, or if it is no JSON object with a step.
    """
    try:
        lines = path.read_text(errors="replace").split("\n")
    except OSError:
        return [], 0
    rows, damaged = [], 0
    for line in filter(None, lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and type(row.get("step")) is int and row["step"] >= 0:
            rows.append((row["step"], row))
        else:
            damaged += 1
    return rows, damaged


def steps(folder: Path) -> list[int]:
    """The steps of which a folder, `checkpoints` or `best`, has a checkpoint; ascending."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def safe_steps(folder: Place) -> list[int]:
    """The steps of which a run's folder or address has a state, as this process knows; ascending.

    Asks nobody over the network, and so is quick.
    """
    if addresses.is_remote(folder):
        return sorted(mirror.known_steps(folder))
    return steps(Run(folder).checkpoints)


def numbers_file(folder: Path, step: int) -> Path:
    """What an evaluation of that step found: COCO's numbers, correlations, counts."""
    return folder / f"eval_{step}.json"


def detections_file(folder: Path, step: int) -> Path:
    """The detections behind them, in COCO's results format."""
    return folder / f"detections_{step}.json"


def changes(a: Config, b: Config, *, but: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """Where two configurations differ, apart from the fields that begin with one of `but`."""
    return {path: v for path, v in differences(a, b).items() if not path.startswith(but)}


def _why_not_written(error: Exception, folder: Path) -> str | None:
    """What could not be written into a run's folder, and why; None if that is not what it is about.

    Orbax writes in the background: what went wrong appears at the next save or at the end, as an
    OSError or as a ValueError of TensorStore's, which ends in `[os_error_code='28']`.
    """
    if isinstance(error, WriteError):
        return str(error).removesuffix(f". {REMEDY}")
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError):
        if error.errno in FULL or str(folder.absolute()) in str(error.filename):
            return f"{folder}: cannot write a checkpoint: {reason(error)}"
        return None
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code and str(folder.absolute()) in str(error):
        return f"{folder}: cannot write a checkpoint: {os.strerror(int(code[1]))}"
    return None
