"""A run's folder that cannot be written to, or only in part.

The slow tests train on file systems of 1 and 3 MB, of which they mount one each.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pse_jax import progress
from pse_jax.errors import ConfigError, TrainingError, WriteError
from pse_jax.runs.folder import Run, read_metrics
from pse_jax.training import scalars
from pse_jax.training.scalars import ScalarWriter
from tests import tiny_run

ROOT = Path(__file__).parents[2]
FULL = OSError(28, "No space left on device")
AS_TENSORSTORE = "RESOURCE_EXHAUSTED: Failed writing: {}/d/18: Failed [os_error_code='28']"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Where no run can be


@pytest.mark.parametrize(
    "place, why",
    [
        ("file/run", "file is a file"),
        ("file", "file is a file"),
        ("link", "link is a link to /nowhere/else, which does not exist"),
        ("link/run", "link is a link to /nowhere/else, which does not exist"),
        ("loop", "loop is a link to loop, which does not exist"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_impossible_folder_is_one_message(tmp_path, place, why):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/nowhere/else")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(WriteError) as caught, Run(tmp_path / place).writing():
        pass
    assert str(caught.value).startswith(f"{tmp_path / place} cannot be the folder of a run: ")
    assert str(caught.value).endswith(why)
    with pytest.raises(ConfigError, match=r"holds no run|cannot be read"):
        Run(tmp_path / place).config()


def test_a_full_disk_says_what_is_safe(tmp_path):
    run = Run(tmp_path)
    for error in (FULL, ValueError(AS_TENSORSTORE.format(tmp_path.absolute()))):
        with pytest.raises(WriteError) as caught, run.writing():
            raise error
        expected = f"{tmp_path}: cannot write a checkpoint: No space left on device. There is no "
        assert str(caught.value).startswith(expected)
    for name in ("2000", "1000", "3000.orbax-checkpoint-tmp"):
        (run.checkpoints / name).mkdir(parents=True)
    with pytest.raises(WriteError) as caught, run.writing():
        raise WriteError("eval_1.json: full. Make room or the folder writable, and run the same "
                         "command again")  # fmt: skip
    assert str(caught.value) == (
        "eval_1.json: full. The newest whole checkpoint is that of step 2000. Make room or the "
        "folder writable, and run the same command again"
    )


@pytest.mark.parametrize(
    "error",
    [ValueError("shapes differ"), FileNotFoundError(2, "No such file", "/data/x.jpg"),
     TrainingError("diverged"), KeyboardInterrupt()],
)  # fmt: skip
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, Run(tmp_path).writing():
        raise error
    assert caught.value is error


def test_the_configuration_is_written_only_when_it_changes(tmp_path):
    run, config = Run(tmp_path), tiny_run.config(tmp_path)
    run.claim(config)
    before = run.config_file.stat()
    run.claim(config)
    assert (run.config_file.stat().st_ino, run.config_file.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    config.train.log_every = 7
    run.claim(config)
    assert run.config().train.log_every == 7


# Metrics


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    writer = ScalarWriter(run, 0, tensorboard=False)
    writer.write(2, {"loss": 3.0})
    writer.write(4, {"loss": 2.0})
    writer.write(4, {"AP": 0.1})
    writer.close()
    return run


def test_a_repeated_evaluation_is_one_row(run):
    before = run.metrics.read_bytes(), run.metrics.stat().st_mtime_ns
    writer = ScalarWriter(run, 4, tensorboard=False)
    writer.write(4, {"AP": 0.1})
    writer.close()
    assert (run.metrics.read_bytes(), run.metrics.stat().st_mtime_ns) == before
    writer = ScalarWriter(run, 4, tensorboard=False)
    writer.write(4, {"AP": 0.3})  # with another threshold, say
    assert lines(run.metrics)[2:] == [{"step": 4, "AP": 0.3}]


def test_an_evaluation_that_is_made_up_later_stands_in_its_place(run):
    writer = ScalarWriter(run, 4, tensorboard=False)
    writer.write(2, {"AP": 0.05})
    writer.write(6, {"loss": 1.0})
    steps = [(row["step"], "AP" in row) for row in lines(run.metrics)]
    assert steps == [(2, False), (2, True), (4, False), (4, True), (6, False)]


def test_repeated_rows_of_an_earlier_version_are_dropped(run):
    with run.metrics.open("a") as file:
        file.write(json.dumps({"step": 4, "AP": 0.1}) + "\n")
    ScalarWriter(run, 4, tensorboard=False).close()
    assert len(lines(run.metrics)) == 3


@pytest.mark.parametrize(
    "damage",
    ['{"step": 6, "lo', "\0\0\0\0", "[1, 2]", '"text"', '{"loss": 1.0}', '{"step": "4"}', "{}x",
     '{"step": true}', '{"step": 1.5}', '{"step": -1}', "[" * 100_000, f'{{"step": 1{"0" * 5000}}}',
     b"\xff\xfe{}"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["middle", "end"])
def test_damaged_lines_are_left_out_counted_and_said(run, damage, where, caplog):
    good = run.metrics.read_bytes()
    damage = damage if isinstance(damage, bytes) else damage.encode()
    first, rest = good.split(b"\n", 1)
    parts = [first, damage, rest] if where == "middle" else [good + damage]
    run.metrics.write_bytes(b"\n".join(parts))
    assert read_metrics(run.metrics)[1] == 1
    with caplog.at_level(logging.INFO, "pse_jax"):
        logging.getLogger("pse_jax").propagate = True
        ScalarWriter(run, 4, tensorboard=False).close()
    assert run.metrics.read_bytes() == good
    assert f"{run.metrics}: 1 damaged lines are left out" in caplog.text


def test_rows_after_the_checkpoint_are_dropped_and_counted(run, caplog):
    with caplog.at_level(logging.INFO, "pse_jax"):
        logging.getLogger("pse_jax").propagate = True
        ScalarWriter(run, 2, tensorboard=False).close()
    assert lines(run.metrics) == [{"step": 2, "loss": 3.0}]
    assert "2 rows of steps after 2 are dropped" in caplog.text


def test_rows_that_could_not_be_written_come_later(run, monkeypatch, caplog):
    def full(*_):
        raise FULL

    writer = ScalarWriter(run, 4, tensorboard=False)
    logging.getLogger("pse_jax").propagate = True
    with monkeypatch.context() as patch:
        patch.setattr(scalars, "append_line", full)
        patch.setattr(os, "fsync", full)
        for step in (6, 8, 10):
            writer.write(step, {"loss": 1.0})
    assert caplog.text.count("metrics are kept in memory") == 1
    assert [row["step"] for row in lines(run.metrics)] == [2, 4, 4]
    writer.write(12, {"loss": 1.0})
    assert [row["step"] for row in lines(run.metrics)] == [2, 4, 4, 6, 8, 10, 12]
    assert "is whole again: 3 rows were late" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(scalars, "append_line", full)
        patch.setattr(os, "fsync", full)
        writer.write(14, {"loss": 1.0})
        writer.close()
    assert "1 rows are missing at its end" in caplog.text


def events(folder):
    """Step and scalars of every event, read as TensorBoard's own format says."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + size])
            yield event.step, {value.tag: value.simple_value for value in event.summary.value}
            content = content[16 + size :]


