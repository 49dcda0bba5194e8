"""What people see: steps count when they are computed, by a device and a clock of the test's."""

import contextlib
import logging
import re
from unittest.mock import Mock

import jax.numpy as jnp
import numpy as np
import pytest

from pse_jax import progress
from pse_jax.data.dataset import Dataset
from pse_jax.data.plan import TrainPlan
from pse_jax.runs.folder import Run
from pse_jax.training import reporting
from pse_jax.training.callbacks import Callbacks
from pse_jax.training.clock import Clock
from pse_jax.training.programs import Programs, shape_of
from pse_jax.training.reporting import AHEAD, Reporter
from tests import tiny_run
from tests.training.test_clock import Hand

SHAPES = [(64, 96), (96, 64), (64, 64)]
NAMES = ("loss", "cls", "box", "assoc", "quality", "positives", "grad_norm", "finite", "bad_steps")


class Device:
    """Computes steps of 2 s, one after the other, whether or not someone waits."""

    def __init__(self, hand):
        self.hand, self.free = hand, 0.0

    def dispatch(self):
        self.free = max(self.free, self.hand.at) + 2
        names = (*NAMES, "skipped", "unreadable")
        return dict.fromkeys(names, jnp.float32(1)) | {"done": jnp.float32(self.free)}

    def is_ready(self, metrics):
        return metrics["done"] <= self.hand.at

    def wait(self, metrics):
        self.hand.at = max(self.hand.at, float(metrics["done"]))


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def device(hand, monkeypatch):
    device = Device(hand)
    monkeypatch.setattr(reporting, "_is_ready", device.is_ready)
    monkeypatch.setattr(reporting.jax, "block_until_ready", device.wait)
    return device


@pytest.fixture
def report(hand, device, tmp_path):
    config = tiny_run.config(tmp_path, log_every=10, checkpoint_every=1000)
    config.optimizer.steps = 100
    dataset, plan = Mock(spec=Dataset), Mock(spec=TrainPlan, shapes_hw=SHAPES)
    report = Reporter(config, Run(tmp_path), dataset, plan, 0, [], Clock(hand), Callbacks())
    with contextlib.closing(report):
        yield report


def batch(shape):
    return {"image": np.zeros((2, *shape, 3), np.uint8)}


def take(report, device, steps, waiting=0.0):
    """Steps as the loop takes them; the time left that was shown after each."""
    shown = []
    for step in steps:
        with report.clock.during("data"):
            device.hand.at += waiting
        report.step(step, device.dispatch())
        shown.append((report.done, report._shown()))
    return shown


def test_a_step_that_is_only_dispatched_does_not_count(report, device):
    report.clock.turn_to("step")
    for step in (1, 2):
        report.step(step, device.dispatch())
    assert report.done == 0 and device.hand.at == 0  # and nobody has waited
    report.step(3, device.dispatch())
    assert report.done == 1 and device.hand.at == 2
    report.step(4, device.dispatch())
    assert report.done == 4 - AHEAD
    device.hand.at = 100.0  # a pause in which the device has finished all
    report.step(5, device.dispatch())
    assert report.done == 4


def test_the_time_left_is_right_from_the_first_steps_on(report, device):
    """2 s a step, 200 s in all: never off by more than the two steps that are under way."""
    report.clock.turn_to("step")
    shown = take(report, device, range(1, 101))
    assert report.done == 100
    for done, text in shown[2:]:
        minutes, seconds = re.search(r"eta (?:(\d+)m)?(\d+)s", text).groups()
        assert int(minutes or 0) * 60 + int(seconds) == 2 * (100 - done)
    assert "4 img/s" in shown[50][1]  # 8 images in 2 s


def test_the_line_says_rate_and_share_of_the_last_window(report, device, caplog):
    logging.getLogger("pse_jax").propagate = True
    report.clock.turn_to("step")
    with caplog.at_level(logging.INFO, "pse_jax"):
        take(report, device, range(1, 11))
        take(report, device, range(11, 21), waiting=8.0)  # the device waits, too
    first, second = (r.getMessage() for r in caplog.records if "step " in r.getMessage())
    assert first.startswith("step 10/100 (10.0%) eta 3m00s loss 1.0000 cls 1.0000 box 1.0000 ")
    assert first.endswith("img/s 4.0 data 0ms (0%)")
    assert second.startswith("step 20/100 (20.0%) eta ")
    # 10 waits of 8 s in which the device works; 2 s after the last one.
    assert second.endswith("img/s 1.0 data 8000ms (98%)")


class Compiled(Programs):
    """Programs of which some are ready."""

    def __init__(self, ready):
        self.ready, self.seconds = ready, {}

    def is_ready(self, batch):
        return shape_of(batch) in self.ready

    @property
    def last_seconds(self):
        return next(reversed(self.seconds.values()), None)

    def cost(self, batch):
        return "8.1 GFLOP a step"


def test_compiling_is_said_with_the_time_of_the_last_one(report, hand, caplog):
    logging.getLogger("pse_jax").propagate = True
    programs = Compiled(ready={(64, 64)})
    with caplog.at_level(logging.INFO, "pse_jax"):
        for shape, seconds in ((64, 96), 12.0), ((64, 96), 0.0), ((96, 64), 30.0), ((64, 64), 0.0):
            with report.compiling(batch(shape), programs):
                hand.at += seconds
                programs.seconds.setdefault(shape, seconds or 20.0)
    assert [record.getMessage() for record in caplog.records] == [
        "compiling 1 of 3: the step for 96x64 images",
        "compiled 1 of 3 in 12s: 8.1 GFLOP a step",
        "compiling 2 of 3 (about 12s): the step for 64x96 images",
        "compiled 2 of 3 in 30s: 8.1 GFLOP a step",
        "compiled 3 of 3 in 20s: 8.1 GFLOP a step",  # meanwhile
    ]
    assert report.clock.seconds["compile"] == 42


def test_the_text_behind_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(progress._Standard, "isatty", lambda _: True, raising=False)
    bar = progress.bar(100, "train", initial=7, own_text=True)
    bar.set_postfix_str("eta 3m07s, 41 img/s, data 2%, loss 1.234")
    bar.close()
    shown = capsys.readouterr().err
    assert "train:   7%|" in shown and "7/100 [00:00, eta 3m07s, 41 img/s, data 2%, loss" in shown
    assert "it/s" not in shown
