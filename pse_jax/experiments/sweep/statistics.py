"""Means, intervals and tests over seeds, of values and of paired differences."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
FLIPS = 2**16  # of signs, at most: with 16 pairs or fewer, all of them


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
    return estimate(pairs(ours, theirs))


def pairs(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    """`ours` - `theirs` by seed, where both are defined."""
    both = {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs)}
    return {seed: value for seed, value in both.items() if not math.isnan(value)}


def t_test(differences: Sequence[float]) -> float:
    """The p value of the paired t-test, two-sided; NaN without two pairs that differ."""
    e = estimate(dict(enumerate(differences)))
    if e.count < 2 or e.deviation == 0.0:
        return math.nan
    return float(2 * stats.t.sf(abs(e.mean) / e.deviation * math.sqrt(e.count), e.count - 1))


def sign_flips(differences: Sequence[float]) -> float:
    """The p value of the paired permutation test, two-sided: any distribution will do.

    If a pair could as well have come out the other way round, every choice of signs is as likely:
    the share of choices whose mean lies at least as far from 0. It cannot be under 2 / 2^n. Exact
    up to 16 pairs; beyond, from `FLIPS` choices at random. NaN with fewer than two pairs.
    """
    if len(differences) < 2:
        return math.nan
    found = stats.permutation_test(
        (np.asarray(differences),),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        n_resamples=FLIPS,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Corrects p values for their number (Holm, 1979): under 0.05, all together err once in 20.

    The smallest times n, the next times n - 1, and so on, never falling. NaN are not counted.
    """
    order = sorted((i for i, p in enumerate(values) if not math.isnan(p)), key=values.__getitem__)
    corrected, highest = [math.nan] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = highest
    return corrected
