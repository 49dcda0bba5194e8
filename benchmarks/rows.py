"""What benchmarks against another library measure, and the table and the file of it."""

import dataclasses
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import sides
from sides import Side, SideError

from pse_jax import processors

HEAD = (
    f"{'question':20}{'side':38}{'ms':>9}{'img/s':>8}{'TFLOP/s':>9}{'of peak':>9}"
    f"{'peer/ours':>11}{'first, s':>10}{'GB':>6}"
)


@dataclasses.dataclass(frozen=True)
class Question:
    """Something that all sides do: a block, and how much work a step of it is."""

    name: str
    block: str
    images: int
    flops: int  # of a step, ours
    peer_flops: int
    seconds: float = 1.0  # that a block lasts
    rounds: int = 5


@dataclasses.dataclass
class Row:
    """An answer of one side. ms is of a step, None if it failed: `note` says why."""

    question: str
    side: str
    ms: float | None = None
    images_per_s: float | None = None
    tflops: float | None = None
    ours_ms: float | None = None  # measured in turn with a peer
    ratio: float | None = None  # peer's time over ours
    first_s: float | None = None  # the first step, with compilation
    more: sides.Reply = dataclasses.field(default_factory=dict)
    note: str = ""

    def timed(self, ms: float, question: Question, flops: int) -> None:
        """Fills in the time of a step and what follows from it."""
        self.ms = ms
        self.images_per_s = question.images / ms * 1e3
        self.tflops = flops / ms / 1e9

    def line(self, peak_tflops: float) -> str:
        """As a line of the table."""
        start = f"{self.question:20}{self.side:38}"
        if self.ms is None:
            return f"{start}  {self.note}"
        share = f"{(self.tflops or 0) / peak_tflops:.1%}" if peak_tflops else ""
        return (
            f"{start}{_cell(self.ms, 9, 2)}{_cell(self.images_per_s, 8, 1)}"
            f"{_cell(self.tflops, 9, 3 if peak_tflops < 10 else 1)}"
            f"{share:>9}{_cell(self.ratio, 11, 2)}"
            f"{_cell(self.first_s, 10, 1)}{_cell(self.more.get('memory_gb'), 6, 1)}  {self.note}"
        ).rstrip()


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'' if value is None else f'{value:.{digits}f}':>{width}}"


class Table:
    """Rows; each is printed, and the file written anew, as it comes."""

    def __init__(self, path: Path | None):
        self.path, self.rows = path, []
        self.facts: dict[str, Any] = {
            "command": " ".join(sys.argv),
            "processor": f"{processors.name()}, {os.cpu_count()} threads",
            "python": platform.python_version(),
            "peak_tflops": 0.0,
        }

    def learn(self, facts: dict[str, Any]) -> None:
        """Takes in what a side says of itself."""
        self.facts["peak_tflops"] = max(self.facts["peak_tflops"], facts["peak_tflops"])
        library = facts["versions"].split()[0]
        self.facts[library] = facts["versions"]
        self.facts |= {key: facts[key] for key in ("device", "platform") if key in facts}

    def add(self, row: Row) -> None:
        """Prints and keeps a row."""
        self.rows.append(row)
        print(row.line(self.facts["peak_tflops"]), flush=True)
        self.write()

    def write(self) -> None:
        """Writes the file."""
        if self.path:
            content = {**self.facts, "rows": [dataclasses.asdict(row) for row in self.rows]}
            partial = self.path.with_name(self.path.name + ".partial")
            partial.write_text(json.dumps(content, indent=2) + "\n")
            partial.replace(self.path)

    def show(self) -> None:
        """Prints everything again, in one piece, by question."""
        peak = self.facts["peak_tflops"]
        print(f"\n{HEAD}")
        for name in dict.fromkeys(row.question for row in self.rows):
            for row in self.rows:
                if row.question == name:
                    print(row.line(peak))
        print("\npeer/ours: over 1, we are faster; ms of both in turn, medians of blocks.")
        print("\n".join(f"{key}: {value}" for key, value in self.facts.items()))


def start(side: Side, table: Table, limit: float) -> bool:
    """Has a side build its work; whether it did."""
    try:
        table.learn(side.ready(limit))
    except SideError:
        return False  # each row says why
    return True


def alone(question: Question, ours: Side, limit: float) -> Row:
    """Ours, by itself."""
    row = Row(question.name, "ours")
    try:
        row.first_s = ours.run(question.block, 1, limit)["seconds"]
        row.more = ours.run(question.block, sides.WARM_UP, limit)
        (ms,) = sides.in_turn([ours], question.block, question.rounds, question.seconds, limit)
        row.timed(ms, question, question.flops)
    except SideError as error:
        row.note = str(error)
    return row


def against(question: Question, ours: Side, peer: Side, name: str, limit: float) -> Row:
    """A peer, in turn with ours, or by itself if ours has failed."""
    row = Row(question.name, name)
    both = [peer] if ours.failure else [ours, peer]
    try:
        row.first_s = peer.run(question.block, 1, limit)["seconds"]
        row.more = peer.run(question.block, sides.WARM_UP, limit)
        times = sides.in_turn(both, question.block, question.rounds, question.seconds, limit)
        row.timed(times[-1], question, question.peer_flops)
        if len(times) == 2:
            row.ours_ms, row.ratio = times[0], times[1] / times[0]
    except SideError as error:
        row.note = f"ours: {error}" if ours.failure and len(both) == 2 else str(error)
    return row
