"""`transforms.resized_hw` and `transforms.resize` in JAX, in integers alone, equal to the bit.

Pillow's bilinear resize weighs the pixels under a triangle, in fixed point: first along the rows,
rounded to uint8, then along the columns. The weights are fractions of whole numbers, so they need
no float64, which accelerators lack or round otherwise.

Dimensions: n pixels before and m after, along one axis.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8

BITS = 22  # of the fixed-point weights: Pillow's PRECISION_BITS, 32 - 8 - 2
LARGEST = 32767  # px of a side, before: so that nothing overflows 32 bits

Size = Int[Array, ""]


def resized_hw(hw: Int[Array, "2"], short_side: int, long_side: int, rule: str) -> Int[Array, "2"]:
    """`transforms.resized_hw`, with sides of at most `LARGEST` px."""
    short, long = hw.min(), hw.max()
    if rule != "fcos":
        by_short = short_side * long <= long_side * short
        over, under = (
            jnp.where(by_short, a, b) for a, b in ((short_side, long_side), (short, long))
        )
        half = 0 if rule == "torchvision" else 1
        return jnp.maximum(_scaled(hw, over, under, half), 1)
    size = jnp.where(
        short_side * long > long_side * short, _rounded(long_side * short, long), short_side
    )
    other = jnp.where(size < 1, long_side, size * long // short)
    sides = jnp.stack([jnp.maximum(size, 1), other])
    resized = jnp.where(hw[0] <= hw[1], sides, sides[::-1])
    return jnp.where(size == short, hw, resized)


def _rounded(a: Size, b: Size) -> Size:
    """round(a / b), half to even."""
    twice, rest = 2 * (a // b), 2 * (a % b)
    up = (rest > b) | ((rest == b) & (twice // 2 % 2 == 1))
    return twice // 2 + up


def _scaled(length: Int[Array, "2"], over: Size, under: Size, half: int) -> Int[Array, "2"]:
    """int(length * (over / under) + half / 2) as float64 computes it, rounding twice.

    That is the exact result, but where the value before int() is a whole number: it comes out one
    lower if the quotient was rounded down by so much that the product is rounded down too.
    """
    exact = 2 * length * over + half * under
    result, whole = exact // (2 * under), exact % (2 * under) == 0
    exponent = _log2(over, under)
    # over / under = (q + rest / under) * 2**(exponent - 52), where q is whole and has 53 bits; it
    # is rounded to q if rest / under < 1/2.
    rest = jax.lax.fori_loop(0, 52 - exponent, lambda _, rest: 2 * rest % under, over % under)
    # The product is then too low by length * rest / under * 2**(exponent - 52), and is rounded down
    # if that is over half the spacing of float64 below it: 2**(top - 54), where `top` - 1 is its
    # own exponent; below a power of two, half of that.
    product = 2 * result - half  # times 2, where it counts
    top = 31 - jax.lax.clz(jnp.maximum(product, 1))
    shift = top - exponent - 2 - (product == 1 << top)
    lost = (length * rest) << jnp.maximum(-shift, 0)
    spacing = under << jnp.maximum(shift, 0)
    return result - (whole & (2 * rest < under) & (lost > spacing))


def _log2(over: Size, under: Size) -> Size:
    """The largest k with 2**k <= over / under."""
    k = jax.lax.clz(under) - jax.lax.clz(over)
    fits = jnp.where(
        k >= 0, over >= under << jnp.maximum(k, 0), over << jnp.maximum(-k, 0) >= under
    )
    return k - ~fits.astype(bool)


def resize(
    pixels: UInt8[Array, "h w 3"],
    from_hw: Int[Array, "2"],
    to_hw: Int[Array, "2"],
    canvas_hw: tuple[int, int],
    antialias: bool,
) -> UInt8[Array, "h2 w2 3"]:
    """The image in the top left corner of `pixels`, resized, in that of a canvas; the rest is 0.

    Args:
        pixels: the image, perhaps with padding below and on the right.
        from_hw: its height and width, at most `LARGEST`.
        to_hw: the height and width that it gets, at most the canvas's.
        canvas_hw: what is returned.
        antialias: whether an image that shrinks is smoothed; else two pixels an axis are mixed.
    """
    wide = _along(pixels.swapaxes(0, 1), from_hw[1], to_hw[1], canvas_hw[1], antialias)
    return _along(wide.swapaxes(0, 1), from_hw[0], to_hw[0], canvas_hw[0], antialias)


def _along(
    pixels: UInt8[Array, "n other 3"], n: Size, m: Size, slots: int, antialias: bool
) -> UInt8[Array, "slots other 3"]:
    """Resizes the first axis, of which n pixels are the image, to m of `slots`.

    In units of 1 / (2m) px, the output pixel x has its centre at (2x + 1)n, and the input pixel j
    at (2j + 1)m; the triangle reaches as far as the larger of n and m, times 2.
    """
    reach = 2 * (jnp.maximum(n, m) if antialias else m)
    centre = (2 * jnp.arange(slots, dtype=jnp.int32) + 1) * n
    first = jnp.maximum((centre - reach + m) // (2 * m), 0)
    taps = (2 * reach + 2 * m - 1) // (2 * m) + 1

    def weight(tap: Size) -> tuple[Int[Array, " slots"], Int[Array, " slots"]]:
        j = first + tap
        inside = (j < n) & (jnp.arange(slots) < m)
        weight = jnp.maximum(reach - jnp.abs((2 * j + 1) * m - centre), 0)
        return jnp.where(inside, weight, 0), jnp.minimum(j, n - 1)

    def add_weight(tap: Size, total: Int[Array, " slots"]) -> Int[Array, " slots"]:
        return total + weight(tap)[0]

    total = jax.lax.fori_loop(0, taps, add_weight, jnp.zeros(slots, jnp.int32))

    def add_pixels(tap: Size, sums: Int[Array, "slots other 3"]) -> Int[Array, "slots other 3"]:
        share, j = weight(tap)
        share = _fixed_point(share, jnp.maximum(total, 1))
        return sums + share[:, None, None] * pixels[j].astype(jnp.int32)

    start = jnp.full((slots, *pixels.shape[1:]), 1 << (BITS - 1), jnp.int32)
    sums = jax.lax.fori_loop(0, taps, add_pixels, start)
    return jnp.clip(sums >> BITS, 0, 255).astype(jnp.uint8)


def _fixed_point(part: Int[Array, " n"], whole: Int[Array, " n"]) -> Int[Array, " n"]:
    """The share of a part, at most 1, in units of 2**-BITS, rounded half up: by long division."""
    part, whole = part.astype(jnp.uint32), whole.astype(jnp.uint32)
    quotient, rest = part // whole, part % whole
    for _ in range(BITS):
        rest = 2 * rest
        bit = (rest >= whole).astype(jnp.uint32)
        quotient, rest = 2 * quotient + bit, rest - bit * whole
    return (quotient + (2 * rest >= whole)).astype(jnp.int32)
