"""What a run is after a resume: its rows, its evaluations, and values changed in mid-run.

The slower ones: pytest -n 0 -m slow tests/runs/test_resuming.py (two minutes).
"""

import contextlib
import dataclasses
import json
import re
import shutil
import socket

import jax
import numpy as np
import pytest

from pse_jax import distributed
from pse_jax.__main__ import main
from pse_jax.config import from_dict
from pse_jax.errors import CheckpointError, ConfigError
from pse_jax.processes import job
from pse_jax.runs.checkpoint import read_meta
from pse_jax.runs.folder import Run, detections_file, numbers_file
from pse_jax.runs.load import load_run
from pse_jax.training import loop, optimizer, resume
from pse_jax.training.loop import train
from pse_jax.training.step import create_state
from pse_jax.verbs.train import named_fields as fields
from tests import tiny_run as tiny
from tests.test_processes import Command

WALL_TIME = ("images_per_second", "data_share")


class Killed(BaseException):
    """In place of a SIGKILL: no `except Exception` sees it."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def config_of(cache, steps=6, **train_fields):
    """A window of four steps, a checkpoint every three, an evaluation every three."""
    chosen = {"log_every": 4, "checkpoint_every": 3, "eval_every": 3, "keep_checkpoints": 9}
    config = tiny.config(cache, **{**chosen, **train_fields})
    config.optimizer.steps = steps
    return config


SCORES = {3: 0.3, 6: 0.2}  # AP by step


@contextlib.contextmanager
def quick_loop(scores=SCORES):
    """The loop with a step that compiles at once and an evaluation that looks at no image."""

    def new_state(config, model, sgd, mesh):
        shapes = jax.eval_shape(lambda: create_state(model, sgd, jax.random.key(0)))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        ones = jax.tree.map(np.ones_like, zeros.params)
        return distributed.to_every_device(dataclasses.replace(zeros, params=ones), mesh)

    def make_step(*_):
        def step(state, batch):
            halved = jax.tree.map(lambda leaf: leaf / 2, state.params)
            number = state.step + 1
            names = ("loss", "cls", "box", "assoc", "quality", "grad_norm", "finite")
            metrics = {name: 0.1 * number + batch["image"].mean() for name in names}
            state = dataclasses.replace(state, step=number, params=halved)
            return state, metrics | {"bad_steps": 0, "skipped": 0, "unreadable": number}

        return jax.jit(step)

    def evaluate(detector, dataset, out):
        numbers = {"step": detector.step, "AP": scores[detector.step]}
        detections_file(out, detector.step).write_text("[]")
        numbers_file(out, detector.step).write_text(json.dumps(numbers))
        return numbers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_new_state", new_state)
        patch.setattr(loop, "make_train_step", make_step)
        patch.setattr(loop, "evaluate", evaluate)
        yield


@pytest.fixture
def quick():
    with quick_loop():
        yield


@pytest.fixture(scope="module")
def untouched(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untouched")
    with quick_loop():
        train(config_of(cache), folder)
    return folder


def rows_of(folder):
    file = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [{k: v for k, v in line.items() if k not in WALL_TIME} for line in lines]


def results_of(folder):
    found = [*folder.glob("eval_*.json"), *folder.glob("detections_*.json")]
    return {file.name: file.read_bytes() for file in found}


def arrays_of(folder):
    return jax.device_get(load_run(Run(folder), "latest").variables)


def assert_equal_runs(a, b):
    assert rows_of(a) == rows_of(b)
    assert results_of(a) == results_of(b) and len(results_of(a)) == 4
    assert [p.name for p in (a / "best").iterdir()] == [p.name for p in (b / "best").iterdir()]
    for folder in ("checkpoints", "best"):
        newest = max(int(path.name) for path in (a / folder).iterdir())
        ours, theirs = (read_meta(run / folder / str(newest)) for run in (a, b))
        assert ours == theirs and len(ours["arrays"]) > 50  # their shapes and checksums


@pytest.mark.parametrize(
    "where",
    ["write", *(pytest.param(w, marks=pytest.mark.slow) for w in ("evaluate", "save_if_best"))],
)
def test_an_evaluation_that_was_killed_is_repeated(
    where, untouched, quick, cache, tmp_path, monkeypatch
):
    """The checkpoint of its step is there; the run ends as the one that was never killed.

    It also resumes within a window of metrics: its first row is the mean of all four steps.
    """

    folder = tmp_path / "run"

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        if where == "evaluate":
            patch.setattr(loop, "evaluate", killed)
        elif where == "save_if_best":
            patch.setattr(loop.Checkpoints, "save_if_best", killed)
        else:
            patch.setattr("pse_jax.training.scalars.ScalarWriter.write", killed)
        with pytest.raises(Killed):
            train(config_of(cache), folder)
    assert (folder / "checkpoints" / "3").is_dir() and not rows_of(folder)
    train(config_of(cache), folder)
    assert "the evaluation of step 3 was not completed" in (folder / "train.log").read_text()
    assert_equal_runs(folder, untouched)


def test_an_evaluation_that_is_complete_is_not_repeated(untouched, quick, cache, tmp_path):
    folder = shutil.copytree(untouched, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "6")
    (folder / "train.log").unlink()
    train(config_of(cache), folder)
    assert "was not completed" not in (folder / "train.log").read_text()
    assert_equal_runs(folder, untouched)


@pytest.mark.slow
def test_a_training_that_diverged_goes_on_as_its_message_says(cache, tmp_path, capsys, monkeypatch):
    """From the command line: refused, resumed with the flag of the refusal, started elsewhere."""
    monkeypatch.setattr(job, "join", lambda **_: None)  # JAX is in use already
    run, other, untouched = (tmp_path / name for name in ("run", "other", "untouched"))
    train(config_of(cache), untouched)
    run.mkdir()
    for name in ("config.json", "checkpoints"):
        (shutil.copytree if name == "checkpoints" else shutil.copy)(untouched / name, run / name)
    shutil.rmtree(run / "checkpoints" / "6")
    command = [
        "train", "--config=tests/tiny_run.py", f"--config.data.cache_dir={cache}",
        f"--workdir={run}", "--config.train.compilation_cache=false",
        *(f"--config.train.{name}={value}" for name, value in
          (("log_every", 4), ("checkpoint_every", 3), ("eval_every", 0), ("keep_checkpoints", 9))),
    ]  # fmt: skip
    wild = ["--config.optimizer.learning_rate=1e30", "--config.train.max_bad_steps=2"]

    assert main([*command, *wild]) == 2
    said = capsys.readouterr().err
    assert "config.optimizer.learning_rate was 0.01 and is 1e+30" in said
    flag = re.search(r"run the same command again with (\S+)$", said.strip())
    assert flag and flag[1] == "--allow-change=optimizer.learning_rate"
    assert json.loads((run / "config.json").read_text())["optimizer"]["learning_rate"] == 0.01

    assert main([*command, *wild, flag[1]]) == 2
    said = capsys.readouterr().err
    assert "2 steps in a row, up to 6" in said
    assert json.loads((run / "config.json").read_text())["optimizer"]["learning_rate"] == 1e30
    history = [json.loads(line) for line in (run / "config_history.jsonl").read_text().splitlines()]
    assert history[0]["step"] == 3 and "from" not in history[0]
    assert history[0]["changed"]["optimizer.learning_rate"] == [0.01, 1e30]

    # What the message of the divergence says, with the value of the good run.
    flags = re.search(r"add (--config\S+) (--allow-change=\S+) to the same command", said)
    assert flags and flags[1] == "--config.optimizer.learning_rate=5e+29"
    tame = "--config.optimizer.learning_rate=0.01"
    flag = re.search(r"add (--from-checkpoint=\S+)/STEP and another --workdir", said)
    assert flag and flag[1] == f"--from-checkpoint={run}/checkpoints"
    start = [f"{flag[1]}/3", f"--workdir={other}", tame, "--config.train.compilation_cache=false"]
    assert main(["train", *start]) == 0  # the configuration is that of the other run
    jax.tree.map(np.testing.assert_array_equal, arrays_of(other), arrays_of(untouched))
    history = [
        json.loads(line) for line in (other / "config_history.jsonl").read_text().splitlines()
    ]
    assert history[0]["from"] == f"{run}/checkpoints/3" and history[0]["step"] == 3
    assert history[0]["changed"] == {"optimizer.learning_rate": [1e30, 0.01]}
    config = from_dict(json.loads((other / "config.json").read_text()))
    assert config.optimizer.learning_rate == 0.01 and config.train.log_every == 4
    assert sorted(int(path.name) for path in (other / "checkpoints").iterdir()) == [3, 6]

    with pytest.raises(CheckpointError, match=r"started from .*checkpoints/3, not from .*/6; give"):
        train(config, other, from_checkpoint=untouched / "checkpoints" / "6")


@pytest.mark.slow
def test_two_processes_agree_on_the_state_that_is_whole(cache, tmp_path):
    """The main process reads for both, and it alone renames."""

    def both(steps):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        flags = (f"--config.optimizer.steps={steps}", "--config.train.checkpoint_every=2")
        commands = [
            Command(
                cache,
                tmp_path,
                *flags,
                JAX_COORDINATOR_ADDRESS=address,
                JAX_NUM_PROCESSES="2",
                JAX_PROCESS_ID=str(index),
                # Compiles faster, to run slower.
                XLA_FLAGS="--xla_backend_optimization_level=0 "
                "--xla_llvm_disable_expensive_passes=true",
            )
            for index in range(2)
        ]
        return [command.finish() for command in commands]

    both(6)
    written = max((tmp_path / "checkpoints" / "6").rglob("d/*"), key=lambda f: f.stat().st_size)
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    written.write_bytes(content)
    outputs = both(8)
    for output in outputs:
        assert "steps       4 to 8 (resumed from a checkpoint)" in output
    assert sum("6 is kept as 6.damaged" in output for output in outputs) == 1
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["6", "6.damaged", "8"]


def test_a_changed_field_is_refused_by_the_flag_that_allows_it_and_recorded(tmp_path):
    """Once the run resumes, not before: then the same command needs no flag."""
    run, config = Run(tmp_path / "run"), tiny.config(tmp_path)
    run.make()
    run.claim(config)
    (run.checkpoints / "40").mkdir(parents=True)
    config.optimizer.learning_rate, config.seed, config.train.log_every = 0.005, 3, 7
    with pytest.raises(ConfigError, match=r"again with --allow-change=(\S+)$") as caught:
        run.claim(config, ["seed"])
    named = str(caught.value).rsplit("=")[-1].split(",")
    assert sorted(named) == ["optimizer.learning_rate", "seed"]
    run.claim(config, named)
    assert run.config().seed == 0  # the run may still fail to resume
    run.record(config, 40)
    assert run.config() == config
    run.claim(config)
    config.seed = 4
    run.record(config, 60)
    run.record(config, 80)  # nothing has changed
    first, second = map(json.loads, run.history.read_text().splitlines())
    assert first == {
        "step": 40,
        "changed": {"seed": [0, 3], "optimizer.learning_rate": [0.01, 0.005]}
        | {"train.log_every": [2, 7]},
    }
    assert second == {"step": 60, "changed": {"seed": [3, 4]}}
    assert run.origin is None

    other = Run(tmp_path / "other")
    other.make()
    other.claim(config)
    config.seed = 5
    other.record(config, 40, run.checkpoints / "40")
    assert other.config() == config and other.origin == str(run.checkpoints / "40")
    assert resume.check_origin(other, run.checkpoints / "40") == run.checkpoints / "40"
    (other.checkpoints / "40.orbax-checkpoint-tmp").mkdir(parents=True)  # killed in its first save
    assert resume.check_origin(other, run.checkpoints / "40") == run.checkpoints / "40"
    (other.checkpoints / "40").mkdir()
    assert resume.check_origin(other, run.checkpoints / "40") is None
    with pytest.raises(CheckpointError, match=r"from .*/40, not from .*/60; give another"):
        resume.check_origin(other, run.checkpoints / "60")


@pytest.mark.parametrize("before, after", [(0.0, 1.0), (1.0, 0.0), (2.0, 1.0)])
def test_an_optimizers_state_is_taken_over_with_or_without_clipping(before, after, tmp_path):
    config, model = tiny.config(tmp_path).optimizer, tiny.MODEL
    params = {"head": {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}}
    states = []
    for norm in (before, after):
        sgd = optimizer.create(dataclasses.replace(config, clip_norm=norm), model)
        states.append(sgd.update(params, sgd.init(params), params)[1])
    taken = optimizer.carry_over(states[0], states[1])
    assert jax.tree.structure(taken) == jax.tree.structure(states[1])
    velocity = jax.tree.leaves(states[0])
    for a, b in zip(jax.tree.leaves(taken), velocity, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_named_fields():
    assert fields("optimizer.learning_rate, config.seed") == ["optimizer.learning_rate", "seed"]
    assert fields("optimizer.warmup") == ["optimizer.warmup"]  # and not warmup_steps
    assert set(fields("targets")) > {"targets.size_bounds"}
    assert fields("") == []
    with pytest.raises(ConfigError, match="no field 'learning_rat'"):
        fields("learning_rat")
