"""Lists every loss, and where each lets the score of a positive settle.

--config.loss.beta=2 and the like set the constants.
"""

from collections.abc import Sequence

from pse_jax.config import Config
from pse_jax.config_checks import override
from pse_jax.experiments import landscape
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES, partners
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
        table = [COLUMNS, *cells(field)]
        columns = [
            column for column in zip(*table, strict=True) if column[0] not in "formula target"
        ]
        widths = [max(map(len, column)) for column in columns]
        print(f"--config.{field}=")
        for row in zip(*columns, strict=True):
            print("  " + "  ".join(map(str.ljust, row, widths)).rstrip())
        print()
    print("\n".join(landscape.table(loss)))
    return 0


def cells(field: str) -> list[tuple[str, ...]]:
    """The `COLUMNS` of every loss that a field of the configuration may name."""
    rows = []
    for row in TABLES[field].values():
        kind = "batch" if row.per_batch else "element"
        names = partners(row) if field == "loss.association" else []
        beside = "every one" if len(names) == len(CLASSIFICATIONS) else ", ".join(names)
        rows.append((row.name, row.label, kind, row.formula, row.target, beside, row.source))
    return rows


def markdown() -> str:
    """The tables of docs/losses.md."""
    lines = []
    for field in TABLES:
        lines += [
            f"`config.{field}`",
            "",
            f"| {' | '.join(COLUMNS)} |",
            "|---" * len(COLUMNS) + "|",
        ]
        for name, *row in cells(field):
            escaped = (cell.replace("|", "\\|") for cell in row)
            lines.append(f"| `{name}` | {' | '.join(escaped)} |")
        lines.append("")
    return "\n".join(lines[:-1])
