"""Fig. 3: the loss of one positive over its score and IoU, its gradient, and where it settles."""

import dataclasses
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from matplotlib.colors import PowerNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from pse_jax.config import LossConfig
from pse_jax.errors import ConfigError
from pse_jax.experiments import landscape
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS
from pse_jax.report import style

Curve = Float[np.ndarray, " i"]  # a score for each of `IOUS`
IOUS = np.linspace(0.0, 1.0, 201)  # of the curves
LOWEST = 0.001  # score and IoU, as in the paper
WEIGHTS = (0.25, 1.0)  # β of the paper's panels
# The losses that a single positive has, and what the figures call them.
FAMILY = landscape.family(LossConfig())
NAMES = {name: (ASSOCIATIONS | CLASSIFICATIONS)[name].label for name in FAMILY}
SCORE, IOU = r"score $\hat{p}$", r"IoU $\hat{I}$"


@dataclasses.dataclass(frozen=True)
class Surface:
    """A loss on a grid, [scores, IoUs]; the gradient is that by the logit, with its sign."""

    scores: Float[np.ndarray, " s"]
    ious: Float[np.ndarray, " i"]
    loss: Float[np.ndarray, "s i"]
    gradient: Float[np.ndarray, "s i"]


def loss_of(name: str) -> LossConfig:
    """A loss of the table by its name, with α = 0.25, γ = 2, k = 1 and β = 1.

    Raises:
        ConfigError: if there is none that a single positive has.
    """
    if name not in NAMES:
        raise ConfigError(f"no loss {name!r} to draw; there are {', '.join(NAMES)}")
    return FAMILY[name]


def surface(loss: LossConfig, points: int = 120) -> Surface:
    """Loss and gradient at scores from 0.001 to 0.999 and IoUs from 0.001 to 1, in float64.

    The paper's scores end at 1, where PCE and others have no bound.
    """
    axes = np.linspace(LOWEST, 1 - LOWEST, points), np.linspace(LOWEST, 1.0, points)
    with jax.enable_x64(True):
        scores, ious = np.meshgrid(*axes, indexing="ij")
        logits, wanted = jnp.asarray(np.log(scores) - np.log1p(-scores)), jnp.asarray(ious)
        value = landscape.positive_loss(logits, wanted, loss)
        slope = jax.grad(lambda o: landscape.positive_loss(o, wanted, loss).sum())(logits)
        return Surface(*axes, np.asarray(value), np.asarray(slope))


def columns_of(name: str) -> list[tuple[str, LossConfig]]:
    """The columns of the figure of a loss: focal alone, then the loss, lighter and heavier."""
    loss = loss_of(name)
    columns = [("focal", loss_of("focal"))]
    if name in ASSOCIATIONS:
        return columns + [
            (rf"focal + {NAMES[name]} ($\beta={beta:g}$)", dataclasses.replace(loss, beta=beta))
            for beta in WEIGHTS
        ]
    return [*columns, (NAMES[name], loss)]


def draw_surfaces(name: str, points: int = 120) -> Figure:
    """The losses above, the absolute values of their gradients below; the valley in orange."""
    columns = columns_of(name)
    with style.styled():
        figure = Figure(figsize=(2.75 * len(columns), 5.6))
        for column, (title, loss) in enumerate(columns):
            grid = surface(loss, points)
            valley = landscape.stationary_scores(grid.ious, loss)
            for row, (heights, what) in enumerate(
                ((grid.loss, "loss"), (np.abs(grid.gradient), r"$|\partial L/\partial o|$"))
            ):
                place = row * len(columns) + column
                axes = figure.add_subplot(
                    2, len(columns), place + 1, projection="3d", computed_zorder=False
                )
                _paint(axes, grid, heights, valley)
                axes.set_title(f"({'abcdef'[place]}) {title}", y=1.0, pad=-2)
                axes.zaxis.set_rotate_label(False)  # pyright: ignore
                axes.set_zlabel(what, labelpad=-3, rotation=90)  # pyright: ignore
        figure.subplots_adjust(0.04, 0.06, 0.99, 1.0, wspace=0.12, hspace=0.0)
        line = Line2D([], [], color=style.ORANGE, lw=2.2)
        figure.legend([line], ["least loss over the score"], loc="lower center")
    return figure


