"""The conversion itself: whole or not at all, and never over something else.

Kills at random moments: pytest -n 0 -m slow tests/formats/test_convert.py (a minute).
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from formats.folders import photos, put, write_roboflow, write_voc, write_yolo

from pse_jax.__main__ import main
from pse_jax.config import DataConfig
from pse_jax.data import sources
from pse_jax.data.formats import write
from pse_jax.errors import DataError, WriteError
from pse_jax.verbs import convert

ROOT = Path(__file__).parents[2]


def run(source, out, *more):
    return convert.main([str(source), str(out), "--no-check", *more])


def content(folder):
    """Every file and what is in it; where it came from does not count."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != write.RECORD
    }


def test_an_interrupted_conversion_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    source = write_voc(tmp_path / "voc", photos(9, 4, 3))
    run(source, tmp_path / "whole")
    whole, out = content(tmp_path / "whole"), tmp_path / "out"
    copied, real = [], shutil.copyfile

    def breaking(at):
        def copy(a, b):
            if len(copied) >= at:
                Path(b).write_bytes(b"half an image")
                raise KeyboardInterrupt
            copied.append(Path(a).name)
            return real(a, b)

        return copy

    for at in (0, 5, 11):
        monkeypatch.setattr(shutil, "copyfile", breaking(at))
        with pytest.raises(KeyboardInterrupt):
            run(source, out)
        assert not out.exists() and write.unfinished(out).is_dir()
    monkeypatch.setattr(shutil, "copyfile", breaking(99))
    run(source, out)
    assert content(out) == whole and not write.unfinished(out).exists()
    assert len(copied) == len(set(copied)) == 16  # nothing was copied twice


def test_after_an_interruption_the_source_may_have_changed(tmp_path, monkeypatch):
    them = photos(4, 2, 0)
    source, out = write_voc(tmp_path / "voc", them), tmp_path / "out"
    monkeypatch.setattr(os, "sync", lambda: 1 / 0)  # when all is written but the name
    with pytest.raises(ZeroDivisionError):
        run(source, out)
    monkeypatch.undo()
    image = source / "JPEGImages/train0.jpg"
    put(image, image.read_bytes()[:-2] + b"\xff\xda")  # another image of the same length
    put(source / "ImageSets/Main/train.txt", "train0\ntrain2\ntrain3\n")  # and one less
    run(source, out)
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    run(source, tmp_path / "fresh")
    assert content(out) == content(tmp_path / "fresh")


