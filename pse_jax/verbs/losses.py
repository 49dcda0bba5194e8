"""Lists every loss, and where each lets the score of a positive settle.

--config.loss.beta=2 and the like set the constants.
"""

from collections.abc import Sequence

from pse_jax.config import Config
from pse_jax.config_checks import override
from pse_jax.experiments import landscape
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES, partners
from pse_jax.report.tables import align
from pse_jax.verbs import flags

TABLES = {
    "loss.association": ASSOCIATIONS,
    "loss.classification": CLASSIFICATIONS,
    "model.quality": QUALITIES,
}
COLUMNS = ("name", "label", "kind", "formula", "target", "goes with", "source")


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("losses", __doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/losses.md")
    flags.add_overrides(parser)
    options = flags.parse(parser, argv)
    loss = override(Config(), options.overrides).loss
    if options.markdown:
        print(markdown())
        return 0
    for field in TABLES:
        rows = [(*row[:3], *row[5:]) for row in (COLUMNS, *cells(field))]  # without the formula
        print(f"--config.{field}=")
        for row in align(rows, [False] * len(rows[0])):
            print("  " + "  ".join(row).rstrip())
        print()
    print("\n".join(landscape.table(loss)))
    return 0


def cells(field: str) -> list[tuple[str, ...]]:
    """The `COLUMNS` of every loss that a field of the configuration may name."""
    rows = []
    for row in TABLES[field].values():
        kind = f"per {row.couples}" if row.couples else "elementwise"
        names = partners(row) if field == "loss.association" else []
        beside = "every one" if len(names) == len(CLASSIFICATIONS) else ", ".join(names)
        rows.append((row.name, row.label, kind, row.formula, row.target, beside, row.source))
    return rows


def markdown() -> str:
    """The tables of docs/losses.md."""
    lines = []
    for field in TABLES:
        lines += [f"`config.{field}`", "", f"| {' | '.join(COLUMNS)} |"]
        lines += ["|---" * len(COLUMNS) + "|"]
        for name, *row in cells(field):
            escaped = (cell.replace("|", "\\|") for cell in row)
            lines.append(f"| `{name}` | {' | '.join(escaped)} |")
        lines.append("")
    return "\n".join(lines[:-1])
