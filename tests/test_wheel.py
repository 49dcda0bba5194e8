"""What `pip install` of a built wheel gives: every module, and the configurations."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pse_jax", "configs", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"
FAIL = "error: --config.optimizer.stepz=2: config.optimizer has no field 'stepz'"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as setuptools writes beside its sources."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skip)
        else:
            shutil.copy(ROOT / name, folder / name)
    command = [sys.executable, "-c", BUILD]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
    (file,) = (folder / "dist").glob("pse_jax-*.whl")
    return file


def test_a_wheel_holds_every_module_and_every_configuration(wheel):
    expected = {str(file.relative_to(ROOT)) for file in (ROOT / "pse_jax").rglob("*.py")}
    pages = ("base.html", "compare.html", "page.html", "parts.html", "run.html", "style.css")
    expected |= {f"pse_jax/report/{name}" for name in pages}
    expected |= {f"pse_jax/configs/{file.name}" for file in (ROOT / "configs").glob("*.py")}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_an_installed_wheel_trains_by_the_name_of_a_configuration(wheel, tmp_path):
    """As far as the flags: an error about a field comes after the configuration was found."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    words = ["-m", "pse_jax", "train", "--config", "shapes_small", "--config.optimizer.stepz=2"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *words], timeout=60, **options)
    assert done.returncode == 2 and done.stderr.startswith(FAIL)
    where = [sys.executable, "-c", "import pse_jax; print(pse_jax.__file__)"]
    assert subprocess.run(where, timeout=60, **options).stdout.startswith(str(site))
