"""Where the time goes and when a run will be done, by a clock that the test moves."""

import json

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.runs.times import KINDS, read_times
from pse_jax.training.clock import WRITE_EVERY, Clock, Times


class Hand:
    """The hand of a clock: seconds since the start."""

    def __init__(self):
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def clock(hand):
    return Clock(hand)


def steps(clock, hand, count, seconds, waiting=0.0):
    """So many steps, each of them after having waited for its data."""
    for _ in range(count):
        with clock.during("data"):
            hand.at += waiting
        hand.at += seconds
        clock.finished()


def test_the_time_left_of_a_run_with_everything_in_it(clock, hand):
    """100 steps of 2 s, 0.5 s of them for data; three evaluations of 30 s; a start, a compile."""
    hand.at = 50
    clock.turn_to("step")
    with clock.during("compile"):
        hand.at += 40
    assert clock.left(100, {"evaluate": 3}) is None  # nobody knows
    steps(clock, hand, 1, 1.5, 0.5)
    assert clock.left(99, {"evaluate": 3}) == pytest.approx(198)  # how long they take is not known
    steps(clock, hand, 19, 1.5, 0.5)
    clock.close_window()
    assert clock.step_seconds == pytest.approx(2) and clock.data_share == pytest.approx(0.25)
    with clock.during("evaluate"):
        hand.at += 30
    assert clock.left(80, {"evaluate": 2}) == pytest.approx(160 + 60)
    assert clock.seconds == pytest.approx(
        {"start": 50, "compile": 40, "data": 10, "step": 30, "evaluate": 30, "save": 0}
    )


def test_the_rate_is_that_of_the_last_window_and_the_pace_that_of_the_last_ones(clock, hand):
    clock.turn_to("step")
    for seconds in (1.0, 1.0, 4.0):
        steps(clock, hand, 10, seconds)
        clock.close_window()
    assert clock.step_seconds == pytest.approx(4)
    assert clock.left(10, {}) == pytest.approx(20)
    for _ in range(10):  # of which no window says anything
        clock.close_window()
    assert clock.step_seconds == pytest.approx(4)
    for _ in range(10):
        steps(clock, hand, 10, 4.0)
        clock.close_window()
    assert clock.left(10, {}) == pytest.approx(40)  # the first ones are forgotten


def test_what_lies_in_the_middle_of_a_window_is_not_in_its_rate(clock, hand):
    clock.turn_to("step")
    steps(clock, hand, 5, 1.0)
    with clock.during("evaluate"):
        hand.at += 100
        with clock.during("save"):
            hand.at += 7
    steps(clock, hand, 5, 1.0)
    clock.close_window()
    assert clock.step_seconds == pytest.approx(1)
    assert clock.last["evaluate"] == pytest.approx(100) and clock.last["save"] == pytest.approx(7)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 10_000)), max_size=30))
def test_every_second_belongs_to_one_kind(spans):
    hand = Hand()
    clock, expected = Clock(hand), dict.fromkeys(KINDS, 0.0)
    for kind, seconds in spans:
        clock.turn_to(kind)
        hand.at += seconds
        expected[kind] += seconds
    clock.turn_to("start")
    assert clock.seconds == expected


def test_compiling_is_taken_from_what_it_happens_in():
    clock = Clock()
    with clock.hearing_of_compilers(), clock.during("evaluate"):
        began = clock.now()
        jax.jit(lambda x: x * 7.25 + 3)(1.5).block_until_ready()
        whole = clock.now() - began
    assert 0 < clock.seconds["compile"] < whole
    assert clock.last["evaluate"] <= whole - clock.seconds["compile"] + 0.01
    before = dict(clock.seconds)
    jax.jit(lambda x: x * 8.25 + 3)(1.5).block_until_ready()
    assert clock.seconds == before  # nobody listens any more


def test_the_file_keeps_every_session_and_their_sum(tmp_path, hand):
    path = tmp_path / "times.json"
    for start, seconds in ((0, 3.0), (10, 4.0)):
        clock = Clock(hand)
        times = Times(path, clock, start)
        clock.turn_to("step")
        hand.at += seconds
        times.write(start + 5)
        hand.at += WRITE_EVERY / 2
        times.write(start + 9)  # too soon
        times.write(start + 10, now=True)
    written = json.loads(path.read_text())
    assert [(s["from_step"], s["to_step"]) for s in written["sessions"]] == [(0, 10), (10, 20)]
    assert written["sessions"][0]["seconds"]["step"] == 3 + WRITE_EVERY / 2
    assert written["seconds"]["step"] == 7 + WRITE_EVERY and set(written["seconds"]) == set(KINDS)
    assert read_times(path) == written


def test_times_are_written_now_and_then_but_not_at_every_window(tmp_path, hand):
    path = tmp_path / "times.json"
    times = Times(path, Clock(hand), 0)
    times.write(1)
    hand.at += WRITE_EVERY - 1
    times.write(2)
    assert json.loads(path.read_text())["sessions"][0]["to_step"] == 1
    hand.at += 1
    times.write(3)
    assert json.loads(path.read_text())["sessions"][0]["to_step"] == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sessions": [{}]}', '{"sessions": 3}'])
def test_a_damaged_file_is_as_none(tmp_path, content):
    path = tmp_path / "times.json"
    path.write_text(content)
    assert read_times(path) == read_times(tmp_path / "none")
    assert read_times(path)["sessions"] == []


def test_times_that_cannot_be_written_end_no_run(tmp_path, hand, caplog):
    times = Times(tmp_path / "nowhere" / "times.json", Clock(hand), 0)
    times.write(1, now=True)
    times.write(2, now=True)
    assert caplog.text.count("the times of this run are not kept") == 1
