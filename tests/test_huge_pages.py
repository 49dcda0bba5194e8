"""Huge pages: a program starts itself again, once, as the same process and with the same words."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTING = "glibc.malloc.hugetlb"

PROGRAM = """
import os, sys
print("start", os.getpid())
from pse_jax.processes import huge_pages
sys.stdout.flush()
huge_pages.use()
print("end", os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.flags.optimize)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def lines_of(tmp_path, tunables=None):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(ROOT)
    if tunables is not None:
        environment["GLIBC_TUNABLES"] = tunables
    command = [sys.executable, "-O", str(file), "a b", "--c=*"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_starts_again_once_as_the_same_process(tmp_path):
    first, again, end = lines_of(tmp_path)
    assert first == again
    assert end == f"end {first.split()[1]} {SETTING}=1 ['a b', '--c=*'] 1"


def test_keeps_other_settings(tmp_path):
    other = "glibc.malloc.arena_max=4"
    assert f" {other}:{SETTING}=1 " in lines_of(tmp_path, other)[-1]


def test_leaves_a_setting_of_the_user_alone(tmp_path):
    started, end = lines_of(tmp_path, f"{SETTING}=0")
    assert started.startswith("start") and f" {SETTING}=0 " in end
