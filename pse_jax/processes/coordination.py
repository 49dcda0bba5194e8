"""Words between the processes of a job, through JAX's coordination service: no device takes part.

What one process says here waits in the memory of process 0 until it is read; a process that has
said its own goes on at once. All processes must call these functions in the same order.
"""

import datetime
import itertools
import json
from typing import Any

import jax

from pse_jax.errors import ProcessError

PATIENCE = 3600  # seconds that one process may be later than another
_numbers = itertools.count()


def state() -> Any:
    """JAX's view of this job, its `client` a store of keys and values; there is no public way."""
    from jax._src.distributed import global_state

    return global_state


def stop_all() -> None:
    """Asks the training loops of all processes to save and stop, all after the same step.

    What JAX does itself on SIGTERM: `reached_preemption_sync_point` then agrees on the step.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat()
    store = state().client
    if store is not None:
        store.key_value_set("RECEIVED_PREEMPTION_NOTICE", now, allow_overwrite=True)


def gather(value: bytes, doing: str) -> list[bytes] | None:
    """What every process gives, by their numbers, on process 0; None, at once, on the others.

    Args:
        value: of this process.
        doing: what the others do before they say theirs, for the message: "open the data".

    Raises:
        ProcessError: on process 0, if one does not come though it has not ended.
    """
    ours, name = state(), f"pse_jax/gather/{next(_numbers)}"
    if ours.num_processes <= 1:
        return [value]
    if ours.process_id != 0:
        ours.client.key_value_set_bytes(f"{name}/{ours.process_id}", value)
        return None
    values = [value]
    for process in range(1, ours.num_processes):
        key = f"{name}/{process}"
        try:
            values.append(ours.client.blocking_key_value_get_bytes(key, PATIENCE * 1000))
        except jax.errors.JaxRuntimeError as error:
            raise ProcessError(
                f"process {process} did not {doing} within {PATIENCE} s, though it has not ended; "
                f"its own output may say more ({error})"
            ) from error
        ours.client.key_value_delete(key)
    return values


def share(value: Any) -> Any:
    """What process 0 gives, on every process; it may take any time to come.

    Args:
        value: which JSON can hold; of the others it does not count.
    """
    ours, key = state(), f"pse_jax/share/{next(_numbers)}"
    if ours.num_processes <= 1:
        return value
    if ours.process_id == 0:
        ours.client.key_value_set(key, json.dumps(value))
        return value
    while True:
        try:
            return json.loads(ours.client.blocking_key_value_get(key, PATIENCE * 1000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
