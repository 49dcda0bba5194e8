"""All rows of one GPU within a time budget: training, an epoch from files, latency, throughput.

    python benchmarks/gpu.py [--peer-python PATH] [--budget 480] [--out FOLDER]

Runs train_step.py and inference.py with one setting of the peer at a time, and end_to_end.py, the
most important first; the table comes last. Each is a process with a time limit of its own; what a
cut-off one had written to its JSON file is kept, and a row for which no time is left is reported as
such. To try it on a CPU:
--size 128x160 --train-batch 2 --detect-batch 2 --epoch-steps 4 --dtype float32
--settings default channels_last.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETTINGS = ("bf16+channels_last+compile", "bf16+channels_last", "default")  # best first
LEAST = 20.0  # seconds under which nothing is started


def plan(options: argparse.Namespace) -> dict[str, list[str]]:
    """Name and command of each run, the most important first."""
    # Our program of a size is compiled once, by the first run that needs it.
    ours = ["--dtype", options.dtype, "--cache", str(options.out / "cache")]
    shared = [*ours, "--size", options.size, "--peer-python", options.peer_python]
    work = {
        "train": ["train_step.py", "--batch", str(options.train_batch)],
        "latency": ["inference.py", "--batches", "1"],
        "throughput": ["inference.py", "--batches", str(options.detect_batch)],
    }
    best, *others = (
        {f"{name}-{setting}": [*c, *shared, "--settings", setting] for name, c in work.items()}
        for setting in options.settings
    )
    short = min(map(int, options.size.split("x")))
    epoch = ["end_to_end.py", "--batch", str(options.train_batch), "--short-side", str(short)]
    epoch += ["--steps", str(options.epoch_steps), *ours]
    return {**best, "epoch": epoch, **{k: c for rest in others for k, c in rest.items()}}


def run(command: list[str], seconds: float) -> str:
    """Runs a script of this folder; returns "" or what went wrong."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / command[0]), *command[1:]], start_new_session=True
    )
    try:
        status = process.wait(seconds)
        return f"ended with status {status}" if status else ""
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it ends its sides, also those in sessions of their own
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        return f"cut off after {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def table(results: dict[str, dict[str, Any]]) -> str:
    """Every row of every run, or why there is none; then the hardware and the versions."""
    head = (
        f"{'question':24}{'side':40}{'ms':>9}{'img/s':>8}{'TFLOP/s':>9}{'of peak':>9}{'ratio':>7}"
    )
    lines = [head]
    facts: dict[str, Any] = {}
    peak = max((result.get("peak_tflops") or 0.0 for result in results.values()), default=0.0)
    for name, result in results.items():
        facts |= {
            key: value
            for key, value in result.items()
            if isinstance(value, str) and key not in ("command", "note")
        }
        for row in result.get("rows", ()):
            start = f"{row['question']:24}{row['side']:40}"
            if row["ms"] is None:
                lines.append(f"{start}  {row['note']}")
                continue
            ratio = f"{row['ratio']:7.2f}" if row["ratio"] else ""
            share = row["tflops"] / peak if peak else 0.0
            lines.append(
                f"{start}{row['ms']:9.2f}{row['images_per_s']:8.1f}{row['tflops']:9.1f}"
                f"{share:9.1%}{ratio:7}  {row['note']}".rstrip()
            )
        if result["note"]:
            lines.append(f"{name}: {result['note']}")
    lines += [f"measured peak: {peak:.1f} TFLOP/s; ratio: peer's time over ours"]
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in facts.items())])


def main() -> None:
    """Runs what the budget allows and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=sys.executable, help="that has torchvision")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds, for everything")
    parser.add_argument("--row-limit", type=float, default=200.0, help="seconds of one run")
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder of the JSON")
    parser.add_argument("--size", default="800x1344")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--train-batch", type=int, default=16)
    parser.add_argument("--detect-batch", type=int, default=16)
    parser.add_argument("--epoch-steps", type=int, default=40, help="of end_to_end.py")
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end, results = time.monotonic() + options.budget, {}
    for name, command in plan(options).items():
        path = options.out / f"{name}.json"
        path.unlink(missing_ok=True)
        left = min(end - time.monotonic(), options.row_limit)
        began = time.monotonic()
        enough = left >= min(LEAST, options.row_limit)
        note = run([*command, "--json", str(path)], left) if enough else "no time was left for it"
        content = json.loads(path.read_text()) if path.exists() else {}
        results[name] = {**content, "note": note}
        print(f"{name}: {time.monotonic() - began:.0f} s {note}", flush=True)
        (options.out / "all.json").write_text(json.dumps(results, indent=2))
    print(table(results))


if __name__ == "__main__":
    main()
