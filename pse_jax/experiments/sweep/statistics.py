"""Mean, standard deviation and confidence interval over seeds, of values and paired differences."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of the defined values; NaN where there are too few: one has no deviation and no interval."""

    count: int
    mean: float
    deviation: float  # with Bessel's correction
    low: float  # mean ± t·s/√n, Student's t of n - 1 degrees of freedom
    high: float


def estimate(values: Mapping[int, float]) -> Estimate:
    """Over the seeds (keys) at which the value is defined."""
    numbers = np.array([value for value in values.values() if not math.isnan(value)], np.float64)
    n = len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    deviation = float(numbers.std(ddof=1)) if n > 1 else math.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * deviation / math.sqrt(n)) if n else 0.0
    return Estimate(n, mean, deviation, mean - half, mean + half)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """`ours` - `theirs` over the seeds that both have: the interval of the paired t-test.

    The same seed gives both the same initial weights and the same batches, so that their
    difference varies less than either.
    """
    return estimate({seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs)})
