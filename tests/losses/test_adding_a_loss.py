"""A stranger adds a loss: its maths and one row of the table, and touches no other file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pse_jax.config import to_dict
from tests import tiny_run

ROOT = Path(__file__).parents[2]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
MATHS = '''\
"""An association that grows linearly: Huber (1964)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def huber_loss(score: Float[Array, "*n"], iou: Float[Array, "*n"], *, beta: float = 1.0):
    """β times the pseudo-Huber distance of p̂ and the detached Î."""
    gap = score - jax.lax.stop_gradient(iou)
    return beta * (jnp.sqrt(1.0 + jnp.square(8.0 * gap)) - 1.0)
'''
ROW = """\
    Row("huber", "Huber", "β (√(1 + 64 (p̂ − Î)²) − 1)", target="Î", source="Huber, 1964",
        function=lambda at, c: huber_loss(at.score, at.iou, beta=c.beta), constants=("beta",)),
"""
CONFIG = """\
import json

from pse_jax.config import from_dict


def get_config():
    return from_dict(json.loads({values!r}))
"""


def replace(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the package in which the loss was added, and a tiny configuration."""
    place = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pse_jax", place / "pse_jax", ignore=ignore)
    losses = place / "pse_jax" / "losses"
    (losses / "huber.py").write_text(MATHS, encoding="utf-8")
    first, table = "ASSOCIATIONS = _by_name(\n", losses / "table.py"
    replace(table, first, first + ROW)
    beside = "from pse_jax.losses.focal import sigmoid_focal_loss\n"
    replace(table, beside, beside + "from pse_jax.losses.huber import huber_loss\n")
    values = json.dumps(to_dict(tiny_run.config(place / "cache")))
    (place / "tiny.py").write_text(CONFIG.format(values=values))
    return place


def command(place, *words):
    """What `python -m pse_jax WORDS` of the copy prints."""
    more = {"PYTHONPATH": str(place), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK}
    done = subprocess.run(
        [sys.executable, "-m", "pse_jax", *words],
        cwd=place,
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_sweep_trains_it(place):
    assert "huber, huber_target, pse" in command(place, "sweep", "--help")
    variant = "huber: --config.loss.association=huber --config.loss.beta=0.1"
    words = ["--config", "tiny.py", "--config.optimizer.steps=2", "--variant", variant]
    printed = command(place, "sweep", *words, "--out", "out")
    assert "baseline" in printed and "huber" in printed and "FAILED" not in printed
    (run,) = (file.parent for file in place.glob("out/**/metrics.jsonl") if "huber" in str(file))
    assert json.loads((run / "config.json").read_text())["loss"]["association"] == "huber"
    step, _ = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert step["step"] == 2 and step["assoc"] > 0
    assert "Huber(beta=0.1, score=max)" in (run / "train.log").read_text()


def test_a_figure_draws_its_surface(place):
    command(place, "figures", "--what", "surfaces", "--losses", "huber", "--out", "figures")
    assert (place / "figures" / "surfaces_huber.png").stat().st_size > 10_000


def test_the_printed_table_has_it(place):
    printed = command(place, "losses").splitlines()
    row, settles = (line.split() for line in printed if line.split()[:1] == ["huber"])
    assert row == ["huber", "Huber", "elementwise", "focal,", "iou_balanced", "Huber,", "1964"]
    scores = [float(value) for value in settles[1:8]]
    assert scores == sorted(scores) and scores[-1] == 1.0