def _paint(axes, grid: Surface, heights: Float[np.ndarray, "s i"], valley: Curve) -> None:
    scores, ious = np.meshgrid(grid.scores, grid.ious, indexing="ij")
    norm = PowerNorm(0.5, min(0.0, heights.min()), heights.max())  # shows what lies low
    look = {"rcount": 120, "ccount": 120, "linewidth": 0, "antialiased": False, "rasterized": True}
    axes.plot_surface(scores, ious, heights, cmap=style.HEIGHT, norm=norm, **look)
    inside = (valley >= grid.scores[0]) & (valley < 1 - 1e-6)
    rows = np.array([np.interp(v, grid.scores, heights[:, i]) for i, v in enumerate(valley)])
    lift = 0.012 * np.ptp(heights)  # above the surface, not inside it
    axes.plot(
        valley[inside], grid.ious[inside], rows[inside] + lift, color=style.ORANGE, lw=2.2, zorder=9
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), zlim=(min(0.0, heights.min()), heights.max()))
    axes.set_xlabel(SCORE, labelpad=-5)
    axes.set_ylabel(IOU, labelpad=-5)
    axes.tick_params(pad=-2, labelsize=7.5)
    ticks = np.linspace(0, 1, 5), ["0", "", "0.5", "", "1"]
    axes.set_xticks(*ticks)
    axes.set_yticks(*ticks)
    axes.locator_params(axis="z", nbins=4)
    axes.view_init(elev=28, azim=-128)
    axes.set_box_aspect((1, 1, 0.8), zoom=0.92)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.97, 0.975, 0.98, 1.0))


def valleys_of(names: Iterable[str]) -> dict[str, Curve]:
    """The score at which each loss settles, at every IoU of `IOUS`; takes a second per loss."""
    return {name: landscape.stationary_scores(IOUS, loss_of(name)) for name in names}


def draw_valleys(valleys: Mapping[str, Curve]) -> Figure:
    """The score at which a positive settles over its IoU: PSE for several β, and every loss."""
    pse = loss_of("pse")
    with style.styled():
        figure = Figure(figsize=(7.7, 2.9), layout=ConstrainedLayoutEngine(w_pad=0.08))
        left, right = figure.subplots(1, 2, sharey=True)
        for beta, colour in zip((0.25, 0.5, 1.0, 2.0), style.COLOURS, strict=False):
            curve = landscape.stationary_scores(IOUS, dataclasses.replace(pse, beta=beta))
            left.plot(IOUS, curve, color=colour, lw=1.8, label=rf"$\beta={beta:g}$")
        plain = landscape.stationary_scores(IOUS, dataclasses.replace(pse, focal_gamma=0.0))
        dotted = {"color": style.COLOURS[2], "lw": 1.4, "ls": ":"}
        left.plot(IOUS, plain, label=r"$\beta=1,\ \gamma=0$", **dotted)
        left.set_title("(a) focal + PSE")
        for index, (label, curve) in enumerate(_together(valleys)):
            look = {"color": style.COLOURS[index % 7], "ls": ("-", "--")[index // 7]}
            right.plot(IOUS, curve, lw=1.8, label=label, **look)
        right.set_title("(b) the family")
        left.set_ylabel("stationary score")
        for axes in (left, right):
            axes.plot([0, 1], [0, 1], color=style.INK, lw=0.8, ls=(0, (1, 3)), zorder=9)
            axes.set(xlabel=IOU, xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
            axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), handlelength=1.4)
    return figure


def _together(valleys: Mapping[str, Curve]) -> list[tuple[str, Curve]]:
    """The curves that differ, with the names of all losses that share each."""
    groups: list[tuple[list[str], np.ndarray]] = []
    for name, curve in valleys.items():
        for names, other in groups:
            if np.abs(curve - other).max() < 0.005:  # a line's width
                names.append(NAMES[name])
                break
        else:
            groups.append(([NAMES[name]], curve))
    separators = [", " if max(map(len, names)) < 8 else ",\n" for names, _ in groups]
    return [
        (sep.join(names), curve) for sep, (names, curve) in zip(separators, groups, strict=True)
    ]


def draw_gradients(valleys: Mapping[str, Curve], points: int = 200) -> Figure:
    """The gradient by the logit of every loss, with its sign: where it pushes a score, and to."""
    rows = -(-len(valleys) // 4)
    with style.styled():
        figure = Figure(figsize=(7.4, 1.95 * rows), layout="compressed")
        grid = figure.subplots(rows, 4, sharex=True, sharey=True, squeeze=False).ravel()
        norm = SymLogNorm(0.02, vmin=-2, vmax=2)
        mesh = None
        for axes, (name, valley) in zip(grid, valleys.items(), strict=False):
            values = surface(loss_of(name), points)
            places = (values.ious, values.scores, values.gradient)
            look = {"cmap": style.SIGNED, "norm": norm, "shading": "gouraud", "rasterized": True}
            mesh = axes.pcolormesh(*places, **look)
            axes.plot(IOUS, valley, color="black", lw=1.6)
            axes.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":")
            axes.set(title=NAMES[name], xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        for axes in grid[len(valleys) :]:
            axes.set_axis_off()
        for axes in grid[::4]:
            axes.set_ylabel(SCORE)
        for column in range(min(4, len(valleys))):
            lowest = grid[(len(valleys) - 1 - column) // 4 * 4 + column]
            lowest.tick_params(labelbottom=True)
        for axes in grid[-4:]:
            axes.set_xlabel(IOU)
        if mesh is not None:
            label = r"$\partial L/\partial o$:  pushes the score up (−), down (+)"
            ticks = (-1, -0.1, 0, 0.1, 1)
            bar = figure.colorbar(mesh, ax=grid, label=label, shrink=0.8, ticks=ticks)
            bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks])
    return figure
