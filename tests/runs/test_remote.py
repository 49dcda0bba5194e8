"""Runs whose folder is an address: the same files as in a local one, and nothing lost on the way.

gs:// is an object store in a local folder (tests/object_store.py); a new machine is a process that
has nothing of the run on its disk.
"""

import contextlib
import gc
import json
import re
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import pse_jax
from pse_jax import files
from pse_jax.errors import CheckpointError, ConfigError, UserError, WriteError
from pse_jax.runs import evaluate
from pse_jax.runs.evaluate import evaluate_run
from pse_jax.runs.folder import Run, detections_file, numbers_file, safe_steps, steps
from pse_jax.runs.remote import claims, mirror, publisher, staging
from pse_jax.training import loop
from pse_jax.training.loop import train
from tests.object_store import served
from tests.runs.test_resuming import (
    Killed,
    arrays_of,
    assert_equal_runs,
    config_of,
    quick_loop,
    rows_of,
)
from tests.test_processes import Command, several

RUN = "gs://bucket/runs/a"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def untouched(cache, tmp_path_factory):
    """A local run."""
    folder = tmp_path_factory.mktemp("untouched")
    with quick_loop():
        train(config_of(cache), folder)
    return folder


@pytest.fixture
def quick():
    with quick_loop():
        yield


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(publisher, "PAUSE", 0.01)
    monkeypatch.setattr(claims, "WAIT", 0.01)
    with served(tmp_path / "store") as store:
        yield store


@pytest.fixture
def no_farewell(monkeypatch):
    """A process that is killed copies nothing at its end."""

    def close(publisher, failed):
        publisher.ended.set()
        publisher.thread.join()

    @contextlib.contextmanager
    def dying():
        with monkeypatch.context() as patch:
            patch.setattr(publisher.Publisher, "close", close)
            yield

    return dying


def upload(store, folder, address=RUN):
    for file in (path for path in folder.rglob("*") if path.is_file()):
        key = f"{address}/{file.relative_to(folder).as_posix()}"
        store._file(key).write_bytes(file.read_bytes())


def download(store, folder, address=RUN):
    for key in store.keys(f"{address}/"):
        file = folder / key.removeprefix(f"{address}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(store._file(key).read_bytes())
    return folder


def content_of(store, name):
    return store._file(f"{RUN}/{name}").read_bytes()


def there(store, kind="checkpoints"):
    """Names of what is in the address's checkpoints/ or best/."""
    return sorted({key.split("/")[6] for key in store.keys(f"{RUN}/{kind}/")})


def assert_nothing_is_left_here(tmp_path):
    gc.collect()
    assert not staging._open
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("gs:")]


# What is there


def test_what_is_at_the_address_is_a_runs_folder(store, quick, untouched, cache, tmp_path):
    train(config_of(cache), RUN)
    copy = download(store, tmp_path / "copy")
    assert_equal_runs(copy, untouched)
    names = {path.name for path in untouched.iterdir() if not path.name.startswith("lock_")}
    assert {path.name for path in copy.iterdir()} == names
    log = (copy / "train.log").read_text()
    assert f"in {RUN}" in log and f"copied {RUN}/checkpoints/6" in log
    assert "pse_jax-" not in log
    assert_nothing_is_left_here(tmp_path)


