"""Checkpoints damaged in every way: training resumes from the newest whole one, loading says so.

The states are of a few arrays, so that no step is compiled.
"""

import json
import logging
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from pse_jax import distributed
from pse_jax.categories import Categories
from pse_jax.config import Config
from pse_jax.detector import Detector
from pse_jax.errors import CheckpointError
from pse_jax.runs import restore
from pse_jax.runs.checkpoint import Checkpoints, read_categories, read_variables
from pse_jax.runs.folder import Run


def make_state(step):
    """Variables and the rest; every value depends on the step."""
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((3, 3, 16, 16), np.float32)
    params = {"conv": {"kernel": kernel, "bias": np.full(16, step, np.float32)}}
    velocities = {"kernel": kernel / 2, "bias": np.full(16, step / 2, np.float32)}
    training = {"step": np.array(step, np.int32), "opt_state": (optax.EmptyState(), velocities)}
    return {"params": params, "frozen": {"scale": np.full(4, step, np.float32)}}, training


def like(meta):
    return make_state(0)


def newest(run, mesh):
    saved = restore.newest(run, like, mesh)
    assert saved is not None
    return saved


def detector_of(step, variables):
    return Detector(Config(), Categories((1, 7), ("cat", "dög")), variables, step)


def save(run, mesh, *all_steps, keep=5):
    checkpoints = Checkpoints(run, keep)
    for step in all_steps:
        variables, training = distributed.to_every_device(make_state(step), mesh)
        checkpoints.save(detector_of(step, variables), training, [{"step": step, "loss": 0.1}])
    return checkpoints


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_device_mesh):
    """A run with the states 1, 2, 3 and the best, 2."""
    run = Run(tmp_path_factory.mktemp("whole"))
    checkpoints = save(run, one_device_mesh, 1, 2, 3)
    checkpoints.save_if_best(detector_of(2, make_state(2)[0]), 0.5)
    checkpoints.close()
    return run.folder


@pytest.fixture
def run(whole, tmp_path):
    return Run(Path(shutil.copytree(whole, tmp_path / "run")))


def assert_is(saved, step):
    """The state is that of the step, bit for bit."""
    variables, training = make_state(step)
    assert saved.meta["step"] == step and saved.meta["window"] == [{"step": step, "loss": 0.1}]
    jax.tree.map(np.testing.assert_array_equal, saved.variables, variables)
    jax.tree.map(np.testing.assert_array_equal, saved.training, training)


def flip(file, where=0.5):
    """One bit of one byte."""
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 0x10
    file.write_bytes(bytes(content))


def largest(folder):
    """The file that holds the values."""
    return max(folder.rglob("d/*"), key=lambda file: file.stat().st_size)


def every_data_file(folder, change):
    for file in folder.rglob("d/*"):
        change(file)


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def replace_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


def swap_with_an_older(path, item):
    shutil.rmtree(path / item)
    shutil.copytree(path.with_name("1") / item, path / item)


def swap_whole(path):
    shutil.rmtree(path)
    shutil.copytree(path.with_name("1"), path)


def as_if_of_other_shapes(path):
    """What another program might have written: a valid item with an array of another shape."""
    import orbax.checkpoint as ocp

    shutil.rmtree(path / "params")
    variables, _ = make_state(3)
    variables["params"]["conv"]["bias"] = np.zeros(17, np.float32)
    with ocp.StandardCheckpointer() as writer:
        writer.save((path / "params").absolute(), variables)


