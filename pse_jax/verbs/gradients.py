"""Compares `jax.grad` with Eq. (10) and (11) of the paper, the latter corrected and as printed.

--config.loss.beta=2 and the like set α, β and k; γ is 0, for which the equations hold.
Exit status: 0 if `jax.grad` and the corrected equation agree, 1 if not.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pse_jax.config import Config, LossConfig
from pse_jax.config_checks import override
from pse_jax.experiments import gradients
from pse_jax.experiments.landscape import IOUS, pull, stationary_scores
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("gradients", __doc__)
    flags.add_overrides(parser)
    parser.add_argument("--points", type=int, default=99, help="grid points per axis")
    options = flags.parse(parser, argv)
    c = override(Config(), options.overrides).loss
    loss = LossConfig(focal_alpha=c.focal_alpha, focal_gamma=0.0, beta=c.beta, k=c.k)
    found = gradients.compare(loss, options.points)
    rows = (
        ("jax.grad of Eq. (4)", found.focal_autodiff, "Eq. (10)", found.eq10),
        ("jax.grad of Eq. (9)", found.autodiff, "Eq. (11), corrected", found.corrected),
        ("jax.grad of Eq. (9)", found.autodiff, "finite differences", found.finite_difference),
        ("Eq. (11), corrected", found.corrected, "finite differences", found.finite_difference),
        ("jax.grad of Eq. (9)", found.autodiff, "Eq. (11) as printed", found.printed),
    )
    print(
        f"alpha={c.focal_alpha:g} beta={c.beta:g} k={c.k:g} gamma=0, float64, "
        f"{options.points} x {options.points} scores and IoUs; largest absolute differences:"
    )
    for one, a, other, b in rows:
        print(f"  {one}  vs  {other:<22} {np.abs(a - b).max():.1e}")

    score, iou = 1 / (1 + np.exp(-0.7)), 0.4
    auto = float(pull(np.array([score]), iou, loss)[0])
    corrected, printed = (
        f(score, iou, loss) for f in (gradients.corrected_gradient, gradients.printed_gradient)
    )
    print("\nat o = 0.7, IoU = 0.4:")
    print(
        f"  jax.grad {auto:+.4f}   Eq. (11) corrected {corrected:+.4f}   as printed {printed:+.4f}"
    )

    print("\nwhere the score of a positive settles (zero of jax.grad):")
    print("  IoU       " + "".join(f"{v:8.1f}" for v in IOUS))
    for gamma in (0.0, 2.0):
        row = stationary_scores(np.array(IOUS), dataclasses.replace(loss, focal_gamma=gamma))
        print(f"  gamma={gamma:g}   " + "".join(f"{v:8.3f}" for v in row))
    agrees = np.abs(found.autodiff - found.corrected).max() < 1e-6
    print(f"\n{'agrees' if agrees else 'DISAGREES'}: jax.grad and the corrected Eq. (11), to 1e-6")
    return 0 if agrees else 1
