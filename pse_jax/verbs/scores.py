"""`--threshold`: the lowest score that is shown, for every verb that shows detections."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pse_jax.errors import UserError
from pse_jax.verbs import flags

if TYPE_CHECKING:
    from pse_jax.detector import Detector


def add_threshold(parser: flags.Parser) -> None:
    """`--threshold T`."""
    text = "lowest score, or best: of each class the one of best F1, which the evaluation saved; "
    text += "by default best where it is known, else 0.3"
    parser.add_argument("--threshold", type=_threshold, metavar="T", help=text)


def _threshold(text: str) -> float | str:
    if text == "best":
        return text
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a score from 0 to 1 nor best")
    return value


def thresholds(
    detector: "Detector", asked: float | str | None, source: str
) -> tuple[Mapping[int, float], str]:
    """The lowest score of each category id, and where it comes from."""
    from pse_jax.detections import THRESHOLD

    if asked == "best" and detector.thresholds is None:
        raise UserError(
            f"--threshold best: no evaluation of {source} at step {detector.step} has saved "
            "thresholds; evaluate it with `python -m pse_jax eval`, or give a number"
        )
    if isinstance(asked, float) or detector.thresholds is None:
        value = asked if isinstance(asked, float) else THRESHOLD
        of_all = dict.fromkeys(detector.categories.ids, value)
        why = "" if isinstance(asked, float) else " (no evaluation has saved better ones)"
        return of_all, f"{value:g} for every class{why}"
    best = detector.best_thresholds
    pairs = zip(detector.categories.names, best.values(), strict=True)
    listed = ", ".join(f"{name} {value:.2f}" for name, value in list(pairs)[:8])
    more = ", ..." if len(best) > 8 else ""
    return best, f"best F1 of each class in the evaluation of step {detector.step}: {listed}{more}"