META = Path("meta", "metadata")
# Kinds of damage to DIR/checkpoints/STEP that no reader can get over.
FATAL = {
    "the folder is empty": lambda p: [shutil.rmtree(p), p.mkdir()],
    "a file in its place": replace_by_a_file,
    "a dangling link in its place": lambda p: [shutil.rmtree(p), p.symlink_to(p.parent / "none")],
    "params is missing": lambda p: shutil.rmtree(p / "params"),
    "params is empty": lambda p: [shutil.rmtree(p / "params"), (p / "params").mkdir()],
    "params is a file": lambda p: replace_by_a_file(p / "params"),
    "params of another step": lambda p: swap_with_an_older(p, "params"),
    "params of other shapes": as_if_of_other_shapes,
    "training is missing": lambda p: shutil.rmtree(p / "training"),
    "training is empty": lambda p: [shutil.rmtree(p / "training"), (p / "training").mkdir()],
    "training of another step": lambda p: swap_with_an_older(p, "training"),
    "meta is missing": lambda p: shutil.rmtree(p / "meta"),
    "meta is empty": lambda p: (p / META).unlink(),
    "meta is a file": lambda p: replace_by_a_file(p / "meta"),
    "meta of length 0": lambda p: (p / META).write_bytes(b""),
    "meta cut": lambda p: (p / META).write_bytes((p / META).read_bytes()[:200]),
    "meta not UTF-8": lambda p: (p / META).write_bytes(b"\xff\xfe{}"),
    "meta a list": lambda p: (p / META).write_text("[]"),
    "meta nested 100,000 deep": lambda p: (p / META).write_text("[" * 100_000),
    "meta with another category": lambda p: edit(p / META, category_names=["cat", "dog"]),
    "meta with other checksums": lambda p: edit(p / META, arrays={}),
    "meta without its checksum": lambda p: edit(p / META, crc32=None),
    "meta with a flipped bit": lambda p: flip(p / META, 0.3),
    "a whole older step under its name": swap_whole,
    "manifest of length 0": lambda p: (p / "params/manifest.ocdbt").write_bytes(b""),
    "manifest of training is missing": lambda p: (p / "training/manifest.ocdbt").unlink(),
    "manifest cut": lambda p: (p / "params/manifest.ocdbt").write_bytes(b"\x0c\xdb"),
    "manifest of training with a flipped bit": lambda p: flip(p / "training/manifest.ocdbt"),
    "d/ is missing": lambda p: [shutil.rmtree(d) for d in list(p.glob("params/**/d"))],
    "a file of d/ is missing": lambda p: largest(p / "params").unlink(),
    "a file of d/ of length 0": lambda p: largest(p / "params").write_bytes(b""),
    "a file of training's d/ cut": lambda p: largest(p / "training").write_bytes(
        largest(p / "training").read_bytes()[:900]
    ),
    "a flipped bit in the parameters": lambda p: flip(largest(p / "params")),
    "a flipped bit in the velocities of training": lambda p: flip(largest(p / "training"), 0.7),
    "a flipped bit in every file of d/": lambda p: every_data_file(p / "params", flip),
    "zeros in place of all of training's d/": lambda p: every_data_file(
        p / "training", lambda file: file.write_bytes(bytes(file.stat().st_size))
    ),
    "_METADATA is not JSON": lambda p: (p / "params/_METADATA").write_text("{"),
}
# Damage to what no value depends on: the state is whole.
HARMLESS = {
    "_CHECKPOINT_METADATA is missing": lambda p: (p / "_CHECKPOINT_METADATA").unlink(),
    "_CHECKPOINT_METADATA of length 0": lambda p: (p / "_CHECKPOINT_METADATA").write_text(""),
    "_METADATA is missing": lambda p: (p / "params/_METADATA").unlink(),
    "_sharding is missing": lambda p: (p / "params/_sharding").unlink(),
    "a stray file": lambda p: (p / "stray").write_text("x"),
    "commit_success.txt is missing": lambda p: (p / "commit_success.txt").unlink(),
    "a stray temporary folder": lambda p: p.with_name("4.orbax-checkpoint-tmp").mkdir(),
}


