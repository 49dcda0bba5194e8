"""Copies what a run writes to its address: in the background, and at its end."""

import logging
import threading
import time
from collections.abc import Callable

from pse_jax.errors import UserError
from pse_jax.runs.remote import mirror
from pse_jax.runs.remote.mirror import Mirror

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # at the end of a run
PAUSE = 5.0  # seconds between them


class Publisher:
    """Copies what a run writes every few seconds, in a thread, and at its end.

    Args:
        of: the run's copy.
        check: raises LockError if the folder is another process's by now.
    """

    def __init__(self, of: Mirror, check: Callable[[], None]):
        self.mirror, self.check = of, check
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while not self.ended.wait(mirror.EVERY):
            try:
                self.now()
            except UserError as error:  # the loop finds the same when it next looks at its lock
                logger.error("%s", error)
                return

    def now(self) -> bool:
        """Copies what there is; whether it was possible."""
        self.check()
        return self.mirror.try_push()

    def close(self, failed: bool) -> None:
        """Ends the thread and copies what is left.

        Args:
            failed: the run ends by an error, which is not to be hidden by another.

        Raises:
            WriteError: if that is not possible; says where it is kept.
        """
        self.ended.set()
        self.thread.join()
        for left in reversed(range(ATTEMPTS)):
            try:
                self.check()
                return self.mirror.push(checkpoints=True)
            except UserError:
                if failed:  # it says the same, or matters more
                    return None
                raise
            except OSError as error:
                if not left:
                    kept = self.mirror.kept(error)
                    if not failed:
                        raise kept from error
                    logger.error("%s", kept)
                    return None
            time.sleep(PAUSE)
