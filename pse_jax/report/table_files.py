"""Tables as files: CSV for programs, LaTeX for papers."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pse_jax.files import make_folder, write_whole
from pse_jax.report.tables import Table

KINDS = ("csv", "latex")
SUFFIXES = {"csv": ".csv", "latex": ".tex"}
# What LaTeX would take for a command.
ESCAPES = str.maketrans(
    {
        **{char: "\\" + char for char in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "\n": " ",
    }
)


def write_tables(folder: Path, tables: Mapping[str, Table | str], kinds: Iterable[str]) -> None:
    """Writes FOLDER/NAME.csv and .tex of every table; what is only a note is left out."""
    form = {"csv": to_csv, "latex": to_latex}
    make_folder(folder, "the folder of the tables")
    for name, table in tables.items():
        for kind in kinds:
            if isinstance(table, Table):
                write_whole(folder / f"{name}{SUFFIXES[kind]}", form[kind](table), "a table")


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file; NaN and what a row does not have are empty."""
    stream = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, columns, restval="")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    write_whole(file, stream.getvalue(), "the tables")


def to_csv(table: Table) -> str:
    """Its data in full precision, as shares and not percent; nothing where it is undefined."""
    stream = io.StringIO()
    rows = table.data or [table.header, *table.rows]
    csv.writer(stream, lineterminator="\n").writerows([_plain(v) for v in row] for row in rows)
    return stream.getvalue()


def to_latex(table: Table) -> str:
    """Its cells, as they are printed, between booktabs' rules."""
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [" & ".join(map(escape, row)) + r" \\" for row in [table.header, *table.rows]]
    note = [f"% {line}" for line in table.note.splitlines()]
    return "\n".join(
        [
            f"% {table.title.translate({10: ' '})}; needs \\usepackage{{booktabs}}",
            *note,
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text as LaTeX prints it, with a minus before numbers; a lone dash stands for nothing."""
    if text == "-":
        return "--"
    return re.sub(r"(?:^|(?<=[ \[]))-(?=\d)", "$-$", text.translate(ESCAPES))


def _plain(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
