"""Devices and processes: one mesh with one axis, `data`; state replicated, batches split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pse_jax.errors import ProcessError, UserError
from pse_jax.processes import peers


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
    """This process's rows as part of one global array per key; counts as a batch that it begins."""
    peers.begin_batch()
    sharding = split(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }


def to_every_device(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays, the same on every process, whole on every device."""
    same = replicated(mesh)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(same, leaf), tree)


def own_rows(tree: Any) -> Any:
    """The rows, of arrays that are split, that are on this process's devices, as NumPy arrays."""

    def rows(array: jax.Array) -> np.ndarray:
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.asarray(shard.data) for shard in shards])

    return jax.tree.map(rows, tree)


def own_copy(tree: Any) -> Any:
    """Arrays that are whole on every device, as NumPy arrays; no other process is asked."""
    return jax.tree.map(
        lambda x: np.asarray(x.addressable_data(0) if isinstance(x, jax.Array) else x), tree
    )


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