def test_tensorboard_has_every_row_once(tmp_path):
    run = Run(tmp_path)
    for start, step in ((0, 4), (4, 4), (4, 6)):  # the second run repeats the evaluation
        writer = ScalarWriter(run, start, tensorboard=True)
        writer.write(step, {"AP": 0.5})
        writer.close()
    rows = [(step, row) for step, row in events(run.tensorboard) if row]
    assert rows == [(4, {"eval/AP": 0.5}), (6, {"eval/AP": 0.5})]
    assert len(list(run.tensorboard.iterdir())) == 2


def test_tensorboard_has_groups_pictures_and_text(tmp_path):
    """Read by TensorBoard's own protocol; metrics.jsonl keeps the flat names."""
    from tensorboardX.proto.event_pb2 import Event

    run = Run(tmp_path)
    writer = ScalarWriter(run, 0, tensorboard=True)
    writer.write(2, {"loss": 1.5, "images_per_second": 3.0})
    content = io.BytesIO()
    Image.new("RGB", (7, 5), (10, 20, 30)).save(content, "PNG")
    writer.add_image(2, "eval/detections", content.getvalue())
    writer.add_text("config", "```json\n{}\n```")
    with pytest.raises(ValueError, match="eval/detections is not a PNG file"):
        writer.add_image(2, "eval/detections", b"\xff\xd8 a JPEG file, for example, is none")
    writer.close()
    assert lines(run.metrics) == [{"step": 2, "loss": 1.5, "images_per_second": 3.0}]
    assert (2, {"train/loss": 1.5, "time/images_per_second": 3.0}) in events(run.tensorboard)
    found = {}
    (file,) = run.tensorboard.iterdir()
    content = file.read_bytes()
    while content:
        size = int.from_bytes(content[:8], "little")
        for value in Event.FromString(content[12 : 12 + size]).summary.value:
            found[value.tag] = value
        content = content[16 + size :]
    picture = found["eval/detections"].image
    assert (picture.height, picture.width) == (5, 7)
    assert Image.open(io.BytesIO(picture.encoded_image_string)).getpixel((6, 4)) == (10, 20, 30)
    text = found["config/text_summary"]
    assert text.metadata.plugin_data.plugin_name == "text"
    assert text.tensor.string_val == [b"```json\n{}\n```"]


def test_tensorboard_does_not_import_pytorch_and_leaves_it_as_it_was(tmp_path):
    """That takes seconds. A package of this name stands in for it."""
    (tmp_path / "torch.py").write_text("Tensor = 'imported'")
    program = """
import sys
from pathlib import Path
from pse_jax.training.board import Board
board = Board(Path(sys.argv[1]), 0)
board.add(1, {"loss": 0.5})
assert "torch" not in sys.modules
import torch
assert torch.Tensor == "imported"
Board(Path(sys.argv[1]), 1).add(2, {"loss": 0.5})
assert sys.modules["torch"] is torch
"""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    words = [sys.executable, "-c", program, str(tmp_path / "events")]
    subprocess.run(words, env=environment, check=True)


