"""What made the runs of a sweep, and how its tables are made again."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pse_jax.experiments.sweep.plan import Sweep, as_flags
from pse_jax.experiments.sweep.records import FACTS, FINISHED
from pse_jax.experiments.sweep.results import Outcome
from pse_jax.experiments.sweep.variants import BASELINE, BASELINE_OVERRIDES, TABLES


def describe(sweep: Sweep, outcomes: Sequence[Outcome], out: Path) -> str:
    """Markdown: the command, and of the finished runs hours, hardware, versions and commits."""
    facts = [outcome.facts for outcome in outcomes if outcome.state == FINISHED]
    hours = sum(float(fact.get("hours", 0)) for fact in facts)
    total = f"- {len(facts)} runs, {hours:.1f} hours together (with their waiting times)"
    rows = [total + _silent(facts, "hours")]
    for name in FACTS[1:]:
        found = sorted({fact[name] for fact in facts if fact.get(name)})
        rows += [f"- {name}: {'; '.join(found)}{_silent(facts, name)}"] if found else []
    again = f"python -m pse_jax sweep --report-only --out {shlex.quote(str(out))}"
    commands = "\n".join(("```bash", command(sweep, out), again, "```"))
    return f"{commands}\n\nThe second line makes these tables again.\n\n" + "\n".join(rows)


def _silent(facts: Sequence[Mapping[str, Any]], name: str) -> str:
    """`; not noted in 3`, or nothing if all runs note it."""
    count = sum(fact.get(name) in (None, "") for fact in facts)
    return f"; not noted in {count}" if count else ""


def command(sweep: Sweep, out: Path) -> str:
    """The command that trains all of it."""
    words = ["--config", sweep.config_file, "--out", str(out)]
    for table in sweep.tables:
        words += ["--table", table]
    of_tables = {name for table in sweep.tables for name in TABLES[table].variants}
    for name, changed in sweep.variants.items():
        standard = changed == BASELINE_OVERRIDES if name == BASELINE else name in of_tables
        if not standard:
            words += ["--variant", f"{name}: {shlex.join(as_flags(changed))}"]
    words += ["--seeds", str(sweep.seeds), *as_flags(sweep.shared)]
    return "python -m pse_jax sweep " + shlex.join(words)
