"""One evaluation: predict, score, write, print; of a data set, or of a run."""

import json
import logging
import re
import time
import zlib
from pathlib import Path
from typing import Any

from pse_jax import distributed, progress
from pse_jax.addresses import named
from pse_jax.config import Config
from pse_jax.data.dataset import Dataset
from pse_jax.detector import Detector
from pse_jax.evaluation.arrays import nan_to_none
from pse_jax.evaluation.oracles import score
from pse_jax.files import make_folder, write_together, write_whole
from pse_jax.processes import coordination, job
from pse_jax.report import tables
from pse_jax.runs.agreement import check_agreement
from pse_jax.runs.checkpoint import find
from pse_jax.runs.folder import Run, changes, detections_file, numbers_file
from pse_jax.runs.load import load_run, open_val
from pse_jax.runs.predict import gather, predict

logger = logging.getLogger(__name__)

# Fields that change nothing of what an evaluation finds.
NO_MATTER = ("name", "train.", "optimizer.", "data.cache_dir", "data.threads", "data.prefetch",
             "data.cache_gb", "data.jitter", "data.repeat_threshold")  # fmt: skip


def evaluate(detector: Detector, dataset: Dataset, out: Path) -> dict[str, Any] | None:
    """Evaluates, logs a table and writes OUT/eval_STEP.json and OUT/detections_STEP.json.

    Args:
        detector: what to evaluate, as its configuration says.
        dataset: what to evaluate it on; of the same categories.
        out: an existing folder.

    Returns:
        COCO's numbers, correlations, the ranking oracle's AP in [0, 1], counts; None where there is
        no number. On the main process alone, which scores; the others get None, and may go on.

    Raises:
        WriteError: if a file cannot be written; then neither is.
    """
    started = time.perf_counter()
    predicted = gather(predict(detector, dataset))
    predicting = time.perf_counter() - started
    if predicted is None:
        logger.info("step %d is looked at; the main process scores it", detector.step)
        return None
    if predicted.images != len(dataset):
        raise AssertionError(f"{predicted.images} of {len(dataset)} images were looked at")
    logger.info("scoring %d detections", len(predicted.results.scores))
    numbers = nan_to_none(score(dataset, predicted.results))
    numbers = {"step": detector.step, **numbers, "unreadable_images": predicted.unreadable}
    if dataset.note:
        numbers["note"] = dataset.note
    if predicted.unreadable:
        logger.warning(
            "%d images could not be read and count as images without detections: ids %s",
            len(predicted.unreadable),
            predicted.unreadable[:20],
        )
    detections = json.dumps(predicted.results.to_coco(dataset))
    contents: dict[Path, str | bytes] = {
        detections_file(out, detector.step): detections,
        numbers_file(out, detector.step): json.dumps(numbers, indent=2) + "\n",
    }
    write_together(contents, f"the evaluation of step {detector.step}")
    logger.info(
        "evaluated %d images in %s (%s of them predicting)\n%s",
        len(dataset),
        progress.duration(time.perf_counter() - started),
        progress.duration(predicting),
        tables.evaluation(numbers),
    )
    return numbers


def evaluate_run(
    run: Run, config: Config, checkpoint: str, out: Path | None = None
) -> dict[str, Any]:
    """Evaluates a checkpoint of a run on the validation data; returns its numbers everywhere.

    Where the configuration is the run's and the checkpoint its newest, the run's own files are
    written. Everything else goes to a folder of its own, beside evaluation.json, which says what
    was evaluated.

    Args:
        run: where the checkpoint is.
        config: the run's, or with other values.
        checkpoint: "best", "latest", or a step's number.
        out: the folder to write to, whatever it is that is evaluated.

    Raises:
        UserError: if there is no such checkpoint, its categories are not those of the data, or the
            files cannot be written.
    """
    distributed.local_rows(config.inference.batch_size)  # or fail before anything is read
    detector = load_run(run, checkpoint, config)
    dataset = open_val(detector)
    check_agreement(config, {"validation data": dataset}, command="eval", step=detector.step)
    changed = changes(run.config(), config, but=NO_MATTER)
    newest = find(run, "latest")[1]
    folder = out or run.folder
    if out is None and (changed or detector.step != newest):
        folder = run.evaluations / _name(detector.step, changed)

    def make() -> None:
        make_folder(folder, "the folder of an evaluation")
        if folder != run.folder:
            content = {
                "run": named(str(run.folder.absolute())),
                "step": detector.step,
                "data": dataset.source,
                "changed": {path: {"run": a, "here": b} for path, (a, b) in changed.items()},
            }
            text = json.dumps(content, indent=2) + "\n"
            write_whole(folder / "evaluation.json", text, "what is evaluated")

    distributed.on_main(make)
    run.fetch_file(folder / "eval.log")
    with progress.log_to(folder / "eval.log" if distributed.is_main() else None):
        what = "".join(f", config.{path}={b}" for path, (_, b) in changed.items())
        logger.info(job.description())
        logger.info("evaluating step %d of %d%s, into %s", detector.step, newest, what, folder)
        numbers = coordination.share(evaluate(detector, dataset, folder))
    run.publish()
    return numbers


def _name(step: int, changed: dict[str, tuple[Any, Any]]) -> str:
    """`step_6-inference.nms_threshold=0.5`: a folder's name for what is evaluated."""
    parts = [f"step_{step}", *(f"{path}={value}" for path, (_, value) in changed.items())]
    name = re.sub(r"[^\w.=,+-]+", "_", "-".join(parts))
    if len(name) > 120:  # file systems have limits
        name = f"{name[:120]}-{zlib.crc32(name.encode()):08x}"
    return name
