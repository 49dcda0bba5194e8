"""Training keeps report.html up to date, and nothing about it ends or slows down a run."""

import contextlib
import dataclasses
import json
import logging
import types
from pathlib import Path
from unittest import mock

import pytest
import tiny_run
from object_store import served

from pse_jax import addresses, distributed
from pse_jax.__main__ import main
from pse_jax.config import Config
from pse_jax.data.dataset import Dataset
from pse_jax.errors import WriteError
from pse_jax.runs import report
from pse_jax.runs.folder import Run
from pse_jax.training import run_page
from pse_jax.training.loop import train
from pse_jax.training.reporting import Reporter
from pse_jax.training.run_page import RunPage
from tests.report import made_run


@pytest.mark.slow
def test_training_keeps_the_page(tmp_path, monkeypatch, caplog):
    """After every evaluation and at the end; a run that resumes keeps its curves."""
    monkeypatch.setattr(run_page, "SHARE", 1.0)
    config = tiny_run.config(tmp_path / "cache", report=True, eval_every=2)
    config.inference.score_threshold = 0.0  # an untrained detector finds something
    config.train.tensorboard = True
    config.optimizer.steps = 4
    shorter = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer))
    with caplog.at_level(logging.INFO):
        train(shorter, tmp_path / "run")
        assert caplog.text.count("made report.html in") == 2
        config.optimizer.steps = 6
        train(config, tmp_path / "run")
    assert caplog.text.count("made report.html in") == 3
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'class="missing"' not in page and page.count("<img alt=") > 20
    rows = page.split('<section id="curves">')[1].split("</section>")[0]
    assert [f"<td>{step}</td>" in rows for step in (2, 4, 6, 8)] == [True, True, True, False]
    assert "step 6 of 6, finished" in page
    events = b"".join(file.read_bytes() for file in (tmp_path / "run" / "tensorboard").iterdir())
    for kind in ("best", "typical", "worst"):
        assert events.count(f"eval/detections_{kind}".encode()) == 3
    job = json.loads((tmp_path / "run" / "job.json").read_text())
    assert job["versions"]["jax"] and "device" in job["devices"] and job["command"]
    assert job["processor"] and "commit" in job


def page_of(**fields):
    """The page of a run of 100 steps, with fields of its `train`; nothing is trained."""
    reporter = mock.Mock(spec=Reporter)
    reporter.config = Config()
    reporter.config.train = dataclasses.replace(reporter.config.train, **fields)
    reporter.total, reporter.times = 100, None
    reporter.writer = types.SimpleNamespace(board=None)
    reporter.doing = lambda kind: contextlib.nullcontext()
    return RunPage(mock.Mock(spec=Run), reporter, *(mock.Mock(spec=Dataset) for _ in range(2)))


@pytest.fixture
def made(monkeypatch):
    """Counts the pages; each takes 10 seconds of a clock that the test turns."""
    state = types.SimpleNamespace(now=0.0, pages=[], error=None)

    def write(run, **data):
        state.now += 10.0
        if state.error:
            raise state.error
        state.pages.append(state.now)
        return report.Written(Path("report.html"), [], {}, 10.0)

    monkeypatch.setattr(report, "write", write)
    monkeypatch.setattr(report, "note_job", lambda *a: None)
    monkeypatch.setattr(run_page, "time", types.SimpleNamespace(perf_counter=lambda: state.now))
    return state


def test_pages_take_a_share_of_the_time_and_one_is_made_at_the_end(made):
    page = page_of()
    for step in range(1, 101):
        made.now += 20.0
        page.after_evaluation(step)
    assert made.pages[0] == 30.0  # the first at once
    assert 10.0 * len(made.pages) <= 10.0 + run_page.SHARE * made.now
    assert len(made.pages) > 5
    before = len(made.pages)
    page.at_end(100)
    assert len(made.pages) == before + 1


def test_the_last_evaluation_leaves_the_page_to_the_end(made):
    page_of().after_evaluation(100)
    assert made.pages == []


@pytest.mark.parametrize("error", [MemoryError(), WriteError("the disk is full"), KeyError("x")])
def test_what_fails_is_logged_and_ends_nothing(made, caplog, error):
    made.error = error
    page_of().at_end(100)
    assert "the report of this run could not be made; training continues" in caplog.text
    assert type(error).__name__ in caplog.text


def test_it_can_be_turned_off_and_only_the_main_process_makes_it(made, monkeypatch):
    page_of(report=False).at_end(100)
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    page_of().at_end(100)
    assert made.pages == []


def test_the_page_of_a_run_at_an_address(tmp_path, capsys):
    run, address = made_run.make(tmp_path / "made"), "gs://bucket/runs/a"
    with served(tmp_path / "store") as store:
        for file in run.iterdir():
            store._file(f"{address}/{file.name}").write_bytes(file.read_bytes())
        assert main(["report", "--workdir", address]) == 0
        page = addresses.read(addresses.place(address) / "report.html").decode()
    out = capsys.readouterr().out
    assert "wrote gs://bucket/runs/a/report.html" in out
    assert 'class="missing"' not in page and page.count('<img alt="Ground truth') == 9
    assert "--workdir gs://bucket/runs/a" in page
