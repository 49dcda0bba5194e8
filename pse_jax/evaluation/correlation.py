"""How well scores follow IoUs: the three coefficients of the paper's Table II, by SciPy."""

import numpy as np

from pse_jax.evaluation.arrays import Floats

COEFFICIENTS = ("PCC", "SCC", "KCC")
FEWEST = 10  # detections: a correlation of fewer says little, and reports mark it


def correlations(scores: Floats, ious: Floats) -> dict[str, float]:
    """Pearson's r (PCC), Spearman's rho (SCC) and Kendall's tau-b (KCC) of scores and IoUs.

    All three are NaN where they are undefined: fewer than two points, or constant scores or IoUs.
    """
    if len(scores) != len(ious):
        raise ValueError(f"{len(scores)} scores and {len(ious)} IoUs; there must be one for one")
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(ious) == 0:
        return dict.fromkeys(COEFFICIENTS, float("nan"))
    from scipy import stats  # slow to import: training starts without it

    with np.errstate(all="ignore"):
        return {
            "PCC": float(stats.pearsonr(scores, ious).statistic),  # pyright: ignore
            "SCC": float(stats.spearmanr(scores, ious).statistic),  # pyright: ignore
            "KCC": float(stats.kendalltau(scores, ious).statistic),  # pyright: ignore
        }