@pytest.mark.parametrize("kind", FATAL)
def test_training_resumes_from_the_newest_whole_state(kind, run, one_device_mesh, caplog):
    """And names the one that it passes over, keeps it, and saves that step again."""
    path = run.checkpoints / "3"
    FATAL[kind](path)
    before = sorted(path.rglob("*"))
    with caplog.at_level(logging.INFO, "pse_jax"):
        saved = newest(run, one_device_mesh)
    assert_is(saved, 2)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith(f"passed over: {path} is damaged: ") and "\n" not in said[0]
    assert said[1:] == [f"{path} is kept as 3.damaged"]
    aside = run.checkpoints / "3.damaged"
    assert not path.exists() and (aside.exists() or aside.is_symlink())
    assert [p.relative_to(path) for p in before] == [
        p.relative_to(aside) for p in sorted(aside.rglob("*"))
    ]


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_no_value_depends_on_may_be_damaged(kind, run, one_device_mesh):
    HARMLESS[kind](run.checkpoints / "3")
    assert_is(newest(run, one_device_mesh), 3)
    save(run, one_device_mesh, 4).close()
    assert_is(newest(run, one_device_mesh), 4)


@pytest.mark.parametrize("kind", [kind for kind in FATAL if "training" not in kind])
def test_loading_says_in_two_lines_what_is_wrong_and_what_else_there_is(kind, run, one_device_mesh):
    FATAL[kind](run.checkpoints / "3")
    with pytest.raises(CheckpointError) as caught:
        read_categories(run, "latest")
        read_variables(run, "latest", make_state(0)[0], one_device_mesh)
    message = str(caught.value)
    assert message.startswith(f"{run.checkpoints / '3'} is damaged: ")
    assert message.endswith(". Give --checkpoint best (step 2) or 2 or 1")
    assert message.count("\n") <= 1 and len(message) < 600
    read_variables(run, "best", make_state(0)[0], one_device_mesh)


@pytest.mark.parametrize("kind", ["a flipped bit in the parameters", "meta is missing"])
def test_a_damaged_best_is_not_silently_another_one(kind, run, one_device_mesh, caplog):
    FATAL[kind](run.best / "2")
    message = rf"{run.best / '2'} is damaged: .*\. Give --checkpoint latest \(step 3\) or 2 or 1$"
    with pytest.raises(CheckpointError, match=message):
        read_categories(run, "best")
        read_variables(run, "best", make_state(0)[0], one_device_mesh)

    # The next evaluation replaces it, whatever its AP, and keeps what is there.
    checkpoints = Checkpoints(run, 5)
    checkpoints.save_if_best(detector_of(3, make_state(3)[0]), 0.1)
    checkpoints.save_if_best(detector_of(4, make_state(4)[0]), 0.05)
    checkpoints.close()
    assert f"{run.best / '2'} is kept as 2.damaged" in caplog.text
    assert sorted(path.name for path in run.best.iterdir()) == ["2.damaged", "3"]
    variables, step = read_variables(run, "best", make_state(0)[0], one_device_mesh)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, variables, make_state(3)[0])

    shutil.rmtree(run.best / "3")  # nothing is left but the damaged one
    with pytest.raises(CheckpointError, match=r"2.damaged was set aside as damaged. Give --check"):
        read_categories(run, "best")


def test_the_steps_passed_over_are_saved_again(run, one_device_mesh, whole):
    """And do not count among those to keep: the last whole one is never deleted for them."""
    for step in ("3", "2"):
        FATAL["a flipped bit in the parameters"](run.checkpoints / step)
    assert_is(newest(run, one_device_mesh), 1)
    save(run, one_device_mesh, 2, keep=2).close()
    assert_is(newest(run, one_device_mesh), 2)
    names = lambda: sorted(path.name for path in run.checkpoints.iterdir())  # noqa: E731
    assert names() == ["1", "2", "2.damaged", "3.damaged"]

    FATAL["params is missing"](run.checkpoints / "2")  # a second time
    assert_is(newest(run, one_device_mesh), 1)
    save(run, one_device_mesh, 2, 3, keep=2).close()
    assert_is(newest(run, one_device_mesh), 3)
    assert names() == ["2", "2.damaged", "2.damaged-2", "3", "3.damaged"]