def test_a_new_machine_goes_on_where_another_was_killed(
    store, quick, untouched, cache, tmp_path, monkeypatch, no_farewell
):
    config = config_of(cache)

    def killed(*_):
        raise Killed

    with no_farewell(), monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "evaluate", killed)
        train(config, RUN)
    assert there(store) == ["3"] and f"{RUN}/metrics.jsonl" not in store.keys()
    gc.collect()
    train(config, RUN)
    assert_equal_runs(download(store, tmp_path / "copy"), untouched)
    log = content_of(store, "train.log").decode()
    assert "3 to 6 (resumed from a checkpoint)" in log
    assert "the evaluation of step 3 was not completed" in log


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["objects are gone", "objects are cut"])
def test_a_damaged_checkpoint_is_passed_over_and_kept(
    damage, store, quick, untouched, cache, tmp_path
):
    upload(store, untouched)
    for key in store.keys(f"{RUN}/checkpoints/6/params/"):
        if "/d/" in key and damage == "objects are gone":
            store._file(key).unlink()
        elif "/d/" in key:
            store._file(key).write_bytes(store._file(key).read_bytes()[:-10])
    train(config_of(cache), RUN)
    log = content_of(store, "train.log").decode()
    assert f"passed over: {RUN}/checkpoints/6 is damaged: params cannot be read" in log
    assert there(store) == ["3", "6", "6.damaged"]
    copy = download(store, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints" / "6.damaged")
    assert_equal_runs(copy, untouched)


@pytest.mark.slow
def test_a_copy_that_fails_is_tried_again_and_ends_no_run(
    store, quick, untouched, cache, tmp_path, monkeypatch, caplog
):
    """What is not there yet can be stopped to be saved: `nothing_to_save` holds when it arrived."""
    failed, entered = [], []

    @contextlib.contextmanager
    def nothing_to_save(doing):
        entered.append(doing)
        yield

    def fail(what, path):
        if what == "write" and "/checkpoints/3/" in path and not entered and not failed:
            failed.append(path)
            raise ConnectionError("503 Slow Down")

    monkeypatch.setattr(loop.stopping, "nothing_to_save", nothing_to_save)
    monkeypatch.setattr(mirror, "EVERY", 1000)
    store.fail = fail
    train(config_of(cache), RUN)
    assert caplog.text.count(f"{RUN} cannot be written: 503 Slow Down; check the address, ") == 1
    assert f"{RUN} is up to date; 1 attempts failed" in caplog.text
    assert [re.search(r"step \d", doing)[0] for doing in entered] == ["step 6"]
    assert_equal_runs(download(store, tmp_path / "copy"), untouched)


# How it is copied: here without Orbax, whose checkpoints are folders that never change


STATE = ("_CHECKPOINT_METADATA", "meta/metadata", "params/d/1", "params/d/2", "training/d/1")


def write_state(run, kind, step, keep):
    """As Orbax: under another name first, and the oldest go."""
    part = run.folder / kind / f"{step}.orbax-checkpoint-tmp"
    for name in STATE:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_text(f"{name} of {step}")
    part.rename(run.folder / kind / str(step))
    for old in sorted(int(p.name) for p in (run.folder / kind).iterdir())[:-keep]:
        shutil.rmtree(run.folder / kind / str(old))


def work(run, step):
    """What a run writes at a step: a row, a state, an evaluation, the best, its row."""
    files.append_line(run.metrics, json.dumps({"step": step, "loss": 1}))
    yield
    write_state(run, "checkpoints", step, keep=2)
    yield
    files.write_whole(detections_file(run.folder, step), "[]", "it")
    files.write_whole(numbers_file(run.folder, step), "{}", "it")
    yield
    write_state(run, "best", step, keep=1)
    files.append_line(run.metrics, json.dumps({"step": step, "AP": 1}))
    yield


def assert_consistent(store):
    """What a new machine finds: whole states, and the rows and results that they rest on."""
    run = Run(pse_jax.addresses.place(RUN))
    run.mirror.fetch_all()
    rows = []
    if run.metrics.exists():
        rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    whole = steps(run.checkpoints)
    for kind in ("checkpoints", "best"):
        for step in steps(run.folder / kind):
            for name in STATE:
                text = (run.folder / kind / str(step) / name).read_text()
                assert text == f"{name} of {step}"
    assert {row["step"] for row in rows if "loss" in row} >= set(whole)
    for step in (row["step"] for row in rows if "AP" in row):
        assert numbers_file(run.folder, step).is_file()
        assert detections_file(run.folder, step).is_file()
        assert steps(run.best)[-1:] >= [step]
    return whole


@pytest.mark.parametrize("pushes", ["often", "seldom"])
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_whenever_a_machine_dies_what_is_there_is_consistent(store, pushes, stride):
    """After every single write or removal: the next machine goes on from there, and so on."""
    after, found = 0, set()
    while True:
        for key in store.keys():
            store._file(key).unlink()
        left = after

        def die(what, path):
            nonlocal left
            if what in ("write", "remove", "rmtree"):
                if left == 0:
                    raise OSError("dead")
                left -= 1

        run = Run(pse_jax.addresses.place(RUN))
        store.fail = die
        with contextlib.suppress(OSError):
            for step in (1, 2, 3):
                for _ in work(run, step):
                    if pushes == "often":
                        run.mirror.push(checkpoints=True)
                run.mirror.push(checkpoints=True)
        store.fail = lambda what, path: None
        dead = left == 0
        whole = assert_consistent(store)
        found.add(tuple(whole))
        other = Run(pse_jax.addresses.place(RUN))
        other.mirror.fetch_all()
        for _ in work(other, 9):
            other.mirror.push(checkpoints=True)
        assert assert_consistent(store) == [*whole, 9][-2:] and there(store, "best") == ["9"]
        assert there(store) == [str(step) for step in [*whole, 9][-2:]]  # and no remains
        if not dead:
            break
        after += stride
    assert after > 30 and {(), (1,), (1, 2), (2, 3)} <= found


def test_a_state_that_is_removed_while_it_is_copied_never_counts(store, monkeypatch):
    run = Run(pse_jax.addresses.place(RUN))
    write_state(run, "checkpoints", 1, keep=2)

    def remove(what, path):
        if what == "write":
            shutil.rmtree(run.checkpoints / "1", ignore_errors=True)

    store.fail = remove
    run.mirror.push(checkpoints=True)
    assert f"{RUN}/checkpoints/1/meta/metadata" not in store.keys()
    run.mirror.push(checkpoints=True)
    assert not store.keys()


def test_only_what_has_changed_is_copied_again(store):
    run = Run(pse_jax.addresses.place(RUN))
    list(work(run, 1))
    run.mirror.push(checkpoints=True)
    store.calls.clear()
    run.mirror.push(checkpoints=True)
    assert not store.calls
    files.append_line(run.log, "a line")
    run.mirror.push(checkpoints=True)
    assert store.calls == [("write", f"{RUN}/train.log")]
    run.history.write_text("x")
    run.mirror.push(checkpoints=True)
    run.history.unlink()
    run.mirror.push(checkpoints=True)
    assert f"{RUN}/config_history.jsonl" not in store.keys()
    assert f"{RUN}/detections_1.json" in store.keys()


def test_an_evaluation_leaves_checkpoints_alone(store):
    """Its list of them is that of its start; training goes on meanwhile."""
    run = Run(pse_jax.addresses.place(RUN))
    list(work(run, 1))
    run.mirror.push(checkpoints=True)
    beside = Run(pse_jax.addresses.place(RUN))
    list(work(run, 2))
    run.mirror.push(checkpoints=True)
    keys = store.keys()
    numbers_file(beside.folder, 7).write_text("{}")
    beside.publish()
    assert store.keys() == sorted([*keys, f"{RUN}/eval_7.json"])


def test_copies_are_made_in_the_background_until_the_end(store, monkeypatch, caplog):
    monkeypatch.setattr(mirror, "EVERY", 0.01)
    run, fails = Run(pse_jax.addresses.place(RUN)), 2

    def fail(what, path):
        nonlocal fails
        if what == "write" and "train.log" in path and fails:
            fails -= 1
            raise ConnectionError("503 Slow Down")

    store.fail = fail
    with run.writing():
        files.append_line(run.log, "first")
        deadline = time.monotonic() + 20
        while f"{RUN}/train.log" not in store.keys() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert content_of(store, "train.log") == b"first\n"
        monkeypatch.setattr(mirror, "EVERY", 1000)
        files.append_line(run.log, "last")
    assert content_of(store, "train.log") == b"first\nlast\n"
    assert caplog.text.count("cannot be written: 503 Slow Down; check the address, ") == 1
    assert "is up to date; 2 attempts failed" in caplog.text
    assert not store.keys(f"{RUN}/claims/")


def test_at_the_end_what_cannot_be_copied_is_said_and_kept(store, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.tempfile, "tempdir", str(tmp_path))

    def fail(what, path):
        if what == "write" and "/train.log" in path:
            raise PermissionError("403 Forbidden")

    store.fail = fail
    run = Run(pse_jax.addresses.place(RUN))
    with pytest.raises(WriteError) as caught, run.writing():
        files.append_line(run.log, "a line")
    kept = re.search(r"403 Forbidden; .* It is kept in (\S+);", str(caught.value))
    assert str(caught.value).startswith(f"{RUN} lacks what was written last: ") and kept
    del run
    gc.collect()
    staging.remove(staging.make(pse_jax.addresses.place(RUN)))  # nothing sweeps it away
    assert Path(kept[1], "train.log").read_text() == "a line\n"


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_copy(store, caplog):
    run = Run(pse_jax.addresses.place(RUN))
    with pytest.raises(ZeroDivisionError), run.writing():
        files.append_line(run.log, "a line")
        store.fail = lambda what, path: exec("raise OSError('no network')")
        raise ZeroDivisionError
    assert f"{RUN} lacks what was written last: no network" in caplog.text


# A store that refuses


def test_where_nothing_can_be_written_it_is_said_before_any_device_is_asked(store):
    def fail(what, path):
        if what == "write":
            raise PermissionError("403: no permission to create objects")

    store.fail = fail
    with pytest.raises(WriteError) as caught:
        Run(pse_jax.addresses.place(RUN)).make()
    assert str(caught.value).startswith(f"{RUN} cannot be the folder of a run: 403: no permission")


def test_what_cannot_be_read_is_said(store, untouched):
    upload(store, untouched)
    store.fail = lambda what, path: exec("raise RuntimeError('401: Anonymous caller')")
    with pytest.raises(UserError, match=f"{RUN}.* cannot be reached: 401: Anonymous caller; check"):
        pse_jax.load(RUN)
    with pytest.raises(ConfigError, match="holds no run"):
        store.fail = lambda what, path: None
        Run(pse_jax.addresses.place("gs://bucket/other")).config()


# What reads it


def test_a_detector_is_loaded_from_an_address(store, untouched):
    upload(store, untouched)
    for which, step in (("best", 3), ("latest", 6), ("3", 3)):
        ours, theirs = pse_jax.load(RUN, which), pse_jax.load(untouched, which)
        assert ours.step == theirs.step == step
        jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    with pytest.raises(CheckpointError, match=f"^{RUN} has no checkpoint '7' "):
        pse_jax.load(RUN, "7")
    with pytest.raises(CheckpointError, match="there is no gs://bucket/nothing"):
        pse_jax.load("gs://bucket/nothing")


def test_an_evaluation_is_copied_and_adds_to_the_log(store, untouched, monkeypatch):
    upload(store, untouched)
    store._file(f"{RUN}/evaluations/step_3/eval.log").write_text("an earlier line\n")

    def fake(detector, dataset, out):
        numbers_file(out, detector.step).write_text("{}")
        detections_file(out, detector.step).write_text("[1]")
        return {}

    monkeypatch.setattr(evaluate, "evaluate", fake)
    run = Run(pse_jax.addresses.place(RUN))
    config = run.config()
    before = store.keys(f"{RUN}/checkpoints/")
    evaluate_run(run, config, "latest")
    assert content_of(store, "detections_6.json") == b"[1]"
    evaluate_run(run, config, "3")
    assert content_of(store, "evaluations/step_3/eval_3.json") == b"{}"
    log = content_of(store, "evaluations/step_3/eval.log").decode()
    assert log.startswith("an earlier line\n") and f"into {RUN}/evaluations/step_3" in log
    about = json.loads(content_of(store, "evaluations/step_3/evaluation.json"))
    assert about["run"] == RUN
    assert store.keys(f"{RUN}/checkpoints/") == before


@pytest.mark.slow
def test_a_new_run_starts_from_a_state_at_an_address(store, quick, untouched, cache, tmp_path):
    upload(store, untouched)
    origin = pse_jax.addresses.place(f"{RUN}/checkpoints/3")
    train(config_of(cache), "s3://other/b", from_checkpoint=origin)
    train(config_of(cache), tmp_path / "local", from_checkpoint=origin)
    copy = download(store, tmp_path / "copy", "s3://other/b")
    assert json.loads((copy / "config_history.jsonl").read_text())["from"] == str(origin)
    assert rows_of(copy) == rows_of(tmp_path / "local")
    for folder in (copy, tmp_path / "local"):
        jax.tree.map(np.testing.assert_array_equal, arrays_of(folder), arrays_of(untouched))


def test_which_state_is_safe_is_known_without_asking(store, untouched):
    upload(store, untouched)
    run = Run(pse_jax.addresses.place(RUN))
    store.calls.clear()
    assert safe_steps(run.mirror.address) == [3, 6] and not store.calls
    assert safe_steps(untouched) == [3, 6]


class RemoteCommand(Command):
    PROGRAM = ("tests/remote_train.py", "--config=tests/tiny_run.py")


@pytest.mark.slow
def test_two_machines_save_and_another_one_goes_on(cache, tmp_path, monkeypatch):
    """They share no folder: the main one alone writes checkpoints; the bits are a local run's."""
    monkeypatch.setenv("STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0 "
                       "--xla_llvm_disable_expensive_passes=true")  # fmt: skip
    flags = ("--config.optimizer.steps=6", "--config.train.checkpoint_every=2")
    for command in several(cache, RUN, *flags, program=RemoteCommand):
        command.finish()
    for command in several(cache, tmp_path / "local", *flags):
        command.finish()
    with served(tmp_path / "store") as store:
        assert there(store) == ["4", "6"] and there(store, "best") == ["6"]
        assert not store.keys(f"{RUN}/claims/")
        ours, theirs = (pse_jax.load(run, "latest") for run in (RUN, tmp_path / "local"))
        jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    output = RemoteCommand(cache, RUN, "--config.optimizer.steps=8").finish()
    assert "6 to 8 (resumed from a checkpoint)" in output
    assert not list(tmp_path.glob("pse_jax-*/*"))  # no copies are left behind


# Folders to write to


def test_results_go_to_an_address_whole(store, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.tempfile, "tempdir", str(tmp_path))
    out = pse_jax.addresses.place("gs://bucket/out")
    with staging.writing(out) as folder:
        files.write_whole(folder / "a.txt", "a", "it")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("b")
        assert not store.keys("gs://bucket/out")
    assert store.keys("gs://bucket/out") == ["gs://bucket/out/a.txt", "gs://bucket/out/sub/b.txt"]
    assert not folder.exists()
    with pytest.raises(WriteError, match=r"What belongs there is in (\S+)") as caught:
        with staging.writing(out) as folder:
            (folder / "c.txt").write_text("c")
            store.fail = lambda what, path: exec("raise OSError('full')")
    kept = re.search(r"is in (\S+)", str(caught.value))[1]
    assert (tmp_path / kept / "c.txt").read_text() == "c"
    with pytest.raises(WriteError, match="cannot be a folder to write to: full"):
        with staging.writing(out):
            raise AssertionError("nothing is computed in vain")


def test_what_a_killed_process_left_on_the_disk_is_removed(store, tmp_path, monkeypatch):
    monkeypatch.setattr(staging.tempfile, "tempdir", str(tmp_path))
    place = pse_jax.addresses.place(RUN)
    folder, other = staging.make(place), staging.make(place)
    staging._open.pop(folder).close()  # what the kernel does at a SIGKILL
    staging.make(place)
    assert not folder.exists() and other.exists()
    staging._remove_all()
    assert not list(other.parent.iterdir())
