"""This process's place in its job: joins the other processes, or is one alone on purpose."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import jax

from pse_jax.errors import ClusterError
from pse_jax.processes import cluster, coordination, link, peers, stopping

logger = logging.getLogger(__name__)

LATER = 15  # seconds: JAX, which names nobody and aborts, finds out after us
EXPLICIT = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
A_YEAR = 365 * 24 * 3600  # seconds
_hosts = 1


def join(
    *,
    single_process: bool = False,
    heartbeat: int = 100,
    shutdown_timeout: int = 300,
    join_timeout: int = 300,
) -> None:
    """Joins the other processes of this job; alone, forms a job of one.

    A job of one as well, because Orbax learns from JAX's coordination service that it is to stop:
    without it a preempted run dies with nothing saved. Must run before any device is touched.

    Args:
        single_process: a job of one, whatever the environment says.
        heartbeat: seconds of silence after which a process is taken for hung, and all end.
        shutdown_timeout: seconds that processes may end after each other.
        join_timeout: seconds that processes may start after each other.

    Raises:
        ClusterError: if there are other processes, by the environment, that cannot be joined.
    """
    if jax.distributed.is_initialized():
        return
    timeouts: dict[str, Any] = {
        "initialization_timeout": join_timeout + LATER,
        "heartbeat_timeout_seconds": heartbeat + LATER,
        "shutdown_timeout_seconds": shutdown_timeout + LATER,
    }
    with _impatient(join_timeout):
        if single_process or _alone():
            _form_job_of_one(timeouts)
        else:
            _join_job(timeouts)
    stopping.keep_handlers()  # JAX has put its own in place of SIGTERM's
    ours = coordination.state()
    if ours.num_processes > 1:
        _watch_peers(heartbeat, shutdown_timeout)
    global _hosts
    _hosts = _count_hosts()


def _alone() -> bool:
    """Whether the user says so: JAX_NUM_PROCESSES=1, and no address."""
    explicit = os.environ.get("JAX_COORDINATOR_ADDRESS")
    return not explicit and os.environ.get("JAX_NUM_PROCESSES", "").strip() == "1"


def _form_job_of_one(timeouts: dict[str, Any]) -> None:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    timeouts |= {"heartbeat_timeout_seconds": A_YEAR}  # a laptop that sleeps, or Ctrl-Z: not hung
    jax.distributed.initialize(address, 1, 0, cluster_detection_method="deactivate", **timeouts)


def _join_job(timeouts: dict[str, Any]) -> None:
    explicit = {f"JAX_{name}": os.environ.get(f"JAX_{name}", "").strip() for name in EXPLICIT}
    address, count, index = explicit.values()
    if address:
        if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
            said = ", ".join(f"{name} is {value or 'not set'}" for name, value in explicit.items())
            raise ClusterError(
                f"{said}: give all three to every process, PROCESS_ID from 0 to NUM_PROCESSES - 1; "
                "or none where a scheduler does it"
            )
        jax.distributed.initialize(address, int(count), int(index), **timeouts)
        return
    signs = cluster.signs(os.environ)
    try:
        jax.distributed.initialize(**timeouts)  # Slurm, MPI, Kubernetes, Cloud TPU: found by itself
    except Exception as error:  # whatever JAX's detection raises
        undetected = isinstance(error, ValueError) and "coordinator_address" in str(error)
        if signs or not undetected:
            raise _not_joined(signs, error) from error
        _form_job_of_one(timeouts)
    count = coordination.state().num_processes
    if count == 1 and any(sign.least > 1 for sign in signs):
        raise _not_joined(signs, "JAX has formed a job of one process")


def _not_joined(signs: list[cluster.Sign], why: Exception | str) -> ClusterError:
    """The variables that show other processes, what failed, and what to do."""
    first = " ".join(str(why).split())[:300]
    failed = first if isinstance(why, str) else f"jax.distributed.initialize: {first}"
    shown = " and ".join(f"{sign.variable}={sign.value}" for sign in signs)
    verb = "says" if len(signs) == 1 else "say"
    said = (
        f"{shown} {verb} that this job has other processes" if signs else "this may be one of many"
    )
    remedy = signs[0].remedy if signs else cluster.EXPLICIT
    return ClusterError(
        f"{said}, but they cannot be joined ({failed}): this one would train alone. Remedy: "
        f"{remedy}. To run as one process on purpose, add --single-process, or set "
        "JAX_NUM_PROCESSES=1"
    )


@contextlib.contextmanager
def _impatient(seconds: int) -> Iterator[None]:
    """Ends this process if it is not one of the job in time: JAX would abort it with a stack."""

    def give_up() -> None:
        ours = coordination.state()
        address = ours.coordinator_address or "an address that JAX has not found out yet"
        waits = "the others have not all come" if ours.process_id == 0 else "it does not answer"
        logger.error(
            "error: process %d of %d waited %d s (--join-timeout) for the job at %s: %s. Start all "
            "processes within that time, and see that this address is process 0's and that a "
            "firewall lets its port through",
            ours.process_id, ours.num_processes, seconds, address, waits,
        )  # fmt: skip
        link.exit_now(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _watch_peers(heartbeat: int, shutdown: int) -> None:
    """Each process learns from now on that another one ends early, or hangs."""
    ours = coordination.state()
    if ours.process_id == 0:
        ours.client.key_value_set("pse_jax/peers", peers.listen(heartbeat, shutdown))
    else:
        invitation = ours.client.blocking_key_value_get("pse_jax/peers", 60_000)
        address = ours.coordinator_address.rsplit(":", 1)[0].strip("[]")
        peers.join(ours.process_id, address, invitation, heartbeat, shutdown)


def _count_hosts() -> int:
    """How many there are; ClusterError if the devices belong to more processes than have joined."""
    joined, sharing = coordination.state().num_processes, jax.process_count()
    if joined != sharing:
        why = f"{joined} joined, but {sharing} share the devices"
        raise _not_joined(cluster.signs(os.environ), why)
    told = coordination.gather(socket.gethostname().encode(), "say the name of its host")
    return coordination.share(told and len(set(told)))


def description() -> str:
    """`2 processes on 1 host, 8 devices (cpu); this is process 0 on node0, with 4 of them`."""
    processes, devices = jax.process_count(), jax.device_count()
    parts = [
        f"{processes} process{'es' * (processes > 1)} on {_hosts} host{'s' * (_hosts > 1)}",
        f"{devices} device{'s' * (devices > 1)} ({jax.devices()[0].device_kind})",
    ]
    own = f"; this is process {jax.process_index()} on {socket.gethostname()}"
    own += f", with {jax.local_device_count()} of them"
    return ", ".join(parts) + (own if processes > 1 else "")
