"""Files are whole or not there."""

import os
import stat

import pytest

from pse_jax.errors import WriteError
from pse_jax.files import write_together, write_whole


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "one", "a test")
    write_whole(path, b"two", "a test")
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == ["a.json"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.json"
    write_whole(path, "old", "a test")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(WriteError, match=r"a\.json: cannot write a test: No space left on device"):
        write_whole(path, "new", "a test")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_of_files_that_belong_together_none_is_replaced_unless_all_can_be(tmp_path, monkeypatch):
    paths = [tmp_path / "detections.json", tmp_path / "numbers.json"]
    write_together(dict.fromkeys(paths, "old"), "a test")
    count = iter(range(9))

    def full_at_the_second(_):
        if next(count) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(WriteError, match=r"numbers\.json: cannot write a test: No space left"):
        write_together(dict.fromkeys(paths, "new"), "a test")
    assert [path.read_text() for path in paths] == ["old", "old"]
    assert len(os.listdir(tmp_path)) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WriteError, match=r"no/a\.json: cannot write a test: No such file"):
        write_whole(tmp_path / "no" / "a.json", "new", "a test")