def test_what_is_in_the_way(tmp_path, monkeypatch):
    source, out = write_voc(tmp_path / "voc", photos(2, 1, 0)), tmp_path / "out"
    out.mkdir()  # an empty folder is no obstacle
    run(source, out)
    with pytest.raises(DataError, match="is there already, by this very conversion; give another"):
        run(source, out)
    with pytest.raises(DataError, match="is there already; give another folder"):
        run(source, out, "--difficult=drop")
    put(tmp_path / "file", "x")
    with pytest.raises(DataError, match="file is there already"):
        run(source, tmp_path / "file")
    for bad in (source, tmp_path):
        with pytest.raises(DataError, match="is or holds the source"):
            run(source, bad)
    put(write.unfinished(tmp_path / "other") / "precious.txt", "x")
    with pytest.raises(DataError, match=r"unfinished is not of a conversion; move it away"):
        run(source, tmp_path / "other")
    with pytest.raises(DataError, match="there is nothing at"):
        run(tmp_path / "gone", out)

    monkeypatch.setattr(os, "sync", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(source, tmp_path / "third")
    monkeypatch.undo()
    other = write_yolo(tmp_path / "yolo", photos(3, 1, 0))
    run(other, tmp_path / "third")  # begins anew
    assert len(list((tmp_path / "third/train").iterdir())) == 3


def test_a_full_disk_is_told_with_what_to_do(tmp_path, monkeypatch, capsys):
    source, out = write_voc(tmp_path / "voc", photos(2, 1, 0)), tmp_path / "out"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(WriteError, match=r"No space left on device.*continues from here"):
        run(source, out)
    assert main(["convert", str(source), str(out)]) == 2
    assert "error: " in capsys.readouterr().err


def test_links_need_no_room(tmp_path):
    source = write_voc(tmp_path / "voc", photos(2, 1, 0))
    run(source, tmp_path / "out", "--images=link")
    link = tmp_path / "out/train/train0.jpg"
    assert link.is_symlink() and link.resolve() == (source / "JPEGImages/train0.jpg").resolve()
    dataset = sources.open_train(DataConfig(root=str(tmp_path / "out")))
    assert dataset.pixels_of(0).shape == (48, 64, 3)


def test_images_of_the_same_name_and_a_leak_between_splits(tmp_path, capsys):
    them = photos(3, 1, 0)
    folder = write_yolo(tmp_path / "yolo", them)
    for k, name in enumerate(("TRAIN0.jpg", "Train0.jpg")):
        put(folder / f"more/images/{k}/{name}", them[k].content)
        put(folder / f"more/labels/{k}/{name[:-4]}.txt", f"{k} 0.5 0.5 0.2 0.2")
    train = "[images/train, more/images/0, more/images/1]"
    put(folder / "data.yaml", f"names: [a, b, c]\ntrain: {train}\nval: images/train\n")
    run(folder, tmp_path / "out")
    file = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    names = {row["file_name"]: row["id"] for row in file["images"]}
    assert sorted(names) == [
        "TRAIN0.jpg",
        "Train0_2.jpg",
        "train0_3.jpg",
        "train1.jpg",
        "train2.jpg",
    ]
    assert (tmp_path / "out/train/TRAIN0.jpg").read_bytes() == them[0].content
    by_image = {a["image_id"]: a["category_id"] for a in file["annotations"] if a["bbox"][2] < 13}
    assert by_image[names["TRAIN0.jpg"]] == 1
    assert "3 x image in both train and val, kept in both" in capsys.readouterr().out


def test_a_val_split_is_chosen_the_same_everywhere_and_versions_stay_together(tmp_path):
    them = photos(20, 0, 0)
    for k, photo in enumerate(them):
        photo.name = f"photo{k // 2}_jpg.rf.{k:032x}.jpg"
    folder = tmp_path / "rf"
    write_voc(folder, them, lists=False)
    run(folder, tmp_path / "fifth")  # by itself
    assert len(list((tmp_path / "fifth/val").iterdir())) == 4
    chosen = []
    for k, more in enumerate(([], [], ["--seed=1"])):
        run(folder, tmp_path / f"out{k}", "--val-share=0.3", *more)
        names = [{f.name for f in (tmp_path / f"out{k}" / s).iterdir()} for s in ("train", "val")]
        assert [len(them) for them in names] == [14, 6] and len(names[0] | names[1]) == 20
        stems = [{name.split(".rf.")[0] for name in some} for some in names]
        assert not stems[0] & stems[1]
        chosen.append(names[1])
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(DataError, match="has a val split of its own"):
        run(write_roboflow(tmp_path / "own", photos()), tmp_path / "x", "--val-share=0.2")
    for share in ("1", "-0.1", "x"):
        assert main(["convert", str(folder), str(tmp_path / "y"), f"--val-share={share}"]) == 2


def test_the_result_is_checked(tmp_path, capsys):
    them = photos(3, 2, 1)
    source = write_voc(tmp_path / "voc", them)
    assert main(["convert", str(source), str(tmp_path / "good")]) == 0
    out = capsys.readouterr().out
    assert out.count("the data can be used") == 2 and "train: " in out and "val: " in out
    assert "train on it with\n  python -m pse_jax train --config own_small \\\n" in out
    assert out.endswith("or, on a GPU, a ResNet-50 from ImageNet weights: --config own\n")
    assert f"--config.data.root={tmp_path / 'good'}" in out
    put(source / "JPEGImages/val0.jpg", them[0].content[:-200])  # cut off: its header is whole
    assert main(["convert", str(source), str(tmp_path / "bad")]) == 1
    out = capsys.readouterr().out
    assert "the data cannot be used" in out and "train on it" not in out and "GPU" not in out


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path):
    them = photos(60, 30, 10)
    source = write_voc(tmp_path / "voc", them)
    run(source, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    slow = (
        "import os, shutil, sys, time\n"
        "real = shutil.copyfile\n"
        "shutil.copyfile = lambda a, b: (time.sleep(0.3), real(a, b))[1]\n"
        "from pse_jax.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    argv = [sys.executable, "-c", slow, "convert", "--no-check", str(source)]
    began = time.monotonic()
    subprocess.run([*argv, str(tmp_path / "timed")], cwd=ROOT, check=True, capture_output=True)
    took, rng = time.monotonic() - began, random.Random(0)
    part_way = 0
    for k in range(4):
        out = tmp_path / f"out{k}"
        for last in (False, False, True):
            process = subprocess.Popen([*argv, str(out)], cwd=ROOT, stderr=subprocess.DEVNULL)
            try:
                process.wait(60 if last else rng.uniform(0.4, 0.9) * took)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                part_way += 0 < len(list(write.unfinished(out).rglob("*.jpg"))) < 100
        assert content(out) == whole
    assert part_way > 2


def test_splits_are_put_together_as_asked(tmp_path):
    for writer in (write_voc, write_roboflow, write_yolo):
        source = writer(tmp_path / writer.__name__, photos(5, 3, 2))
        kept, joined = tmp_path / f"{writer.__name__}_kept", tmp_path / f"{writer.__name__}_joined"
        assert run(source, kept) == 0
        assert run(source, joined, "--splits", "train=train+val", "val=test") == 0
        boxes = {}
        for out in (kept, joined):
            for file in (out / "annotations").iterdir():
                rows = json.loads(file.read_text())
                boxes[out, file.stem] = sorted(
                    json.dumps([row["bbox"], row["category_id"]]) for row in rows["annotations"]
                )
        old = [boxes[kept, f"instances_{split}"] for split in ("train", "val", "test")]
        assert sorted(old[0] + old[1]) == boxes[joined, "instances_train"]
        assert old[2] == boxes[joined, "instances_val"] and len(old[2]) > 0
        assert (joined, "instances_test") not in boxes


@pytest.mark.parametrize(
    "splits, message",
    [
        (["train=train+dev"], "'dev' is none of train, val, test"),
        (["train"], "'' is none of train, val, test"),
        (["train=train", "train=val"], "train is given twice"),
        (["train=train", "val=test"], "has no test, only train, val"),
    ],
)
def test_splits_that_are_not_there(tmp_path, splits, message, capsys):
    source = write_roboflow(tmp_path / "own", photos(3, 2, 0))
    assert main(["convert", str(source), str(tmp_path / "x"), "--splits", *splits]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "x").exists()
