"""A short run of every fuzzer; for as long as one likes, see tests/fuzz/harness.py."""

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import harness, json_readers, properties, unpickler

ROOT = Path(__file__).parent.parent.parent
SLOW = (properties.rows, properties.safetensors)


@pytest.mark.parametrize("fuzzer", [json_readers, unpickler], ids=lambda module: module.__name__)
def test_random_mutations_break_no_rule(fuzzer):
    assert harness.mutate(fuzzer.read, fuzzer.seeds(), fuzzer.WORDS, count=100) == 100


@pytest.mark.parametrize(
    "prop",
    [
        # Whole data sets and files of weights, which take long to make.
        pytest.param(prop, marks=[pytest.mark.slow] if prop in SLOW else [])
        for prop in properties.ALL
    ],
    ids=lambda prop: prop.__name__,
)
def test_generated_inputs_break_no_rule(prop):
    properties.run(prop, 3)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is an extra")
@pytest.mark.parametrize("name", ["json_readers", "unpickler"])
def test_inputs_guided_by_coverage_break_no_rule(name, tmp_path):
    command = [sys.executable, "-m", f"tests.fuzz.{name}", "--seconds", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "DONE" in done.stderr, done.stderr[-2000:]


def test_a_reader_that_breaks_a_rule_is_caught(tmp_path):
    memo = b"\x80\x02Nr\xff\xff\xff\x00."  # an index of 2^24: 256 MB, by Python's own reader
    with pytest.raises(harness.RuleBroken):
        harness.mutate(pickle.loads, [memo], [b"N."], count=1)

    def fragile(data):
        return data.decode()

    with pytest.raises(UnicodeDecodeError):
        harness.mutate(fragile, [b"abc"], [b"d"], count=10_000, out=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
