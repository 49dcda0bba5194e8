"""Association by correlation, over all positives of the global batch: 1 - ρ(p̂, Î).

Section III-C of the paper names the first, Pearson's, and leaves it; Kahraman et al., "Correlation
Loss" (AAAI 2023), add the other two. The IoU is a constant to all three: the gradient goes to the
classification branch alone, their best setting. Each is one number per batch and already a mean: it
is not divided by the number of positives. Only masked sums enter, so neither padding nor the number
of devices changes it.

It is 0, with a gradient of 0, where there is nothing to correlate: fewer than two positives, or no
spread. A correlation does not change with the scale of the scores, so its gradient grows as their
spread falls; below `SMALLEST_SPREAD` it is scaled down and grows no more. The values stay exact.
Dimensions: `*n` locations, of which `positive` count.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Values = Float[Array, "*n"]  # elementwise, of any shape
Mask = Bool[Array, "*n"]

SMALLEST_VARIANCE = 1e-12  # of what counts as spread; float32 rounds a constant to less than this
SMALLEST_SPREAD = 0.01  # of scores or ranks, a standard deviation: the gradient is cut below it
RANK_CELLS = 32  # of the unit interval, for soft ranks: closer values are partly tied


def pearson_loss(
    score: Values, iou: Values, positive: Mask, *, beta: float = 1.0
) -> Float[Array, ""]:
    """β (1 - PCC), PCC = cov(p̂, Î) / (σ_p̂ σ_Î): the correlation loss of section III-C.

    Stationary wherever the scores are a rising linear function of the IoUs, whichever it is. The
    gradient by the N scores has the norm β √(1 - PCC²) / (σ_p̂ √N); with `SMALLEST_SPREAD` for σ_p̂
    where that is smaller.
    """
    moments = _moments(score, jax.lax.stop_gradient(iou), positive)
    return beta * _one_minus_pcc(moments)


def concordance_loss(
    score: Values, iou: Values, positive: Mask, *, beta: float = 1.0, k: float = 1.0
) -> Float[Array, ""]:
    """β (1 - CCC), CCC = 2 cov(p̂, kÎ) / (σ²_p̂ + σ²_kÎ + (μ_p̂ - μ_kÎ)²), of Lin (1989).

    Unlike the others it is least at p̂ = kÎ alone, not on any rising line. The spread that bounds
    its gradient is the square root of the denominator.
    """
    count, gap, var_p, var_q, cov = _moments(score, k * jax.lax.stop_gradient(iou), positive)
    apart = var_p + var_q + jnp.square(gap)
    usable = (count >= 2) & (apart > SMALLEST_VARIANCE)
    ccc = 2 * cov / jnp.where(usable, apart, 1.0)
    return beta * _limited(jnp.where(usable, 1.0 - ccc, 0.0), apart)


def spearman_loss(
    score: Values, iou: Values, positive: Mask, *, beta: float = 1.0
) -> Float[Array, ""]:
    """β (1 - SCC), the Pearson correlation of the soft ranks of p̂ and of Î (see `soft_rank`)."""
    of_score = soft_rank(score, positive)
    of_iou = soft_rank(jax.lax.stop_gradient(iou), positive)
    return beta * _one_minus_pcc(_moments(of_score, of_iou, positive))


def soft_rank(values: Values, positive: Mask, *, cells: int = RANK_CELLS) -> Values:
    """The share of positives that lie below each value, in [0, 1]; ties count half.

    r_i = (1/N) Σ_j Σ_ab φ_a(v_i) S_ab φ_b(v_j), where φ_a are the hat functions on a grid of
    `cells` equal cells of [0, 1] (v spread linearly over its two grid points) and S_ab is 1 for
    a > b, 1/2 for a = b, 0 else. This is a soft comparison of every pair, as wide as a cell, but it
    costs n · cells and not n²: the sum over j is a histogram. No positive is left out, nothing is
    sorted, and over devices only the histogram is summed. Values in different cells and on the grid
    get exactly their rank; those within one cell, ranks linear in v. The gradient of a rank is the
    number of positives around: a score that stands alone in its cell and the next is not moved.

    Args:
        values: in [0, 1]; what lies outside is moved to the end.
        positive: which values count; the others get a rank too, but influence none.
        cells: more are sharper.
    """
    grid = jnp.arange(cells + 1, dtype=values.dtype)

    @jax.checkpoint  # the hats, n times cells, are computed again rather than kept
    def ranks(values: Values) -> Values:
        hats = jnp.maximum(0.0, 1.0 - jnp.abs(values[..., None] * cells - grid))  # [*n, cells + 1]
        everyone = tuple(range(values.ndim))
        histogram = jnp.where(positive[..., None], hats, 0.0).sum(axis=everyone)
        below = jnp.cumsum(histogram) - histogram / 2
        return (hats * below).sum(axis=-1) / jnp.maximum(histogram.sum(), 1.0)

    return ranks(jnp.clip(values, 0.0, 1.0))


def _moments(p: Values, q: Values, positive: Mask) -> tuple[Array, Array, Array, Array, Array]:
    """Count, difference of means, both variances and the covariance, of the positives."""
    count = positive.sum(dtype=p.dtype)

    def mean(values: Values) -> Float[Array, ""]:
        return jnp.where(positive, values, 0.0).sum() / jnp.maximum(count, 1.0)

    mean_p, mean_q = mean(p), mean(q)
    p, q = p - mean_p, q - mean_q
    return count, mean_p - mean_q, mean(jnp.square(p)), mean(jnp.square(q)), mean(p * q)


def _one_minus_pcc(moments: tuple[Array, Array, Array, Array, Array]) -> Float[Array, ""]:
    count, _, var_p, var_q, cov = moments
    usable = (count >= 2) & (var_p > SMALLEST_VARIANCE) & (var_q > SMALLEST_VARIANCE)
    spread = jnp.sqrt(jnp.where(usable, var_p * var_q, 1.0))
    return _limited(jnp.where(usable, 1.0 - cov / spread, 0.0), var_p)


def _limited(loss: Float[Array, ""], variance: Float[Array, ""]) -> Float[Array, ""]:
    """The loss, with its gradient times σ / `SMALLEST_SPREAD` where σ = √variance is smaller."""
    value, variance = jax.lax.stop_gradient((loss, variance))
    share = jnp.minimum(jnp.sqrt(variance) / SMALLEST_SPREAD, 1.0)
    return value + share * (loss - value)
