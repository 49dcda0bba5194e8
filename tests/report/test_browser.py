"""Every report in a real browser, wide and narrow: `pytest -n 0 tests/report/test_browser.py`.

Needs Chromium, and nothing from the network. To look at a page oneself:
`python -m tests.report.chromium PAGE.html FOLDER`.
"""

import pytest

from pse_jax.__main__ import main
from tests.report import made_run
from tests.report.chromium import PROGRAM, Chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
MISSING = """[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.clientWidth)
  .map(i => i.alt)"""
# Where WIDTH is that of the window.
TOO_WIDE = """[...document.querySelectorAll("main *")].filter(one =>
  one.getBoundingClientRect().right > WIDTH + 1 && !one.closest(".wide")).map(one =>
  one.tagName + " " + one.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    run = made_run.make(tmp_path_factory.mktemp("made"))
    assert main(["report", "--workdir", str(run)]) == 0
    files = ["--annotations", str(run.parent / "instances.json")]
    files += ["--detections", str(run / "detections_40.json")]
    assert main(["analyze", *files, "--images", str(run.parent / "images")]) == 0
    more = [str(run / "detections_20.json"), "--labels", "last", "first", "--resamples", "20"]
    assert main(["analyze", *files, *more]) == 0
    return {
        "run": run / "report.html",
        "analyze": run / "analysis" / "report.html",
        "compare": run / "comparison" / "report.html",
    }


# Of each page, the pictures at least.
PICTURES = {"run": 30, "analyze": 6, "compare": 2}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", PICTURES)
def test_a_report_in_a_browser(pages, browser, name, width):
    browser.open(pages[name], width)
    assert browser.run("document.images.length") >= PICTURES[name]
    assert browser.run(MISSING) == []
    # The page never scrolls sideways: tables that are wide do so in their own boxes.
    assert browser.run(TOO_WIDE.replace("WIDTH", str(width))) == []
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.complaints() == []
    assert browser.requests() == []


def test_tables_are_sorted_and_pictures_enlarged_by_a_click(pages, browser):
    browser.open(pages["run"], 1280)
    column = """[...document.querySelectorAll("#labels tbody tr")].map(row =>
      Number(row.cells[1].textContent))"""
    click = 'document.querySelectorAll("#labels th.sort")[1].click()'
    first = browser.run(column)
    browser.run(click)
    assert browser.run(column) == sorted(first, reverse=True)
    browser.run(click)
    assert browser.run(column) == sorted(first)
    width = 'document.querySelector(".pairs img").clientWidth'
    before = browser.run(width)
    browser.run('document.querySelector(".pairs figure").click()')
    assert browser.run(width) > 1.5 * before
    assert browser.complaints() == []


def test_the_checks_see_what_is_wrong(browser, tmp_path):
    """Without this, a silent browser would pass everything."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<!doctype html><main><img alt='gone' src='data:image/png;base64,AA'>"
        "<div style='width: 700px'>wide</div><img src='https://example.invalid/a.png'></main>"
        "<script>console.error('oh'); missing()</script>"
    )
    browser.open(page, 400)
    assert "gone" in browser.run(MISSING)
    assert browser.run("document.documentElement.scrollWidth") > 400
    assert any(text.startswith("DIV") for text in browser.run(TOO_WIDE.replace("WIDTH", "400")))
    assert len(browser.complaints()) >= 2
    assert browser.requests() == ["https://example.invalid/a.png"]
