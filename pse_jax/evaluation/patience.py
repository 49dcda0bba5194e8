"""When a run stops early: a function of its evaluations, which its folder keeps."""

from collections.abc import Sequence

Evaluation = tuple[int, float]  # step; AP in [0, 1], 0 where there is none


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The first evaluation with the highest AP."""
    return max(evaluations, key=lambda one: (one[1], -one[0]))


def exhausted(evaluations: Sequence[Evaluation], patience: int) -> bool:
    """Whether the last `patience` evaluations brought no better AP; 0 waits for ever."""
    if not patience or not evaluations:
        return False
    when = best(evaluations)[0]
    return sum(step > when for step, _ in evaluations) >= patience
