"""What can be said of a figure without looking: nothing covers the data, every tick is a number."""

import itertools

import numpy as np
import pytest
from detection_cases import random_case
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pse_jax.evaluation.confusion import confusion_matrix
from pse_jax.evaluation.curves import precision_recall
from pse_jax.evaluation.measure import examine
from pse_jax.evaluation.summary import summarise
from pse_jax.report import page, plots, plots_classes, style


def drawn(figure):
    """Lays the figure out and returns what measures texts."""
    with style.styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def test_no_legend_lies_on_axes():
    truth, found = random_case(0, images=20)
    examined = examine(truth, found)
    figures = page.figures_of(examined, summarise(examined, 0))
    assert len(figures) == 8
    for name, figure in figures.items():
        renderer = drawn(figure)
        assert not any(axes.get_legend() for axes in figure.axes), name
        for legend in figure.legends:
            box = legend.get_window_extent(renderer)
            for axes in figure.axes:
                assert not box.overlaps(axes.get_window_extent(renderer)), name


@pytest.mark.parametrize("most", [1, 3, 40, 5000])
def test_the_bar_of_a_density_has_plain_numbers(most):
    scores = np.repeat([0.2, 0.7], [most, 1])
    figure = plots.scatter(scores, scores)
    renderer = drawn(figure)
    bar = figure.axes[1]
    texts = [t.get_text() for t in bar.get_yticklabels(which="both") if t.get_text()]
    assert texts and all(text.replace(",", "").isdigit() for text in texts)
    # One detection in a cell is far from white: WCAG's contrast for graphics is 3, of luminances.
    assert renderer is not None
    colour = np.array(style.COUNTS(0.0)[:3])
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 1.6


@pytest.mark.parametrize("classes", [3, 80])
def test_few_and_many_classes(classes):
    truth, found = random_case(1, images=60, classes=classes)
    figure = plots_classes.precision_recall(precision_recall(truth, found))
    drawn(figure)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(entries) <= 8 and any(text.startswith("mean ") for text in entries)
    figure = plots_classes.confusion(confusion_matrix(truth, found, threshold=0.3))
    renderer = drawn(figure)
    labels = figure.axes[0].get_yticklabels()
    assert len(labels) == classes + 1
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
    assert min(label.get_fontsize() for label in labels) >= 3.2
