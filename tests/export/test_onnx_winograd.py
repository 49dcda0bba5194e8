"""Convolutions with fewer multiplications as nodes, against the library's and the plain file."""

import jax
import numpy as np
import pytest
from onnx import TensorProto

from pse_jax.export import onnx as export
from pse_jax.export.onnx import winograd
from pse_jax.export.onnx.graph import Graph
from tests.export import graphs
from tests.export.test_onnx import assert_same, detector, pictures  # noqa: F401


@pytest.mark.parametrize("hw", [(8, 12), (7, 10), (5, 9), (1, 3)])  # whole tiles, and rests
def test_it_is_the_convolution(hw):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, *hw)).astype(np.float32)
    kernel = rng.normal(size=(7, 5, 3, 3)).astype(np.float32)
    graph = Graph()
    places = winograd.kernel_places(graph, kernel, "kernel")
    y = winograd.conv(graph, "x", places, (7, 5))
    run = graphs.runner(graph, {"x": (TensorProto.FLOAT, ("b", 5, "h", "w"))}, [y])
    expected = jax.lax.conv(x, kernel, (1, 1), "SAME")
    np.testing.assert_allclose(run(x=x)[0], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "shape, stride, chosen",
    [
        ((256, 256, 3, 3), 1, True),
        ((80, 256, 3, 3), 1, False),
        ((256, 256, 3, 3), 2, False),
        ((512, 256, 1, 1), 1, False),
    ],
)
def test_where_it_is_chosen(shape, stride, chosen):
    assert winograd.pays(np.empty(shape, np.float32), stride) == chosen


def test_a_detector_with_it(detector, monkeypatch):  # noqa: F811
    monkeypatch.setattr(winograd, "CHANNELS", 8)
    made = export.build(detector)
    counts = export.count_nodes(made)
    plain = export.count_nodes(export.build(detector, for_cpu=False))
    assert counts["ConvTranspose"] > 10 and "ConvTranspose" not in plain
    assert_same(detector, graphs.session(made), pictures([(64, 96), (50, 70)]), monkeypatch)
    assert any("--onnx-for any" in note for note in export.make(detector).notes)
    assert not any("onnx-for" in note for note in export.make(detector, for_cpu=False).notes)
