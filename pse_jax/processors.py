"""The processors (cores or hardware threads) that this process may use."""

import contextlib
import os
import platform
from pathlib import Path


def count() -> int:
    """How many: fewer than the host has under `taskset`, or in a job with a limit."""
    return len(numbers()) or os.cpu_count() or 1


def numbers() -> list[int]:
    """Which ones; empty where the system does not tell (macOS, Windows)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def name() -> str:
    """The model: `AMD EPYC 9R14`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
