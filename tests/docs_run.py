"""Runs the commands of a page in a scratch folder, as its markers say.

A marker is an HTML comment right before a block of `bash`, `sh` or `python`:

    <!-- run -->                       as it stands
    <!-- run with: FLAGS -->           the same, with FLAGS after every command that trains
    <!-- not run: REASON -->           left out
    <!-- before: COMMAND -->           besides one of these: runs first, unseen by the reader
    <!-- needs: VARIABLE -->           besides: from here on only where this variable is set

A page with one marker has one for every such block. The blocks of a page share one scratch folder,
which holds links to everything in the repository, and run in their order, each in a bash of its own
that ends with the first command that fails; `pip` does nothing there, as CI installs anew.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pages
from pages import Block

LANGUAGES = ("bash", "sh", "python")
OURS = ("runs", "data")  # what commands write, and a checkout may hold
PRELUDE = """\
set -euo pipefail
pip() { echo "pip $* is left out"; }
python() {
  case "$1 ${2:-} ${3:-}" in
    "train.py "* | "-m pse_jax train") command python "$@" $TRAIN_FLAGS ;;
    *) command python "$@" ;;
  esac
}
"""


def of(block: Block, kind: str) -> str | None:
    """The text of a marker of this kind; empty for one without text; None if there is none."""
    for comment in block.comments:
        name, _, text = comment.partition(":")
        if name.strip() == kind:
            return text.strip()
    return None


def is_marked(block: Block) -> bool:
    return any(of(block, kind) is not None for kind in ("run", "run with", "not run"))


def candidates(page: str) -> list[Block]:
    """The blocks of a page that could be run."""
    return [block for block in pages.blocks(page) if block.language in LANGUAGES]


def scratch(folder: Path) -> Path:
    """A folder in which the commands of a page find what they find in the repository."""
    (folder / "home").mkdir(parents=True)
    for entry in pages.ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in OURS:
            (folder / entry.name).symlink_to(entry)
    return folder


def script(block: Block) -> str:
    """What bash runs for a block."""
    before = of(block, "before") or ""
    if block.language == "python":
        return f"{PRELUDE}{before}\npython - <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK\n"
    return f"{PRELUDE}{before}\n{block.text}\n"


def run(page: str, folder: Path) -> Iterator[str]:
    """Runs the marked blocks of a page; a line for each. AssertionError where one fails."""
    scratch(folder)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "JAX_PLATFORMS": "cpu",
    }
    for block in candidates(page):
        if (needed := of(block, "needs")) and needed not in os.environ:
            yield f"{block}: {needed} is not set; the rest of the page is left out"
            return
        if (reason := of(block, "not run")) is not None:
            yield f"{block}: not run: {reason}"
            continue
        started = time.perf_counter()
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", script(block)],
            env=environment | {"TRAIN_FLAGS": of(block, "run with") or ""},
            **{"cwd": folder, "capture_output": True, "text": True},
        )
        said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == 0, f"{block}: exit status {done.returncode}\n{block.text}\n{said}"
        yield f"{block}: {time.perf_counter() - started:.0f} s"
