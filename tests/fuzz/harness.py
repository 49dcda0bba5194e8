"""What the fuzzers share: atheris where it is installed, random mutations elsewhere, and the rules.

The rules: nothing but a UserError comes out of a reader, and reading an input never takes more than
64 MB plus twice its size. That is measured by tracemalloc, which sees what Python and NumPy
allocate, also where it is never touched.

    pip install -e ".[test,fuzz]"
    python -m tests.fuzz.json_readers --seconds 600
    python -m tests.fuzz.unpickler --seconds 600

Inputs that break a rule are written to the folder that --out names (default: the current one).
"""

import argparse
import atexit
import random
import shutil
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

from pse_jax.errors import UserError

SPARE = 64 << 20  # bytes
LONGEST = 1 << 16  # bytes of an input


def scratch():
    """A folder for inputs, in memory where there is one: files are written thousands of times."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class RuleBroken(Exception):
    """A reader took too much memory."""


def guarded(read):
    """The function that feeds an input to a reader and raises if it breaks a rule."""

    def check(data):
        tracemalloc.start()
        try:
            read(data)
        except UserError as error:
            str(error).encode()  # it can be printed anywhere
        finally:  # left on, it would slow down all that the process does afterwards
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        if peak > SPARE + 2 * len(data):
            raise RuleBroken(f"{peak:,} bytes for an input of {len(data):,}")

    return check


def mutations(seeds, words, rng):
    """Endless inputs: seeds with bytes changed, parts cut, repeated, crossed and words put in."""
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(1 << rng.randrange(4)):
            at = rng.randrange(len(data) + 1)
            end = min(len(data), at + 1 + int(rng.expovariate(0.1)))
            kind = rng.randrange(6)
            if kind == 0 and data:
                data[at % len(data)] = rng.randrange(256)
            elif kind == 1:
                del data[at:end]
            elif kind == 2:
                data[at:at] = data[at:end] * rng.choice((1, 2, 50))
            elif kind == 3:
                data[at:at] = rng.choice(words)
            elif kind == 4:
                data[at:end] = rng.choice(words)
            else:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                data[at:end] = other[start : start + rng.randrange(40)]
        yield bytes(data[:LONGEST])


def mutate(read, seeds, words, *, seconds=1e9, count=10**9, seed=0, out=None):
    """Feeds seeds and mutations of them to a reader; returns how many."""
    check, rng, started, done = guarded(read), random.Random(seed), time.monotonic(), 0
    for data in (*seeds, *words):
        check(data)
    for data in mutations(seeds, words, rng):
        if done >= count or time.monotonic() - started > seconds:
            return done
        try:
            check(data)
        except Exception:
            if out is not None:
                (out / f"crash-{done}").write_bytes(data)
            raise
        done += 1


def main(read, seeds, words):
    """The command line of a fuzzer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: random mutations, not guided by coverage")
        count = mutate(read, seeds, words, seconds=options.seconds, seed=options.seed,
                       out=options.out)  # fmt: skip
        print(f"{count:,} inputs, no rule broken")
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus, dictionary = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for index, data in enumerate(seeds):
            (corpus / f"{index}").write_bytes(data)
        lines = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
        dictionary.write_text("".join(f'"{line}"\n' for line in lines))
        flags = [
            f"-max_total_time={options.seconds}",
            f"-seed={options.seed}",
            f"-max_len={LONGEST}",
            f"-dict={dictionary}",
            f"-artifact_prefix={options.out}/",
            "-timeout=60",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *flags, str(corpus)], guarded(read))
        atheris.Fuzz()


def instrumented():
    """The context in which what is imported reports its coverage, if atheris is installed."""
    try:
        import atheris
    except ImportError:
        import contextlib

        return contextlib.nullcontext()
    return atheris.instrument_imports(include=["pse_jax", "json"])
