"""One process at a time has a folder, and a dead one does not keep it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from pse_jax.errors import LockError, WriteError
from pse_jax.runs import lock
from pse_jax.runs.folder import Run
from pse_jax.runs.lock import held

DEADLINE = 120  # seconds

TAKER = """
import sys, time
from pathlib import Path
from pse_jax.errors import LockError
from pse_jax.runs.lock import held
folder, start = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
while not start.exists():
    pass
try:
    with held(folder):
        print("won", flush=True)
        sys.stdin.read()
except LockError as error:
    print("lost", error, flush=True)
"""


def process(folder, start):
    command = [sys.executable, "-c", TAKER, str(folder), str(start)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    tmp_path.joinpath("start").touch()
    other = process(tmp_path, tmp_path / "start")
    assert other.stdout.readline() == "ready\n" and other.stdout.readline() == "won\n"
    yield other
    other.kill()
    other.communicate()


def as_if_elsewhere(file, renewed, **more):
    """Makes a lease one of another machine, renewed that many seconds ago."""
    content = json.loads(file.read_text()) | {"host": "far", "machine": "far away"} | more
    file.write_text(json.dumps(content))
    then = time.time() - renewed
    os.utime(file, (then, then))


def test_the_refusal_names_the_holder_and_the_remedy(tmp_path, holder):
    with pytest.raises(LockError) as caught, held(tmp_path):
        pass
    said = str(caught.value)
    assert f"{tmp_path} is in use by process {holder.pid} on {os.uname().nodename} since 20" in said
    assert sys.executable in said and f"delete {tmp_path / 'lock_1.json'}" in said


def test_a_folder_that_was_released_is_free(tmp_path, holder):
    holder.communicate("")  # it ends
    with held(tmp_path) as ours:
        ours.check()
        with pytest.raises(LockError, match=f"process {os.getpid()} on "), held(tmp_path):
            pass
    with held(tmp_path):
        pass
    assert len(list(tmp_path.glob("lock_*"))) == 1  # no more of them with every run


def test_a_killed_holder_is_replaced_at_once_while_it_is_still_a_zombie(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    began = time.monotonic()
    with held(tmp_path):
        assert time.monotonic() - began < lock.EXPIRES / 2


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path, holder):
    holder.kill()
    holder.wait()
    (file,) = tmp_path.glob("lock_*.json")
    content = json.loads(file.read_text())
    for pid in (os.getpid(), 10**30, "1", None):  # this process is alive, and began at another time
        file.write_text(json.dumps(content | {"pid": pid}))
        assert lock._is_free(file)
    assert not lock._is_alive({"pid": os.getpid(), "began": "0"})
    assert lock._is_alive({"pid": os.getpid(), "began": lock._began(os.getpid())})


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_that_start_at_once_exactly_one_wins(tmp_path, stale):
    folder = tmp_path / "run"
    folder.mkdir()
    if stale:
        with held(folder) as old:
            content = old.content
        old.file.write_text(json.dumps(content | {"began": "0"}))
    processes = [process(folder, tmp_path / "start") for _ in range(8)]
    for one in processes:
        assert one.stdout.readline() == "ready\n"
    (tmp_path / "start").touch()
    said = [one.stdout.readline() for one in processes]  # the winner holds it until it may end
    for one in processes:
        one.communicate("")
    assert sorted(line[:4].strip() for line in said) == ["lost"] * 7 + ["won"], said


def test_threads_that_race_for_a_stale_lock_never_hold_it_together(tmp_path):
    """Many takes and releases; the numbers of the leases never begin again."""
    inside, most, wins = [], [], []

    def take():
        for _ in range(12):
            try:
                with held(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    wins.append(1)
                    inside.pop()
            except LockError:
                pass

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wins and max(most) == 1


def test_a_holder_on_another_machine_that_renews_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "POLL", 0.02)
    with held(tmp_path) as theirs:
        as_if_elsewhere(theirs.file, renewed=30)
        renewing = threading.Timer(0.3, os.utime, [theirs.file])
        renewing.start()
        with pytest.raises(LockError, match="on far since"), held(tmp_path):
            pass
        renewing.join()


def test_a_holder_on_another_machine_that_does_not_renew_has_lost_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "POLL", 0.02)
    monkeypatch.setattr(lock, "EXPIRES", 31.0)
    with held(tmp_path) as theirs:
        as_if_elsewhere(theirs.file, renewed=30.5)
        with held(tmp_path) as ours:
            ours.check()
            # It slept, like a laptop, and wakes: it must not write on.
            with pytest.raises(LockError, match=f"taken over by process {os.getpid()} on"):
                theirs.check()
    assert "released" in json.loads(ours.file.read_text())


def test_a_lease_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "RENEW", 0.02)
    with held(tmp_path) as ours:
        os.utime(ours.file, (0, 0))
        deadline = time.monotonic() + DEADLINE
        while ours.file.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("anew", [False, True])
def test_a_holder_whose_lease_was_removed_notices(tmp_path, anew):
    run = Run(tmp_path / "run")
    with pytest.raises(LockError, match=r"freed: .*lock_1.json is gone|taken over by"):
        with run.writing():
            run.check_held()
            if anew:  # and another run has taken a lease of the same number
                file = tmp_path / "run" / "lock_1.json"
                file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": 1}))
            else:
                shutil.rmtree(tmp_path / "run")
            run.check_held()
    if anew:  # it is theirs: nothing of it may change
        assert "released" not in json.loads(file.read_text())


@pytest.mark.parametrize("content", ["", "{", "[]", "\0\0", '{"pid": 5}'])
def test_a_damaged_lease_expires_like_one_of_another_machine(tmp_path, content):
    file = tmp_path / "lock_7.json"
    file.write_text(content)
    os.utime(file, (time.time() - lock.EXPIRES - 1,) * 2)
    with held(tmp_path) as ours:
        assert ours.file.name == "lock_8.json" and not file.exists()


def test_waiting_for_a_folder(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "POLL", 0.02)
    ending = threading.Timer(0.3, holder.communicate, [""])
    ending.start()
    with held(tmp_path, wait=True):
        ending.join()
        assert holder.returncode == 0


def test_no_lease_is_left_when_it_cannot_be_written(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="cannot write the folder's lock: No space left"):
        with held(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
