"""Addresses: which are served, and that no other one becomes a local folder of that name."""

import os
from pathlib import Path

import pytest

from pse_jax import addresses
from pse_jax.__main__ import main
from pse_jax.errors import UserError, WriteError
from tests.object_store import served

GCSFS = r"cannot be reached: Please install gcsfs .*: pip install \"pse-jax\[gcs\]\""
REFUSED = [
    ("gs:/bucket/run", r"two slashes; write gs://bucket/run"),
    ("s3:/bucket", r"two slashes; write s3://bucket"),
    ("GS:/bucket", r"two slashes; write gs://bucket"),
    ("gcs://bucket/run", r"nothing here serves gcs://; there are local folders and gs://, s3://"),
    ("https://host/run", r"nothing here serves https://"),
    ("hdfs://host/run", r"nothing here serves hdfs://"),
    ("file:///tmp/run", r"give the path alone, /tmp/run"),
    ("gs://", r"names no bucket; write gs://BUCKET/FOLDER"),
    ("gs:///bucket", r"names no bucket"),
    ("gs://bucket/../other", r"cannot have \. or \.\. as one of its names"),
]
# Every flag that names a file or folder, and what else its verb wants first.
FLAGS = [
    (["train", "--config", "shapes_pse", "--workdir", "{}"], "either"),
    (["train", "--workdir", "new", "--from-checkpoint", "{}"], "either"),
    (["eval", "--workdir", "{}"], "either"),
    (["eval", "--workdir", "new", "--out", "{}"], "either"),
    (["check", "--images", "images", "--annotations", "{}"], "either"),
    (["check", "--annotations", "a.json", "--images", "{}"], "either"),
    (["draw", "--workdir", "{}"], "either"),
    (["draw", "--workdir", "new", "--out", "{}/sheet.png"], "either"),
    (["draw", "--workdir", "new", "{}"], "local"),
    (["predict", "a.jpg", "--workdir", "{}"], "either"),
    (["predict", "--workdir", "new", "{}"], "local"),
    (["predict", "a.jpg", "--workdir", "new", "--out", "{}"], "local"),
    (["figures", "--out", "out", "--workdir", "{}"], "either"),
    (["figures", "--out", "{}"], "either"),
    (["analyze", "--detections", "d.json", "--annotations", "{}"], "either"),
    (["analyze", "--annotations", "a.json", "--detections", "{}"], "either"),
    (["analyze", "--annotations", "a.json", "--detections", "d.json", "--out", "{}"], "either"),
    (["analyze", "--annotations", "a", "--detections", "d", "--images", "{}"], "local"),
    (["sweep", "--config", "shapes_pse", "--table", "I", "--out", "{}"], "local"),
    (["import-weights", "f.pth", "--workdir", "{}"], "either"),
    (["import-weights", "f.pth", "--workdir", "new", "--annotations", "{}"], "either"),
    (["export-weights", "--out", "o.safetensors", "--workdir", "{}"], "either"),
    (["export-weights", "--workdir", "new", "--out", "{}"], "either"),
    (["train", "--workdir", "new", "--config", "{}"], "local"),
    (["train", "--config", "shapes_pse", "--workdir", "new", "--config.data.root={}"], "either"),
    (["check", "--config", "shapes_pse", "--config.data.val_images={}"], "either"),
    (["check", "--config", "shapes_pse", "--config.data.cache_dir={}"], "local"),
]
IDS = [" ".join([words[0], *words[-2:]]) for words, _ in FLAGS]


@pytest.mark.parametrize("text, why", REFUSED)
def test_what_cannot_be_served_is_refused(text, why):
    with pytest.raises(UserError, match=why):
        addresses.place(text)
    if Path(text).name != text.rstrip("/"):  # in a Path two slashes are one
        with pytest.raises(UserError):
            addresses.place(Path(text))


def test_a_missing_package_is_named():
    pytest.importorskip("etils")
    with pytest.raises(UserError) as caught:
        addresses.place("gs://bucket/run")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        caught.match(GCSFS)


@pytest.mark.parametrize("words, kind", FLAGS, ids=IDS)
@pytest.mark.parametrize("address", ["gs:/bucket/run", "nowhere://bucket/run"])
def test_every_flag_refuses_them_before_anything_is_done(
    words, kind, address, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(address) for word in words]) == 2
    error = capsys.readouterr().err
    if words[-2:] == ["--config", "{}"] and "//" not in address:
        assert "no configuration at gs" in error  # FILE:ARGUMENT
        return
    assert address in error
    if kind == "local":
        assert "it must be on a local disk; give a path" in error
    else:
        assert "nothing here serves nowhere://" in error or "write gs://bucket/run" in error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words, kind", [f for f in FLAGS if f[1] == "local"])
def test_what_must_be_local_says_so(words, kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with served(tmp_path / "store"):
        assert main([word.format("gs://bucket/run") for word in words]) == 2
    assert "gs://bucket/run: it must be on a local disk; give a path" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize("text", ["runs/a", "/tmp/x", "~/x", "a:b/c", "./C:", "x=1:/2", "", "a//b"])
def test_paths_stay_what_they_were(text):
    assert addresses.place(text) == Path(text).expanduser()
    assert type(addresses.place(text)) is type(Path())
    assert not addresses.is_remote(addresses.place(text))


@pytest.fixture
def store(tmp_path):
    with served(tmp_path / "store") as store:
        yield store


def test_names_in_a_remote_folder(store):
    folder = addresses.place("GS://bucket/images/")
    assert str(folder) == "gs://bucket/images" and addresses.is_remote(folder)
    for name, found in {
        "a.jpg": "gs://bucket/images/a.jpg",
        "sub/../a.jpg": "gs://bucket/images/a.jpg",
        "../b.jpg": "gs://bucket/b.jpg",
        "./c d.jpg": "gs://bucket/images/c d.jpg",
        "/abs.jpg": "/abs.jpg",
        "gs://other/x": "gs://bucket/images/gs:/other/x",
    }.items():
        assert str(addresses.join(folder, name)) == found


def test_what_is_written_is_read_listed_and_removed(store):
    folder = addresses.place("gs://bucket/folder")
    assert addresses.names(folder) == [] and not addresses.exists(folder)
    addresses.write(folder / "a", b"1")
    addresses.write(folder / "sub" / "b", b"2")
    assert addresses.read(folder / "a") == b"1"
    assert addresses.names(folder) == ["a", "sub"] and addresses.exists(folder)
    with pytest.raises(FileNotFoundError) as caught:
        addresses.read(folder / "c")
    assert caught.value.strerror == "it does not exist"
    addresses.remove(folder)
    addresses.remove(folder)
    assert store.keys() == []


def test_a_folder_that_cannot_be_written_is_said_at_once(store):
    def fail(what, path):
        if what == "write":
            raise ValueError("Forbidden:\n 403, POST https://storage/b?alt=json")

    addresses.make(addresses.place("gs://bucket/out"), "the folder of a run")
    assert store.keys() == []
    store.fail = fail
    with pytest.raises(
        WriteError, match=r"^gs://bucket/out cannot be it: Forbidden: 403, POST .*; "
    ):
        addresses.make(addresses.place("gs://bucket/out"), "it")
