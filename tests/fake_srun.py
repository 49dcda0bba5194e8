"""`srun` for tests: starts the tasks of a step on this machine, with the variables of Slurm.

SLURM_NTASKS of them; task I writes to DIR/I.log, and its process id is in DIR/I.pid, DIR being
$FAKE_SRUN. What srun itself would do with its own flags is not done.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    words = sys.argv[1:]
    while words[0].startswith("--"):
        words = words[1:]
    folder, count = Path(os.environ["FAKE_SRUN"]), int(os.environ["SLURM_NTASKS"])
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}
    tasks = []
    for index in range(count):
        own = {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index), "SLURM_NODEID": "0"}
        own["SLURM_STEP_NUM_TASKS"] = str(count)
        with (folder / f"{index}.log").open("wb") as log:
            task = subprocess.Popen(
                words, env=os.environ | step | own, stdout=log, stderr=subprocess.STDOUT
            )
        (folder / f"{index}.pid").write_text(str(task.pid))
        tasks.append(task)
    signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
    return max(task.wait() for task in tasks)


if __name__ == "__main__":
    sys.exit(main())
