"""Arrays into variables: what fits is taken to the bit, and everything else is reported."""

import numpy as np
import pytest

from pse_jax.errors import WeightsError
from pse_jax.weights.fit import fit

TEMPLATE = {
    "params": {
        "backbone": {"conv1": {"kernel": np.zeros((3, 3, 2, 4), np.float32)}},
        "head": {
            "class_conv": {
                "kernel": np.full((3, 3, 4, 5), 7, np.float32),
                "bias": np.full(5, 8, np.float32),
            },
            "scales": np.ones(5, np.float32),
        },
    },
    "frozen": {"backbone": {"norm1": {"scale": np.ones(4, np.float32)}}},
}


def found(rng, classes=5):
    return {
        "params/backbone/conv1/kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32),
        "params/head/class_conv/kernel": rng.normal(size=(3, 3, 4, classes)),
        "params/head/class_conv/bias": rng.normal(size=classes),
        "params/head/scales": rng.normal(size=5).astype(np.float16),
        "frozen/backbone/norm1/scale": rng.normal(size=4),
    }


def is_class_conv(path):
    return path.startswith("params/head/class_conv/")


def test_everything_fits(rng):
    arrays = found(rng)
    variables, report = fit(TEMPLATE, arrays, unused=["fc.weight"])
    kernel = variables["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["params/backbone/conv1/kernel"])
    assert kernel is not arrays["params/backbone/conv1/kernel"]  # that may be a mapped file
    scales = variables["params"]["head"]["scales"]
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(scales, arrays["params/head/scales"].astype(np.float32))
    assert sorted(report.loaded) == sorted(arrays) and report.unexpected == ["fc.weight"]
    assert not (report.missing or report.mismatched or report.reinitialised)
    assert (TEMPLATE["params"]["head"]["scales"] == 1).all()


def test_another_number_of_classes_reinitialises_the_class_convolution_alone(rng):
    arrays = found(rng, classes=9)
    variables, report = fit(TEMPLATE, arrays, may_reinitialise=is_class_conv)
    assert (variables["params"]["head"]["class_conv"]["kernel"] == 7).all()
    assert (variables["params"]["head"]["class_conv"]["bias"] == 8).all()
    assert sorted(report.reinitialised) == [
        "params/head/class_conv/bias",
        "params/head/class_conv/kernel",
    ]
    assert len(report.loaded) == 3 and not report.missing
    text = str(report)
    assert "re-initialised: params/head/class_conv/bias, params/head/class_conv/kernel" in text
    assert "shape (3, 3, 4, 9), in the model (3, 3, 4, 5)" in text
    with pytest.raises(
        WeightsError, match=r"class_conv/bias has shape \(9,\), in the model \(5,\)"
    ):
        fit(TEMPLATE, arrays)


def test_a_backbone_alone_leaves_the_head_as_it_was(rng):
    arrays = {k: v for k, v in found(rng).items() if "backbone" in k}
    variables, report = fit(TEMPLATE, arrays, expected_missing=lambda path: "/head/" in path)
    assert variables["params"]["head"]["scales"] is TEMPLATE["params"]["head"]["scales"]
    assert len(report.missing) == 3 and len(report.loaded) == 2
    assert "not in the file, left as initialised: params/head/class_conv/bias" in str(report)


def test_a_wrong_name_is_an_error_with_the_nearest(rng):
    arrays = found(rng)
    arrays["params/head/clas_conv/bias"] = arrays.pop("params/head/class_conv/bias")
    with pytest.raises(WeightsError) as raised:
        fit(TEMPLATE, arrays, source="x.pth", names_in_file={"params/head/clas_conv/bias": "c.b"})
    assert (
        "x.pth does not fit the model: params/head/class_conv/bias is missing (the nearest is "
        "params/head/clas_conv/bias); params/head/clas_conv/bias (c.b in the file) is not "
        "in the model (the nearest is params/head/class_conv/bias)"
    ) in str(raised.value)


def test_values_that_are_not_finite_are_refused(rng):
    arrays = found(rng)
    arrays["params/head/scales"][3] = np.nan
    with pytest.raises(WeightsError, match="scales holds values that are not finite"):
        fit(TEMPLATE, arrays)


def test_only_the_first_of_many_problems_are_listed(rng):
    arrays = found(rng) | {f"params/other{i}": np.zeros(1) for i in range(8)}
    with pytest.raises(WeightsError, match=r"is not in the model.*; and 3 more$"):
        fit(TEMPLATE, arrays)


def test_a_report_of_many_names_counts_kinds():
    names = [f"layer{i}.bn1.num_batches_tracked" for i in range(53)]
    template = {"params": {f"layer{i}": {"a": np.zeros(1, np.float32)} for i in range(30)}}
    arrays = {f"params/layer{i}/a": np.zeros(1) for i in range(30)}
    lines = str(fit(template, arrays, unused=names)[1]).splitlines()
    assert lines[0].startswith("loaded: 30: ")
    assert lines[1] == "in the file, not used: 53: layer*.bn*.num_batches_tracked (53)"
