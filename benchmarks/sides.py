"""What benchmarks against another library share: a process a side, asked for a block at a time.

Each side lives in a process of its own, and so may live in an environment of its own. It imports
what it needs and waits; told to, it builds its work, says that it is ready, and from then on is
asked for blocks of so many steps. The first step of a kind compiles. Blocks of the sides alternate,
so that whatever else the machine does disturbs both alike.
"""

import argparse
import contextlib
import json
import os
import queue
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Reply = dict[str, float]  # "seconds" of a block, and what else there is to say
Block = Callable[[int], Reply]  # does that many steps
WARM_UP = 2  # steps after the first


class SideError(Exception):
    """A side that failed or ran out of time; the text says why, in one line."""


def serve(build: Callable[[], tuple[dict[str, Block], dict[str, Any]]]) -> None:
    """The life of a side: builds, reports what `build` says, then runs the blocks asked for."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not come between the replies
    if not sys.stdin.readline():  # nobody needs it any more
        return
    began = time.perf_counter()
    blocks, facts = build()
    facts["start_s"] = round(time.perf_counter() - began, 2)
    print(json.dumps(facts), file=replies, flush=True)
    for line in sys.stdin:
        steps, name = line.split(maxsplit=1)
        print(json.dumps(blocks[name.strip()](int(steps))), file=replies, flush=True)


class Side:
    """A running side."""

    def __init__(
        self,
        script: str,
        *arguments: str,
        python: str = sys.executable,
        variables: dict[str, str] | None = None,  # of its environment, besides environment()
    ):
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [python, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment() | (variables or {}),
            text=True,
            start_new_session=True,
        )
        self.replies: queue.Queue[str] = queue.Queue()
        self.failure = ""  # why it is of no more use
        threading.Thread(target=self._read, daemon=True).start()

    def ready(self, seconds: float) -> dict[str, Any]:
        """Has it build its work; returns what it says about itself, `start_s` among it.

        Raises:
            SideError: if it fails, or is not ready after so many seconds.
        """
        return self._ask("", seconds)

    def run(self, block: str, steps: int, seconds: float) -> Reply:
        """What it says of a block of so many steps; raises SideError like `ready`."""
        return self._ask(f"{steps} {block}", seconds)

    def close(self) -> None:
        """Ends it."""
        self.failure = self.failure or "it was closed"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # compilers that it started, too
        self.process.wait()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.replies.put(line)
        self.replies.put("")  # it has ended

    def _ask(self, request: str, seconds: float) -> Any:
        if not self.failure and seconds > 0:
            with contextlib.suppress(OSError):  # it has ended: the reply says so
                print(request, file=self.process.stdin, flush=True)
            try:
                if line := self.replies.get(timeout=seconds):
                    return json.loads(line)
                self.failure = self._last_words()
            except queue.Empty:  # its reply would be taken for that to the next request
                self.failure = f"not done after {seconds:.0f} s"
            self.close()
        raise SideError(self.failure or "no time left")

    def _last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if "Error" in line] or lines or ["it ended"]
        return errors[-1].strip()[:300]


def environment() -> dict[str, str]:
    """Of every side: this checkout's package, huge pages, one GPU, no memory ahead of need."""
    return {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # train.py sets it; PyTorch gains by it, too
        "CUDA_VISIBLE_DEVICES": "0",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # two processes share the GPU
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
    }


def ours(
    work: str,
    options: argparse.Namespace,
    batches: list[int],
    variables: dict[str, str] | None = None,
) -> Side:
    """Our side, which imports what it needs; `variables` as for a Side."""
    more = ["--dtype", options.dtype, "--strides", options.strides]
    more += ["--cache", str(options.cache)] if options.cache else []
    more += ["--remat"] if getattr(options, "remat", False) else []
    return Side("ours.py", *_task(work, options, batches), *more, variables=variables)


def peer(work: str, options: argparse.Namespace, batches: list[int], setting: str) -> Side:
    """Torchvision's side in one of its settings."""
    more = ["--setting", setting, "--threads", str(options.threads)]
    task = _task(work, options, batches)
    return Side("torchvision_side.py", *task, *more, python=options.peer_python)


def _task(work: str, options: argparse.Namespace, batches: list[int]) -> list[str]:
    height, width = options.size
    task = [work, "--size", f"{height}x{width}", "--candidates", str(options.candidates)]
    return [*task, "--batches", *map(str, batches)]


def in_turn(
    sides: list[Side], block: str, rounds: int, seconds: float, limit: float
) -> list[float]:
    """Median ms a step of each, of blocks that last about `seconds`; all are warm.

    A step before each block is not counted: memory that lay idle meanwhile is slower to get, once.
    """
    steps, times = [], [[] for _ in sides]
    for side in sides:
        one = side.run(block, 1, limit)["seconds"]
        steps.append(max(1, min(200, round(seconds / one))))
    for _ in range(rounds):
        for side, count, taken in zip(sides, steps, times, strict=True):
            side.run(block, 1, limit)
            taken.append(side.run(block, count, limit)["seconds"] / count)
    return [statistics.median(taken) * 1e3 for taken in times]


def limit_processors(threads: int) -> int:
    """Limits this process and those that it starts to so many processors; 0: no limit.

    Returns how many there are then.
    """
    if not hasattr(os, "sched_setaffinity"):
        return threads or os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    if threads:
        os.sched_setaffinity(0, allowed[:threads])
    return len(os.sched_getaffinity(0))


def peak_memory_gb() -> float:
    """What this process had of the memory at most; since the last call, where Linux lets it.

    So the first call's has compilers in it, and the next one's has not. A GPU's its library knows.
    """
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = kilobytes * (1 if sys.platform == "darwin" else 1024) / 1e9
    with contextlib.suppress(OSError, StopIteration):
        status = Path("/proc/self/status").read_text().splitlines()
        peak = int(next(s for s in status if s.startswith("VmHWM")).split()[1]) * 1024 / 1e9
        Path("/proc/self/clear_refs").write_text("5")  # begins anew
    return peak
