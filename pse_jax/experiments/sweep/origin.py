"""What made the runs of a sweep, and how its tables are made again."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pse_jax.experiments.sweep.plan import Sweep, as_flags
from pse_jax.experiments.sweep.results import FINISHED, Outcome
from pse_jax.experiments.sweep.variants import BASELINE, BASELINE_OVERRIDES, TABLES
from pse_jax.runs.folder import Run
from pse_jax.runs.times import read_times


def describe(sweep: Sweep, outcomes: Sequence[Outcome], out: Path) -> str:
    """Markdown: the command, and of the finished runs hours, hardware, versions and commits."""
    runs = [Run(outcome.trial.folder) for outcome in outcomes if outcome.state == FINISHED]
    seconds = sum(sum(read_times(run.times)["seconds"].values()) for run in runs)
    facts = [_facts(run) for run in runs]
    rows = [f"- {len(runs)} runs, {seconds / 3600:.1f} hours together (with their waiting times)"]
    for name in ("processor", "devices", "versions", "commit"):
        found = sorted({fact[name] for fact in facts if fact.get(name)})
        rows += [f"- {name}: {'; '.join(found)}"] if found else []
    again = f"python -m pse_jax sweep --report-only --out {shlex.quote(str(out))}"
    commands = "\n".join(("```bash", command(sweep, out), again, "```"))
    return f"{commands}\n\nThe second line makes these tables again.\n\n" + "\n".join(rows)


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


def _facts(run: Run) -> dict[str, Any]:
    """job.json, the versions in one line; empty if it is missing or damaged."""
    try:
        facts = json.loads(run.job_file.read_bytes())
        versions = facts["versions"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return facts | {"versions": ", ".join(f"{name} {number}" for name, number in versions)}
