"""What processes tell each other without a device: two processes as two threads and one store."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pse_jax.errors import ProcessError
from pse_jax.evaluation.arrays import Results
from pse_jax.processes import coordination
from pse_jax.runs.predict import Predicted, gather


class Store:
    """JAX's client: keys that are waited for."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set_bytes(self, key, value):
        with self.changed:
            assert key not in self.values
            self.values[key] = value
            self.changed.notify_all()

    def blocking_key_value_get_bytes(self, key, milliseconds):
        with self.changed:
            if self.changed.wait_for(lambda: key in self.values, timeout=milliseconds / 1000):
                return self.values[key]
        raise jax.errors.JaxRuntimeError(f"DEADLINE_EXCEEDED: {key}")

    def key_value_delete(self, key):
        del self.values[key]

    key_value_set, blocking_key_value_get = key_value_set_bytes, blocking_key_value_get_bytes


@pytest.fixture
def both(monkeypatch):
    """Runs a function of the process's number in two processes; returns what each returns."""
    store, own = Store(), threading.local()
    monkeypatch.setattr(coordination, "state", lambda: own.state)
    counters = [itertools.count(), itertools.count()]  # each process has its own

    class Numbers:
        def __next__(self):
            return next(own.counter)

    monkeypatch.setattr(coordination, "_numbers", Numbers())

    def run(function):
        def one(index):
            own.state = SimpleNamespace(client=store, process_id=index, num_processes=2)
            own.counter = counters[index]
            return function(index)

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(one, range(2)))
        return results, store

    return run


def test_process_0_gets_all_and_the_others_go_on(both):
    results, store = both(lambda me: coordination.gather(bytes([me]), "speak"))
    assert results == [[b"\x00", b"\x01"], None]
    assert store.values == {}  # nothing stays in the memory of process 0
    results, _ = both(lambda me: coordination.share({"AP": None, "names": ["ä"]} if not me else 5))
    assert results == [{"AP": None, "names": ["ä"]}] * 2


def test_who_does_not_come_is_named(both, monkeypatch):
    monkeypatch.setattr(coordination, "PATIENCE", 0.1)

    def one(me):
        return None if me else coordination.gather(b"", "open its data")

    with pytest.raises(ProcessError, match=r"process 1 did not open its data within 0\.1 s"):
        both(one)


def test_share_waits_as_long_as_it_takes(both, monkeypatch):
    monkeypatch.setattr(coordination, "PATIENCE", 0.02)
    said = threading.Event()

    def one(me):
        if me == 0:
            said.wait(0.2)
        return coordination.share(me)

    assert both(one)[0] == [0, 0]


def found_by(images, unreadable):
    """One detection an image; its category says which process found it."""
    image = np.array(images, np.int32)
    boxes = np.tile(image[:, None] * 1.0, (1, 4))
    results = Results("these detections", image, image % 2, boxes, image / 10)
    return Predicted(results, unreadable, len(images))


def test_what_two_processes_found_is_in_the_order_of_the_images(both):
    """And as large as it was, also where one found nothing."""
    parts = [found_by([6, 0, 2, 2], [70, 10]), found_by([1, 3, 5], [40])]
    (everything, nothing), _ = both(lambda me: gather(parts[me]))
    assert nothing is None and everything.images == 7 and everything.unreadable == [10, 40, 70]
    assert everything.results.image.tolist() == [0, 1, 2, 2, 3, 5, 6]
    np.testing.assert_array_equal(everything.results.boxes_xywh[:, 0], [0, 1, 2, 2, 3, 5, 6])
    np.testing.assert_array_equal(everything.results.scores, np.array([0, 1, 2, 2, 3, 5, 6]) / 10)
    parts = [found_by([], []), found_by([4], [])]
    assert both(lambda me: gather(parts[me]))[0][0].results.image.tolist() == [4]
