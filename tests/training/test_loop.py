"""The loop's promises to people: early ends, callbacks, failed starts."""

import shutil
import socket

import jax
import pytest

from pse_jax.__main__ import main
from pse_jax.config_checks import validate
from pse_jax.errors import ConfigError, UserError
from pse_jax.processes import job
from pse_jax.runs.folder import Run
from pse_jax.training import loop
from pse_jax.training.callbacks import Callback
from pse_jax.training.introduction import warnings
from pse_jax.training.loop import train
from pse_jax.training.scalars import ScalarWriter
from tests import tiny_run as tiny
from tests.runs.test_resuming import Killed, config_of, quick_loop, rows_of
from tests.test_processes import Command

SCORES = {3: 0.3, 6: 0.2, 9: 0.1, 12: 0.5, 15: 0.4}
LAST_LINE = (
    "stopped early at step 9 of 15: no better AP in 2 evaluations (config.train.patience); "
    "the best was 30.0 at step 3"
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def quick():
    with quick_loop(SCORES):
        yield


def patient(cache, patience=2):
    return config_of(cache, steps=15, patience=patience)


@pytest.fixture(scope="module")
def stopped(cache, tmp_path_factory):
    """A run that ended early, and the numbers that it returned."""
    folder = tmp_path_factory.mktemp("stopped")
    with quick_loop(SCORES):
        return folder, train(patient(cache), folder)


def newest(folder):
    return max(int(path.name) for path in (folder / "checkpoints").iterdir())


# Patience


def test_a_run_ends_early_and_says_why(stopped):
    folder, numbers = stopped
    assert numbers == {"step": 9, "AP": 0.1} and newest(folder) == 9
    assert (folder / "train.log").read_text().splitlines()[-1].endswith(LAST_LINE)
    assert [path.name for path in (folder / "best").iterdir()] == ["3"]


def test_a_run_that_ended_early_is_complete(stopped, cache, tmp_path):
    folder, numbers = stopped
    copied = shutil.copytree(folder, tmp_path / "run")
    assert train(patient(cache), copied) == numbers
    assert newest(copied) == 9 and rows_of(copied) == rows_of(folder)
    assert (copied / "train.log").read_text().splitlines()[-1].endswith(LAST_LINE)


@pytest.mark.parametrize("where", [pytest.param("evaluate", marks=pytest.mark.slow), "write"])
def test_a_run_that_is_killed_ends_early_at_the_same_step(where, stopped, cache, tmp_path):
    """Killed during the evaluation after which it would have ended, or before its row."""
    folder, owner = tmp_path / "run", loop if where == "evaluate" else ScalarWriter
    real = getattr(owner, where)

    def killed(first, second, third):
        step = first.step if where == "evaluate" else second
        if step == 9 and (where == "evaluate" or "AP" in third):
            raise Killed
        return real(first, second, third)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, where, killed)
        with pytest.raises(Killed):
            train(patient(cache), folder)
    assert newest(folder) == 9
    assert train(patient(cache), folder) == stopped[1]
    assert newest(folder) == 9 and rows_of(folder) == rows_of(stopped[0])


@pytest.mark.slow
def test_more_patience_trains_on(stopped, cache, tmp_path):
    """As if it had been there from the start, but for the row with which the run had ended."""
    copied = shutil.copytree(stopped[0], tmp_path / "run")
    assert train(patient(cache, 3), copied) == {"step": 15, "AP": 0.4}
    train(patient(cache, 3), tmp_path / "other")
    rows = [row for row in rows_of(copied) if (row["step"], "loss" in row) != (9, True)]
    assert rows == rows_of(tmp_path / "other") and len(rows) == len(rows_of(copied)) - 1


def test_patience_needs_evaluations(cache):
    config = patient(cache)
    config.train.eval_every = 0
    with pytest.raises(ConfigError, match=r"patience is 2 and config.train.eval_every 0: there"):
        validate(config)