def test_tensorboard_on_a_full_disk_neither_hangs_nor_ends_the_run(tmp_path, monkeypatch, caplog):
    from tensorboardX.record_writer import RecordWriter

    logging.getLogger("pse_jax").propagate = True
    run = Run(tmp_path)
    writer = ScalarWriter(run, 0, tensorboard=True)

    def full(_):
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "flush", full)
        for step in range(40):  # more than tensorboardX's queue holds
            writer.write(step, {"loss": 1.0})
    writer.write(40, {"loss": 2.0})
    writer.close()
    assert (40, {"train/loss": 2.0}) in events(run.tensorboard)
    assert caplog.text.count("cannot be written: No space left") == 1
    assert "40 rows are missing" in caplog.text and len(lines(run.metrics)) == 41


# Logs


@pytest.fixture
def log(monkeypatch):
    logger = logging.getLogger("pse_jax.test")
    monkeypatch.setattr(logging.getLogger("pse_jax"), "level", logging.INFO)
    return logger


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no /dev/full")
def test_a_log_on_a_full_disk_is_said_elsewhere(tmp_path, log):
    with progress.log_to(tmp_path / "good.log"), progress.log_to(Path("/dev/full")):
        log.info("one")
        log.info("two")
    said = (tmp_path / "good.log").read_text()
    assert "one" in said and "two" in said
    assert "/dev/full: 2 lines could not be written (No space left on device)" in said


def test_a_log_that_works_again_says_what_is_missing(tmp_path, log, monkeypatch):
    def full(*_):
        raise FULL

    folder = tmp_path / "later"
    with progress.log_to(folder / "train.log"):
        log.info("one")  # there is no folder yet
        folder.mkdir()
        log.info("two")
    said = (folder / "train.log").read_text()
    assert "train.log: 1 line could not be written (No such file or directory)" in said
    assert "one" not in said and said.rstrip().endswith("two")


@pytest.mark.parametrize("gone", ["/dev/full", "pipe", "closed"])
def test_a_lost_standard_error_ends_nothing(tmp_path, gone):
    code = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "from pse_jax import progress\n"
        "progress.show_log()\n"
        "with progress.log_to(Path(sys.argv[1])):\n"
        "    progress._Standard.isatty = lambda self: True\n"  # draws
        "    bar = progress.bar(2, 'x')\n"
        "    for _ in range(2):\n"
        "        logging.getLogger('pse_jax.x').info('line')\n"
        "        bar.update(1)\n"
        "        bar.refresh()\n"
        "        assert not bar.disable\n"
        "    bar.close()\n"
    )
    out = tmp_path / "train.log"
    read, write = os.pipe()
    os.close(read)
    stderr = open(gone, "wb") if gone == "/dev/full" else write
    command = [sys.executable, "-c", code, str(out)]
    if gone == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    # With a buffer that cannot be flushed at its end, Python itself exits with 120.
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, cwd=ROOT, stderr=stderr, env=env, check=False)
    os.close(write)
    assert done.returncode == 0
    assert out.read_text().count("line\n") == 2
    if gone != "closed":  # without a standard error there is nothing to miss
        assert "standard error: 2 lines could not be written" in out.read_text()


# train.py on small disks


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def train(cache, workdir, *flags):
    command = [
        *(sys.executable, "train.py", "--config=tests/tiny_run.py", f"--workdir={workdir}"),
        *(f"--config.data.cache_dir={cache}", *flags),
    ]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "size, safe",
    [("64k", "There is no whole checkpoint yet."), ("1m", "There is no whole checkpoint yet."),
     ("3m", "The newest whole checkpoint is that of step ")],
)  # fmt: skip
def test_training_on_a_full_disk_is_one_message_and_resumes_with_room(tmp_path, size, safe):
    disk = tmp_path / "disk"
    with small_disk(disk, size):
        flags = ("--config.train.tensorboard=true",)
        done = train(tmp_path / "cache", disk / "run", *flags)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
        assert "No space left on device" in done.stderr and safe in done.stderr
        for file in (disk / "run").glob("*.json"):
            json.loads(file.read_text())
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        done = train(tmp_path / "cache", disk / "run", *flags)
        assert done.returncode == 0, done.stderr
        rows = [(row["step"], "AP" in row) for row in lines(disk / "run" / "metrics.jsonl")]
        assert rows == [(2, False), (4, False), (6, False), (6, True)]
        assert json.loads((disk / "run" / "eval_6.json").read_text())["step"] == 6


@pytest.mark.slow
def test_a_read_only_folder_is_one_message(tmp_path):
    with small_disk(tmp_path / "disk", "1m,ro"):
        done = train(tmp_path / "cache", tmp_path / "disk" / "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.endswith("cannot be the folder of a run: Read-only file system\n")