def test_no_whole_state_is_an_error_that_names_all(run, one_device_mesh):
    """And not a new beginning; nothing is renamed."""
    for step, kind in zip("123", ("meta is empty", "params is missing", "meta cut"), strict=True):
        FATAL[kind](run.checkpoints / step)
    with pytest.raises(CheckpointError, match="no whole checkpoint to resume from") as caught:
        newest(run, one_device_mesh)
    named = [line for line in str(caught.value).splitlines() if " is damaged: " in line]
    assert [line.split()[0] for line in named] == [str(run.checkpoints / s) for s in "321"]
    assert "start from step 0, or give another --workdir" in str(caught.value)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["1", "2", "3"]
    shutil.rmtree(run.checkpoints / "1")
    shutil.rmtree(run.checkpoints / "2")
    (run.checkpoints / "3").rename(run.checkpoints / "3.damaged")
    with pytest.raises(CheckpointError, match=r"no whole .*\n.*3.damaged: set aside earlier\n"):
        newest(run, one_device_mesh)
    (run.checkpoints / "3.damaged").rename(run.checkpoints / "3")
    with pytest.raises(CheckpointError, match=r"3 is damaged: .* --checkpoint best \(step 2\)"):
        read_categories(run, "3")


def remove_checksums(path):
    """A checkpoint as they were before there were any."""
    meta = json.loads((path / META).read_text())
    for name in ("arrays", "crc32", "step", "window"):
        meta.pop(name, None)
    (path / META).write_text(json.dumps(meta))


def test_older_checkpoints_have_no_checksums_and_load(run, one_device_mesh, caplog):
    for folder in (run.checkpoints, run.best):
        for path in folder.iterdir():
            remove_checksums(path)
    with caplog.at_level(logging.INFO, "pse_jax"):
        saved = newest(run, one_device_mesh)
    jax.tree.map(np.testing.assert_array_equal, saved.training, make_state(3)[1])
    assert "3 was saved without checksums: its values are not verified" in caplog.text
    assert read_categories(run, "best").names == ("cat", "dög")
    assert read_variables(run, "best", make_state(0)[0], one_device_mesh)[1] == 2
    checkpoints = Checkpoints(run, 5)
    checkpoints.save_if_best(detector_of(3, make_state(3)[0]), 0.1)
    checkpoints.close()
    assert [path.name for path in run.best.iterdir()] == ["2"]
    # What can be seen without them still is.
    shutil.rmtree(run.checkpoints / "3" / "training")
    assert newest(run, one_device_mesh).meta["step"] == 2


def test_a_state_of_another_model_is_no_damage(run, one_device_mesh):
    def wider(meta):
        variables, training = make_state(0)
        variables["params"]["conv"]["bias"] = np.zeros(32, np.float32)
        return variables, training

    message = (
        r"not hold the model .*: params/params/conv/bias is float32\[16\] there and .*\[32\] here"
    )
    with pytest.raises(CheckpointError, match=message):
        restore.newest(run, wider, one_device_mesh)
    remove_checksums(run.checkpoints / "3")
    with pytest.raises(CheckpointError, match=message):
        restore.newest(run, wider, one_device_mesh)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["1", "2", "3"]


def test_a_state_of_another_run(run, one_device_mesh):
    path = run.checkpoints / "2"
    assert_is(restore.of_another_run(path, like, one_device_mesh), 2)
    for wrong in (run.best / "2", run.folder, run.checkpoints):
        with pytest.raises(CheckpointError, match="is not DIR/checkpoints/STEP"):
            restore.of_another_run(wrong, like, one_device_mesh)
    with pytest.raises(CheckpointError, match=r"7 does not exist; there are steps \[1, 2, 3\]"):
        restore.of_another_run(run.checkpoints / "7", like, one_device_mesh)
    flip(largest(path / "params"))
    with pytest.raises(CheckpointError, match=r"2 is damaged: .*There are also steps \[1, 3\]"):
        restore.of_another_run(path, like, one_device_mesh)
    assert path.is_dir()  # another run's folder is left as it is


def test_only_the_loop_tells_jax_which_step_it_is_at(tmp_path, one_device_mesh, monkeypatch):
    """Orbax does too, of steps long past: processes that are asked to stop would wait for these."""
    told = []
    ask = "jax.experimental.multihost_utils.reached_preemption_sync_point"
    monkeypatch.setattr(ask, lambda step: told.append(step) or False)
    save(Run(tmp_path), one_device_mesh, 1, 2, 3).close()
    assert told == []
