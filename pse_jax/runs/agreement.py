"""Whether all processes of a job, and a run that resumes, have the same data; and the same code."""

import hashlib
import importlib.metadata
import json
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import pse_jax
from pse_jax import distributed
from pse_jax.config import Config, leaves
from pse_jax.data.dataset import Dataset
from pse_jax.errors import DataError, ProcessError
from pse_jax.files import write_whole
from pse_jax.processes import coordination
from pse_jax.runs.folder import Run

logger = logging.getLogger(__name__)

# Where the data are on this host and how it reads them; what they hold is compared.
MAY_DIFFER = (
    "data.root", "data.train_annotations", "data.train_images", "data.val_annotations",
    "data.val_images", "data.cache_dir", "data.threads", "data.prefetch", "data.cache_gb",
)  # fmt: skip
LIBRARIES = ("jax", "jaxlib", "flax", "optax")
FIELDS_SHOWN = 8
PROCESSES_SHOWN = 3

Facts = dict[str, str]


def check_agreement(config: Config, datasets: Mapping[str, Dataset], **more: Any) -> None:
    """Compares all processes; with one, does nothing.

    Args:
        config: what to train or to evaluate.
        datasets: opened, by what messages call them. Compared are the annotations, not the pixels.
        more: whatever else must be the same.

    Raises:
        ProcessError: on every process, if they differ; names what, both values and whose they are.
    """
    if jax.process_count() == 1:
        return
    facts = {
        **{name: str(value) for name, value in more.items()},
        "the version of pse_jax": pse_jax.__version__,
        **{f"the version of {name}": importlib.metadata.version(name) for name in LIBRARIES},
        **config_facts(config),
        **{k: v for name, data in datasets.items() for k, v in data_facts(name, data).items()},
        **code_facts(Path(pse_jax.__file__).parent),
    }
    mine = json.dumps([socket.gethostname(), facts]).encode()
    message = ""
    if (told := coordination.gather(mine, "open its data")) is not None:
        hosts, everyone = zip(*(json.loads(one) for one in told), strict=True)
        message = disagreement(hosts, everyone)
    if message := coordination.share(message):
        raise ProcessError(message)


def check_kept(
    run: Run, datasets: Mapping[str, Dataset], allow_change: Collection[str] = ()
) -> None:
    """Compares the data with those that the run began with; a run that begins notes them.

    Args:
        run: that is written to.
        datasets: as in `check_agreement`; file names and folders may be others.
        allow_change: if there is a field of the data among them, other data are noted instead.

    Raises:
        DataError: on every process, if they are others.
    """
    facts = {k: v for name, data in datasets.items() for k, v in data_facts(name, data).items()}
    facts = {name: value for name, value in facts.items() if not name.startswith("the image names")}

    def compare() -> None:
        noted = _noted(run.data_file) if run.started else {}
        changed = [
            f"{name} were {noted[name]} and are {value}"
            for name, value in facts.items()
            if noted.get(name, value) != value
        ]
        if changed and not any(path.startswith("data.") for path in allow_change):
            raise DataError(
                f"{run.folder} holds a run on other data: {'; '.join(changed)}. Give the same "
                "data to resume it, or another --workdir to start a new one. To resume with these, "
                "run the same command again with --allow-change=data"
            )
        for change in changed:
            logger.warning("other data from here on: %s", change)
        if noted != facts:
            write_whole(run.data_file, json.dumps(facts, indent=2) + "\n", "what the data are")

    distributed.on_main(compare)


def _noted(file: Path) -> Facts:
    """What the run began with; nothing, if a version wrote it that noted nothing."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def config_facts(config: Config) -> Facts:
    """Every field that must be the same on every host."""
    return {
        f"config.{path}": repr(value) for path, _, value in leaves(config) if path not in MAY_DIFFER
    }


def data_facts(name: str, dataset: Dataset) -> Facts:
    """Counts and digests of what is trained on."""
    parts = {
        "categories": [np.array([repr(dataset.categories)])],
        "image ids": [dataset.image_ids],
        "image names": [np.array(dataset.image_names, str)],
        "image sizes": [dataset.sizes_hw],
        "boxes": [dataset.boxes_xywh, dataset.image, dataset.area, dataset.crowd],
        "labels": [dataset.category],
    }
    return {
        f"the {part} of the {name}": f"{len(arrays[0])} ({_digest(*arrays)})"
        for part, arrays in parts.items()
    }


def code_facts(package: Path) -> Facts:
    """A digest of every file of the package, but for configurations, whose values are compared."""
    return {
        f"{package.name}/{file.relative_to(package).as_posix()}": _hash(file.read_bytes())
        for file in sorted(package.rglob("*.py"))
        if file.parent.name != "configs"
    }


def disagreement(hosts: Sequence[str], facts: Sequence[Facts]) -> str:
    """What differs, in words; empty if nothing does.

    Args:
        hosts: their names, by process.
        facts: what each process has; they need not have the same names.
    """
    names = dict.fromkeys(name for one in facts for name in one)
    lines = []
    for name in names:
        owners: dict[str, list[int]] = {}
        for process, one in enumerate(facts):
            owners.setdefault(one.get(name, "absent"), []).append(process)
        if len(owners) > 1:
            parts = (f"{value} in {_processes(who, hosts)}" for value, who in owners.items())
            lines.append(f"  {name}: {'; '.join(parts)}")
    if not lines:
        return ""
    if len(lines) > FIELDS_SHOWN:
        lines[FIELDS_SHOWN:] = [f"  and {len(lines) - FIELDS_SHOWN} more"]
    return "\n".join(
        [
            "the processes of this job disagree:",
            *lines,
            "Start all of them with the same command, data and version of the code",
        ]
    )


def _processes(who: list[int], hosts: Sequence[str]) -> str:
    """`process 3 (hostB)`, or several."""
    shown = ", ".join(f"{process} ({hosts[process]})" for process in who[:PROCESSES_SHOWN])
    more = len(who) - PROCESSES_SHOWN
    return f"process{'es' * (len(who) > 1)} {shown}" + (f" and {more} more" if more > 0 else "")


def _digest(*arrays: np.ndarray) -> str:
    """Of their bytes, shapes and types."""
    return _hash(*(repr((a.shape, str(a.dtype))).encode() + a.tobytes() for a in arrays))


def _hash(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]
