"""train.py killed by SIGKILL at random moments, run again each time until it is done.

The 50 kills: pytest -n 0 -m slow tests/runs/test_kills.py (27 minutes on two busy cores).
PSE_JAX_KILLS and PSE_JAX_KILL_SEED change their number and their moments.

Checkpoints and evaluations take most of the time of these runs. A third of the kills each is aimed
at a checkpoint that is being written, at an evaluation, and at any moment, the start included.
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from pse_jax import models
from pse_jax.runs import restore
from pse_jax.runs.folder import Run
from pse_jax.runs.load import load_run
from pse_jax.training import optimizer
from pse_jax.training.step import create_state

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("PSE_JAX_KILLS", "50"))
SEED = int(os.environ.get("PSE_JAX_KILL_SEED", "0"))
STEPS, CHECKPOINT_EVERY, EVAL_EVERY, LOG_EVERY = 60, 3, 6, 4
DEADLINE = 300  # seconds for what takes a few, on a machine that is busy


class Life:
    """train.py, from its start to its end or a kill."""

    def __init__(self, cache: Path, workdir: Path):
        self.run = Run(workdir)
        self.known = self.written()
        workdir.mkdir(parents=True, exist_ok=True)
        self.output = (workdir / "output.txt").open("a")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "train.py",
                "--config=tests/tiny_run.py",
                f"--workdir={workdir}",
                f"--config.data.cache_dir={cache}",
                f"--config.optimizer.steps={STEPS}",
                "--config.optimizer.milestones=(40,)",
                "--config.inference.score_threshold=0.001",  # so that there are detections
                f"--config.train.checkpoint_every={CHECKPOINT_EVERY}",
                f"--config.train.eval_every={EVAL_EVERY}",
                f"--config.train.log_every={LOG_EVERY}",
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "1",
                # Compiles faster, to run slower.
                "XLA_FLAGS": "--xla_backend_optimization_level=0 "
                "--xla_llvm_disable_expensive_passes=true",
            },
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def written(self) -> set[Path]:
        """Checkpoints that are there or being written."""
        folders = (self.run.checkpoints, self.run.best)
        return {path for folder in folders if folder.is_dir() for path in folder.iterdir()}

    def wait_for(self, condition) -> bool:
        """Whether it came true before the process ended."""
        deadline = time.time() + DEADLINE
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.time() < deadline, self.said()
            time.sleep(0.002)
        return True

    def a_checkpoint_is_being_written(self) -> bool:
        return any("orbax-checkpoint-tmp" in path.name for path in self.written() - self.known)

    def an_evaluation_goes_on(self) -> bool:
        """A checkpoint is saved in the background of the evaluation of its step."""
        new = [path for path in self.written() - self.known if path.parent == self.run.checkpoints]
        return any(int(path.name.split(".")[0]) % EVAL_EVERY == 0 for path in new)

    def kill(self, moments: random.Random) -> str | None:
        """Kills it at a random moment; returns what was aimed at, None if it was done before."""
        aim = moments.choice(("writing", "evaluation", "any"))
        if aim == "writing":
            alive = self.wait_for(self.a_checkpoint_is_being_written)
            time.sleep(moments.uniform(0, 0.1))
        elif aim == "evaluation":
            alive = self.wait_for(self.an_evaluation_goes_on)
            time.sleep(moments.uniform(0, 0.6))
        else:
            until = time.time() + moments.uniform(0, 12)
            alive = self.wait_for(lambda: time.time() > until)
        self.process.kill()
        code = self.process.wait()
        self.output.close()
        assert code in (0, -9), self.said()
        return aim if alive and code == -9 else None

    def finish(self) -> None:
        assert self.process.wait(DEADLINE) == 0, self.said()
        self.output.close()

    def said(self) -> str:
        return (self.run.folder / "output.txt").read_text()[-5000:]


def rows_of(run: Run) -> list[dict]:
    """Of metrics.jsonl, but for how long a step took."""
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("images_per_second", "data_share")}
        for line in lines
    ]


def state_of(run: Run, mesh) -> restore.Saved:
    config = run.config()

    def like(meta):
        model = models.create(config.model, len(meta["category_ids"]))
        sgd = optimizer.create(config.optimizer, config.model)
        state = jax.eval_shape(lambda key: create_state(model, sgd, key), jax.random.key(0))
        return state.variables, state.training

    saved = restore.newest(run, like, mesh)
    assert saved is not None
    return saved


def leaves_of(saved: restore.Saved) -> list:
    return jax.tree.leaves((saved.variables, saved.training))


def assert_equal_runs(a: Run, b: Run, mesh) -> None:
    assert rows_of(a) == rows_of(b)
    files = [sorted(run.folder.glob("[de]*_*.json")) for run in (a, b)]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    assert len(files[0]) == 2 * STEPS // EVAL_EVERY
    for ours, theirs in zip(*files, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name
    states = [state_of(run, mesh) for run in (a, b)]
    assert states[0].meta == states[1].meta and states[0].meta["step"] == STEPS
    for ours, theirs in zip(*map(leaves_of, states), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    best = [load_run(run, "best") for run in (a, b)]
    assert best[0].step == best[1].step
    jax.tree.map(np.testing.assert_array_equal, best[0].variables, best[1].variables)


@pytest.mark.slow
def test_killed_50_times_a_run_ends_as_one_that_was_not(tmp_path, one_device_mesh):
    """Parameters, velocities, counters, rows, evaluations and the best are equal, bit for bit.

    A run that is done is compared, and the kills go on with another.
    """
    cache, moments = tmp_path / "cache", random.Random(SEED)
    untouched = Life(cache, tmp_path / "untouched")
    untouched.finish()
    assert len({row["AP"] for row in rows_of(untouched.run) if "AP" in row}) > 3  # not all 0
    kills, runs = {"writing": 0, "evaluation": 0, "any": 0}, 0
    unfinished = repeated = 0
    while sum(kills.values()) < KILLS:
        runs += 1
        workdir = tmp_path / f"run_{runs}"
        while sum(kills.values()) < KILLS:
            life = Life(cache, workdir)
            if (aim := life.kill(moments)) is None:
                break
            kills[aim] += 1
            unfinished += life.a_checkpoint_is_being_written()
        Life(cache, workdir).finish()
        repeated += len(re.findall("was not completed", (workdir / "train.log").read_text()))
        assert_equal_runs(Run(workdir), untouched.run, one_device_mesh)
    print(
        f"{kills} kills of {runs} runs: {unfinished} unfinished checkpoints, "
        f"{repeated} repeated evaluations"
    )
    if KILLS >= 50:
        assert unfinished > 5 and repeated > 2
