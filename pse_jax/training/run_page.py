"""Keeps the run's report.html up to date while it trains."""

import logging
import time

from pse_jax import distributed
from pse_jax.data.dataset import Dataset
from pse_jax.processes import job
from pse_jax.runs.folder import Run
from pse_jax.training.reporting import Reporter

logger = logging.getLogger(__name__)

SHARE = 0.05  # of a run's time that its page may take, before its end


class RunPage:
    """Makes the page after an evaluation and at the end, on the main process; the others go on.

    What fails is logged and never ends a run. Where evaluations follow each other so fast that the
    page would take more than `SHARE` of the time, it waits for a later one.
    """

    def __init__(self, run: Run, report: Reporter, train_set: Dataset, val_set: Dataset):
        self.run, self.report = run, report
        self.train_set, self.val_set = train_set, val_set
        self.began, self.spent = time.perf_counter(), 0.0

    def after_evaluation(self, step: int) -> None:
        """Makes the page if there is time for it; not after the last step, which `at_end` does."""
        so_far = time.perf_counter() - self.began
        if step < self.report.total and self.spent <= SHARE * so_far:
            self._make(step)

    def at_end(self, step: int) -> None:
        """Makes the page."""
        self._make(step)

    def _make(self, step: int) -> None:
        if not self.report.config.train.report or not distributed.is_main():
            return
        began = time.perf_counter()
        with self.report.doing("evaluate"):
            try:
                self._write(step)
            except Exception as error:
                text = "the report of this run could not be made; training continues: %s: %s"
                logger.error(text, type(error).__name__, error)
                logger.debug("", exc_info=error)
        self.spent += time.perf_counter() - began

    def _write(self, step: int) -> None:
        from pse_jax.report.showcase import sheets  # slow imports: matplotlib
        from pse_jax.runs import report

        if self.report.times:
            self.report.times.write(step, now=True)
        report.note_job(self.run, job.description())
        written = report.write(self.run, train_set=self.train_set, val_set=self.val_set)
        if self.report.writer.board is not None:
            for kind, png in sheets(written.shown).items():
                self.report.writer.add_image(step, f"eval/detections_{kind}", png)
        logger.info("made %s in %.1f s", written.page.name, written.seconds)
