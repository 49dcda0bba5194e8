"""Which environments show other processes, and what joining them says when it fails."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pse_jax.errors import UserError
from pse_jax.processes.cluster import signs
from pse_jax.verbs import flags

ROOT = Path(__file__).parents[1]
STEP = {"SLURM_STEP_NODELIST": "n[1-4]", "SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(
    "environ, shown",
    [
        ({}, {}),
        # Slurm: a step's own tasks count; a batch script without srun, what the job was given.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {}),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, {"SLURM_NTASKS": 4}),
        ({"SLURM_JOB_NUM_NODES": "2"}, {"SLURM_JOB_NUM_NODES": 2}),
        (STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, {}),
        (STEP | {"SLURM_NTASKS": "4"}, {"SLURM_NTASKS": 4}),
        (STEP | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}, {"SLURM_STEP_NUM_TASKS": 8}),
        # mpirun within an allocation of Slurm: mpirun knows better.
        ({"SLURM_NTASKS": "4", "OMPI_COMM_WORLD_SIZE": "1"}, {}),
        ({"SLURM_NTASKS": "4", "PMI_SIZE": "2"}, {"PMI_SIZE": 2}),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {"OMPI_COMM_WORLD_SIZE": 2}),
        ({"PMIX_RANK": "3"}, {"PMIX_RANK": 4}),
        ({"PMIX_RANK": "0"}, {}),
        ({"WORLD_SIZE": "2", "RANK": "0"}, {"WORLD_SIZE": 2}),
        ({"WORLD_SIZE": "all of it"}, {}),
        ({"JAX_NUM_PROCESSES": "2"}, {"JAX_NUM_PROCESSES": 2}),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c"}, {"TPU_WORKER_HOSTNAMES": 3}),
        ({"TPU_PROCESS_ADDRESSES": "a:8476,b:8476"}, {"TPU_PROCESS_ADDRESSES": 2}),
        ({"MEGASCALE_NUM_SLICES": "2"}, {"MEGASCALE_NUM_SLICES": 2}),
        ({"CLOUD_TPU_TASK_ID": "1"}, {"CLOUD_TPU_TASK_ID": 2}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}),  # a notebook, say
        # How many pods an indexed Job has is not said; the first may be alone, and has to say so.
        ({"JOB_COMPLETION_INDEX": "0"}, {"JOB_COMPLETION_INDEX": 1}),
        ({"JOB_COMPLETION_INDEX": "2"}, {"JOB_COMPLETION_INDEX": 3}),
    ],
)  # fmt: skip
def test_what_shows_other_processes(environ, shown):
    assert {sign.variable: sign.least for sign in signs(environ)} == shown
    assert all(sign.value == environ[sign.variable] and sign.remedy for sign in signs(environ))


PROGRAM = """
import json, sys
from pse_jax.processes import job
from pse_jax.errors import UserError
from pse_jax.progress import show_log
show_log()
try:
    job.join(**json.loads(sys.argv[1]))
    print(job.description())
except UserError as error:
    print("error:", error)
"""


def join(options="{}", **environment):
    """What a process says that joins its job under these variables: it imports JAX, no more."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, options],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_job_of_one_where_there_are_others_is_an_error_with_both_remedies():
    said = join(SLURM_NTASKS="4", SLURM_JOB_ID="7").stdout
    assert said.startswith("error: SLURM_NTASKS=4 says that this job has other processes, but ")
    assert "(jax.distributed.initialize: coordinator_address should be defined.)" in said
    assert "start it with srun" in said and "add --single-process" in said
    alone = "1 process on 1 host, 2 devices (cpu)\n"
    assert join('{"single_process": true}', SLURM_NTASKS="4").stdout == alone


def test_a_coordinator_that_does_not_answer_is_an_error_that_names_it():
    """JAX itself would abort with a stack of C++."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    explicit = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    done = join('{"join_timeout": 2}', **explicit, JAX_PROCESS_ID="1")
    assert done.returncode == 2 and "Check failure" not in done.stderr
    assert re.search(
        rf"error: process 1 of 2 waited 2 s \(--join-timeout\) for the job at {address}: it does "
        "not answer", done.stderr,
    )  # fmt: skip


def test_the_flags_are_seconds():
    parser = flags.parser("x", None)
    flags.add_processes(parser)
    options = flags.parse(parser, ["--heartbeat=20", "--single-process"])
    assert flags.processes(options) == {
        "heartbeat": 20, "shutdown_timeout": 300, "join_timeout": 300, "single_process": True,
    }  # fmt: skip
    for wrong in ("0", "-5", "1m", "2.5"):
        with pytest.raises(UserError, match=r"heartbeat: '.*' is not a number of seconds, 1 or mo"):
            flags.parse(parser, [f"--heartbeat={wrong}"])


def test_the_kubernetes_file_gives_every_pod_what_it_needs():
    """What the API server would say is not tested; that its numbers and names agree is."""
    service, jobs = yaml.safe_load_all((ROOT / "docs" / "kubernetes.yaml").read_text())
    spec, name = jobs["spec"], jobs["metadata"]["name"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    environment = {variable["name"]: variable for variable in container["env"]}
    count = int(environment["JAX_NUM_PROCESSES"]["value"])
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == count
    host, port = environment["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    assert host == f"{name}-0.{pod['subdomain']}" and port.isdecimal()
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    index = environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert (ROOT / container["command"][1]).is_file()
    assert (ROOT / container["args"][0].removeprefix("--config=")).is_file()
