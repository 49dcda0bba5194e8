"""docs/results: the tables of every sweep there are what its runs.csv gives."""

import shutil
from pathlib import Path

import pytest

from pse_jax.verbs import sweep as command

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SWEEPS = sorted(file.parent.name for file in RESULTS.glob("*/sweep.json"))


def test_there_are_results():
    assert SWEEPS


@pytest.mark.parametrize("name", SWEEPS)
def test_the_tables_are_rebuilt_to_the_letter(name, tmp_path, monkeypatch, capsys):
    """As docs/results/protocol.md says: the folder's sweep.json and runs.csv, and the command."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RESULTS / name, Path("runs/results", name))
    for made in ("sweep.md", "summary.csv"):
        Path("runs/results", name, made).unlink()
    assert command.main(["--report-only", "--out", f"runs/results/{name}"]) == 0
    for made in ("sweep.md", "runs.csv", "summary.csv"):
        rebuilt = Path("runs/results", name, made).read_text()
        assert rebuilt == (RESULTS / name / made).read_text(), made
