"""Devices and processes: one mesh with one axis, `data`; state replicated, batches split."""

import contextlib
import datetime
import itertools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pse_jax import peers, stopping
from pse_jax.errors import ProcessError, UserError

AGREEMENT_SECONDS = 3600  # that one process may open its data later than another
_exchanges = itertools.count()


def initialize() -> None:
    """Joins the other processes of this job; alone, forms a job of one.

    A job of one as well, because Orbax learns from JAX's coordination service that it is to stop:
    without it a preempted run dies with nothing saved. Must run before any device is touched.
    """
    if jax.distributed.is_initialized():
        return
    _initialize()
    stopping.keep_handlers()  # JAX has put its own in place of SIGTERM's
    if _coordination().num_processes > 1:
        _watch_peers()


def _initialize() -> None:
    if address := os.environ.get("JAX_COORDINATOR_ADDRESS"):
        count, index = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
        if count is None or index is None:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set, but JAX_NUM_PROCESSES or JAX_PROCESS_ID is not; "
                "give all three to every process, or none where a scheduler does it"
            )
        jax.distributed.initialize(address, int(count), int(index))
        return
    try:
        jax.distributed.initialize()  # Slurm, MPI, Kubernetes, Cloud TPU: found by itself
    except ValueError:
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=1, process_id=0)


def _coordination() -> Any:
    """JAX's view of this job, its `client` a store of keys and values; there is no public way."""
    from jax._src.distributed import global_state

    return global_state


def _watch_peers() -> None:
    """Each process learns from now on that another one ends early."""
    ours = _coordination()
    if ours.process_id == 0:
        ours.client.key_value_set("pse_jax/peers", peers.listen())
    else:
        invitation = ours.client.blocking_key_value_get("pse_jax/peers", 60_000)
        address = ours.coordinator_address.rsplit(":", 1)[0].strip("[]")
        peers.join(ours.process_id, address, invitation)


def stop_all() -> None:
    """Asks the training loops of all processes to save and stop, all after the same step.

    What JAX does itself on SIGTERM: `reached_preemption_sync_point` then agrees on the step.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat()
    store = _coordination().client
    if store is not None:
        store.key_value_set("RECEIVED_PREEMPTION_NOTICE", now, allow_overwrite=True)


def exchange(value: str) -> list[str]:
    """What every process gives, by their numbers; waits until all have. Needs no device.

    Raises:
        ProcessError: if one does not come.
    """
    store, name = _coordination().client, f"pse_jax/exchange/{next(_exchanges)}"
    store.key_value_set(f"{name}/{jax.process_index()}", value)
    values = []
    for process in range(jax.process_count()):
        try:
            values.append(
                store.blocking_key_value_get(f"{name}/{process}", AGREEMENT_SECONDS * 1000)
            )
        except jax.errors.JaxRuntimeError as error:
            raise ProcessError(
                f"process {process} has not opened its data after {AGREEMENT_SECONDS} s, though it "
                f"has not ended; its own output may say more ({error})"
            ) from error
    return values


def make_mesh() -> Mesh:
    """All devices of all processes, along `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Split along the first axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def local_rows(batch_size: int, parts: int = 1) -> slice:
    """The rows of a global batch that this process loads.

    Args:
        batch_size: images, over all processes.
        parts: in which they pass the network.

    Raises:
        UserError: if the batch, or a part of it, does not divide evenly among the devices.
    """
    devices = jax.device_count()
    if batch_size % (devices * parts):
        near = max(batch_size // (devices * parts), 1) * devices * parts
        divided, whole = f" in {parts} parts" * (parts > 1), batch_size // parts
        raise UserError(
            f"a batch of {batch_size} images{divided} does not divide among {devices} devices; "
            f"try {near}, or a number of devices that divides {whole}"
        )
    rows = batch_size // jax.process_count()
    return slice(jax.process_index() * rows, (jax.process_index() + 1) * rows)


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows as part of one global array per key."""
    sharding = split(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }


def to_every_device(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays, the same on every process, whole on every device."""
    same = replicated(mesh)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(same, leaf), tree)


def fetch(tree: Any) -> Any:
    """A tree of global arrays as NumPy arrays, whole, on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def from_main(compute: Callable[[], Any], like: Any) -> Any:
    """What `compute` returns on the main process, on every process; it runs there alone.

    Args:
        compute: gives a tree of arrays.
        like: a tree of arrays of the same structure, shapes and types, for the other processes.

    Raises:
        UserError: on every process, if `compute` raises it on the main one.
    """
    if jax.process_count() == 1:
        return compute()
    result, error = like, None
    if is_main():
        try:
            result = compute()
        except UserError as caught:
            error = caught
    failed = multihost_utils.broadcast_one_to_all(np.int32(error is not None))
    if error is not None:
        raise error
    if failed:
        raise ProcessError("the main process cannot continue; its messages say why")
    return multihost_utils.broadcast_one_to_all(result)


def on_main(action: Callable[[], object]) -> None:
    """Runs an action on the main process alone; its UserError is raised on every process."""

    def done() -> np.int32:
        action()
        return np.int32(0)

    from_main(done, like=np.int32(0))


def is_main() -> bool:
    """Whether this is the process that writes files."""
    return jax.process_index() == 0


def use_compilation_cache(folder: Path) -> None:
    """Keeps compiled programs on disk: a second start takes seconds instead of minutes."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
