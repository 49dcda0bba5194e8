"""What all tests stand on: eight CPU devices, compiled programs on disk, stable hypothesis."""

import logging
import os
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import settings

# Before anything asks for a device.
jax.config.update("jax_num_cpu_devices", 8)

settings.register_profile("stable", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("stable")


# Most of the time of these tests is compiling, theirs and that of the commands that they start.
COMPILE_FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def pytest_configure(config):
    if "not slow" in config.option.markexpr:  # what is slow computes more than it compiles
        os.environ.setdefault("XLA_FLAGS", COMPILE_FAST)
    cache = getattr(config, "cache", None)  # absent with `-p no:cacheprovider`
    if cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(cache.mkdir("xla")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def log_of_its_own():
    """A command that an earlier test ran sends the log to standard error alone; pytest hears it."""
    logging.getLogger("pse_jax").propagate = True


@pytest.fixture(autouse=True)
def nothing_left_traced():
    """Left on by one test, tracemalloc makes every later one of its process many times slower."""
    before = tracemalloc.is_tracing()
    yield
    assert tracemalloc.is_tracing() == before, "this test leaves tracemalloc on"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def one_device_mesh():
    from jax.sharding import AxisType

    devices = jax.devices()[:1]
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
