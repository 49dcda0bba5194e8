"""What the environment says of other processes of this job: never a silent job of one.

JAX finds its peers under Slurm, Open MPI, Kubernetes and on Cloud TPUs. Where it does not, though a
launcher has started several processes, each would train alone, all into the same folder.
"""

import dataclasses
from collections.abc import Mapping

# The number of processes, by launcher: Open MPI; MPICH and Intel MPI; MVAPICH2; Flux; jsrun.
MPI = (
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "FLUX_JOB_SIZE",
    "JSM_NAMESPACE_SIZE",
)
COUNTS = ("JAX_NUM_PROCESSES", "WORLD_SIZE", "MEGASCALE_NUM_SLICES")  # ours; torchrun; TPU slices
LISTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")  # with commas between
NUMBERS = ("TPU_WORKER_ID", "CLOUD_TPU_TASK_ID", "PMIX_RANK")  # of this process, from 0

EXPLICIT = (
    "give every process JAX_COORDINATOR_ADDRESS=HOST:PORT (HOST is that of process 0, PORT any "
    "that is free), JAX_NUM_PROCESSES and JAX_PROCESS_ID (docs/pods.md)"
)


@dataclasses.dataclass(frozen=True)
class Sign:
    """A variable that shows other processes."""

    variable: str
    value: str
    least: int  # processes that there must be
    remedy: str = EXPLICIT


def signs(environ: Mapping[str, str]) -> list[Sign]:
    """Every sign of more than one process; empty where this one seems to be alone.

    Args:
        environ: `os.environ`.
    """
    found = _counted(environ, (*COUNTS, *MPI))
    found += [Sign(v, environ[v], environ[v].count(",") + 1) for v in LISTS if v in environ]
    found += [Sign(v, environ[v], _number(environ, v) + 1) for v in NUMBERS if v in environ]
    if not any(variable in environ for variable in MPI):
        found += _slurm(environ)
    found = [sign for sign in found if sign.least > 1]
    if (index := "JOB_COMPLETION_INDEX") in environ:  # an indexed Job has as a rule several pods
        found.append(Sign(index, environ[index], _number(environ, index) + 1))
    return found


def _slurm(environ: Mapping[str, str]) -> list[Sign]:
    """Of a step, which `srun` starts, its tasks; without it, what the job was given."""
    if "SLURM_STEP_NODELIST" in environ:
        tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
        return _counted(environ, (tasks,))
    variables = ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    remedy = "start it with srun, which starts one process a task (docs/pods.md)"
    return [dataclasses.replace(s, remedy=remedy) for s in _counted(environ, variables)]


def _counted(environ: Mapping[str, str], variables: tuple[str, ...]) -> list[Sign]:
    return [Sign(v, environ[v], _number(environ, v)) for v in variables if v in environ]


def _number(environ: Mapping[str, str], variable: str) -> int:
    """0 for what is no number: whoever set it meant something else."""
    value = environ[variable].strip()
    return int(value) if value.isdecimal() else 0
