"""One process at a time writes to a remote folder."""

import json
import threading
import time

import pytest

from pse_jax import addresses
from pse_jax.errors import LockError, WriteError
from pse_jax.runs.lock import holder_of_this_process
from pse_jax.runs.remote import claims
from tests.object_store import served

ELSEWHERE = {"host": "tpu-7", "pid": 12, "since": "today", "command": "train", "machine": "other"}


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name, seconds in {"RENEW": 0.05, "EXPIRES": 0.4, "POLL": 0.02, "WAIT": 0.01}.items():
        monkeypatch.setattr(claims, name, seconds)
    with served(tmp_path / "store") as store:
        yield store


@pytest.fixture
def folder(store):
    return addresses.place("gs://bucket/run")


def put(folder, claim, name="0.json"):
    addresses.write(folder / "claims" / name, json.dumps(claim).encode())


def test_a_folder_in_use_is_refused_and_then_free(store, folder):
    with claims.held(folder) as lock:
        with pytest.raises(
            LockError, match=r"gs://bucket/run is in use by process \d+ on .*remove"
        ):
            claims.RemoteLock(folder)
        lock.check_now()
        assert len(store.keys()) == 1  # the other has withdrawn
    assert store.keys() == []
    claims.RemoteLock(folder).release()


def test_a_dead_process_of_this_machine_holds_nothing(store, folder):
    put(folder, {**holder_of_this_process(), "pid": 2**22 + 1})
    started = time.monotonic()
    claims.RemoteLock(folder).release()
    assert time.monotonic() - started < claims.EXPIRES
    assert store.keys() == []


def test_a_silent_process_elsewhere_is_given_time_then_taken_for_dead(store, folder):
    put(folder, ELSEWHERE)
    started = time.monotonic()
    claims.RemoteLock(folder).release()
    assert time.monotonic() - started >= claims.EXPIRES


def test_a_process_elsewhere_that_renews_its_claim_is_alive(store, folder):
    put(folder, ELSEWHERE)
    timer = threading.Timer(0.1, put, (folder, {**ELSEWHERE, "renewed": 1}))
    timer.start()
    with pytest.raises(LockError, match="in use by process 12 on tpu-7 since today"):
        claims.RemoteLock(folder)
    assert store.keys() == ["gs://bucket/run/claims/0.json"]


def test_a_claim_is_renewed_and_its_loss_noticed(store, folder):
    lock = claims.RemoteLock(folder)
    (key,) = store.keys()
    first = store._file(key).read_bytes()
    deadline = time.monotonic() + 10
    while store._file(key).read_bytes() == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store._file(key).read_bytes() != first
    addresses.remove(folder / "claims" / lock.name)
    put(folder, ELSEWHERE)
    while not lock.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(LockError, match="was taken over by process 12 on tpu-7"):
        lock.check()
    lock.release()
    assert store.keys() == ["gs://bucket/run/claims/0.json"]


def test_a_sleeper_that_was_taken_for_dead_gives_way(store, folder, monkeypatch):
    """Even if it writes its claim once more before it looks."""
    lock = claims.RemoteLock(folder)
    put(folder, ELSEWHERE)
    clock = time.time
    monkeypatch.setattr(claims.time, "time", lambda: clock() + 1000)  # it slept
    deadline = time.monotonic() + 10
    while not lock.lost and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(LockError, match="taken over by process 12 on tpu-7"):
        lock.check_now()
    lock.release()
    assert store.keys() == ["gs://bucket/run/claims/0.json"]


def test_never_two_at_once_however_they_come_between_each_other(store, folder, monkeypatch):
    """Two or more begin at the same moment: at most one has it; alone, one always gets it."""
    monkeypatch.setattr(claims, "RENEW", 1000)
    store.fail = lambda what, path: time.sleep(0.0005)
    taken, most, holding, guard = 0, 0, 0, threading.Lock()

    def contend(start):
        nonlocal taken, most, holding
        start.wait()
        try:
            lock = claims.RemoteLock(folder)
        except LockError:
            return
        with guard:
            taken, holding = taken + 1, holding + 1
            most = max(most, holding)
        time.sleep(0.01)
        with guard:
            holding -= 1
        lock.release()

    for _ in range(15):
        start = threading.Barrier(3)
        threads = [threading.Thread(target=contend, args=(start,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1 and taken >= 10 and store.keys() == []


def test_a_store_that_takes_no_claim_is_an_error(store, folder):
    def fail(what, path):
        if what == "write":
            raise PermissionError("403")

    store.fail = fail
    with pytest.raises(WriteError, match="gs://bucket/run/claims cannot be written: 403"):
        claims.RemoteLock(folder)