@pytest.mark.slow
def test_two_processes_end_early_together(cache, tmp_path):
    """With a learning rate at which the AP stays as it is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    fields = {"optimizer.learning_rate": 1e-30, "train.eval_every": 4, "train.patience": 1}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    commands = [
        Command(
            cache,
            tmp_path,
            *flags,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    outputs = [command.finish() for command in commands]
    assert newest(tmp_path) == 8
    text = "stopped early at step 8 of 300: no better AP in 1 evaluations"
    assert [text in output for output in outputs] == [True, False]


# Callbacks


class Recorder(Callback):
    """Notes every call."""

    def __init__(self):
        self.calls = []

    def on_start(self, run):
        self.calls.append(("start", run.start, run.steps, run.config.name, run.folder.name))

    def on_scalars(self, step, scalars):
        self.calls.append(("scalars", step, scalars["loss"], "lr" in scalars))

    def on_evaluation(self, step, numbers):
        self.calls.append(("evaluation", step, numbers))

    def on_end(self, outcome):
        self.calls.append(("end", outcome))


class Broken(Callback):
    """Fails always."""

    def on_start(self, run):
        raise OSError("no network")

    def on_scalars(self, step, scalars):
        raise RuntimeError("no network")

    def on_end(self, outcome):
        raise RuntimeError("no network")


def test_callbacks_hear_all_and_one_that_fails_ends_nothing(cache, tmp_path):
    recorder = Recorder()
    config = config_of(cache, steps=6)
    config.optimizer.milestones = (4, 700)
    train(config, tmp_path / "run", callbacks=[Broken(), recorder])
    rows = [row for row in rows_of(tmp_path / "run") if "loss" in row]
    scalars = [("scalars", row["step"], row["loss"], True) for row in rows]
    assert [row["step"] for row in rows] == [4, 6]
    assert recorder.calls == [
        ("start", 0, 6, "tiny", "run"),
        ("evaluation", 3, {"step": 3, "AP": 0.3}),
        scalars[0],
        scalars[1],
        ("evaluation", 6, {"step": 6, "AP": 0.2}),
        ("end", "finished"),
    ]
    log = (tmp_path / "run" / "train.log").read_text()
    failed = "the callback Broken.{} failed, training continues: {}: no network"
    assert failed.format("on_start", "OSError") in log
    assert log.count(failed.format("on_scalars", "RuntimeError")) == 2
    assert log.count("Traceback") == 3  # once a method
    assert "milestones: 700 lie beyond the last step, 6" in log  # a warning, and no more


@pytest.mark.slow
def test_a_callback_hears_how_training_ended(cache, tmp_path, monkeypatch):
    recorder = Recorder()
    train(patient(cache), tmp_path / "early", callbacks=[recorder])
    assert recorder.calls[-1] == ("end", "stopped early")

    def failed(*_):
        raise UserError("the disk is gone")

    monkeypatch.setattr(loop, "evaluate", failed)
    recorder = Recorder()
    with pytest.raises(UserError):
        train(patient(cache), tmp_path / "failed", callbacks=[recorder])
    assert recorder.calls[-1] == ("end", "failed")
    monkeypatch.setattr(loop.Checkpoints, "preempted", lambda _, step: step == 2)
    recorder = Recorder()
    assert train(patient(cache), tmp_path / "asked", callbacks=[recorder]) is None
    assert recorder.calls[-1] == ("end", "interrupted")


# Failed starts


def test_a_failed_start_leaves_its_error_and_no_run(cache, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(job, "join", lambda **_: None)  # JAX is in use already
    config, folder = config_of(cache), tmp_path / "run"
    config.data.source, config.data.root = "coco", str(tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        train(config, folder)
    assert str(caught.value) in (folder / "train.log").read_text()
    assert not (folder / "config.json").exists() and not Run(folder).started
    assert main(["eval", f"--workdir={folder}"]) == 2
    assert f"{folder} holds no run" in capsys.readouterr().err


def test_a_batch_that_does_not_divide_is_in_the_log(cache, tmp_path):
    config = config_of(cache)
    config.data.batch_size = jax.device_count() + 1
    with pytest.raises(UserError, match="does not divide"):
        train(config, tmp_path / "run")
    assert "error: a batch of 9 images does not" in (tmp_path / "run" / "train.log").read_text()


def test_an_unexpected_error_is_in_the_log_with_its_traceback(cache, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(loop, "make_train_step", broken)
    with pytest.raises(ZeroDivisionError):
        train(config_of(cache), tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Traceback" in log and log.rstrip().endswith("ZeroDivisionError: a mistake of ours")


@pytest.mark.parametrize("made", [False, True])
def test_there_is_no_run_to_evaluate(made, tmp_path, capsys):
    if made:
        (tmp_path / "nowhere").mkdir()
    assert main(["eval", f"--workdir={tmp_path / 'nowhere'}"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'nowhere'} holds no run" in said and "Traceback" not in said
    assert (tmp_path / "nowhere").exists() == made


# What never comes


@pytest.mark.parametrize(
    "milestones, warmup, count",
    [((4,), 2, 0), ((6,), 6, 0), ((4, 7, 900), 2, 1), ((4,), 7, 1), ((7,), 7, 2)],
)
def test_a_schedule_beyond_the_last_step_is_a_warning(milestones, warmup, count, tmp_path):
    config = tiny.config(tmp_path)
    config.optimizer.milestones, config.optimizer.warmup_steps = milestones, warmup
    validate(config)
    said = list(warnings(config))
    assert len(said) == count
    if count:
        late = [m for m in milestones if m > 6]
        assert all(str(m) in said[0] for m in late) and "the last step, 6" in said[0]
