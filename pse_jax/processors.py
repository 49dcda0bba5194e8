"""The processors (cores or hardware threads) that this process may use."""

import os


def count() -> int:
    """How many: fewer than the host has under `taskset`, or in a job with a limit."""
    return len(numbers()) or os.cpu_count() or 1


def numbers() -> list[int]:
    """Which ones; empty where the system does not tell (macOS, Windows)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
