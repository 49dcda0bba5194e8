"""Import, then export: the same file, bit for bit."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402

from pse_jax.categories import COCO  # noqa: E402
from pse_jax.config import Config  # noqa: E402
from pse_jax.detector import Detector  # noqa: E402
from pse_jax.errors import UserError  # noqa: E402
from pse_jax.weights import export  # noqa: E402
from pse_jax.weights.published import load_published  # noqa: E402
from tests.weights import torch_fcos  # noqa: E402

FILES = {"fcos": "FCOS_R_50_FPN_1x.pth", "fcos-improved": "FCOS_imprv_R_50_FPN_1x.pth"}


def imported(arrays, file):
    save_file(arrays, file)
    return load_published(str(file))


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("form", ["fcos", pytest.param("fcos-improved", marks=pytest.mark.slow)])
def test_import_then_export_is_the_identity(form, tmp_path):
    with torch.no_grad():
        reference = torch_fcos.Reference(torch_fcos.VARIANTS[form], width=8, channels=64)
    arrays = torch_fcos.as_arrays(torch_fcos.renamed(reference.randomise(3)))
    name = "backbone.body.layer2.1.bn2"
    arrays[f"{name}.bias"][:2] = -0.0, 0.0  # both zeros survive a negative scale
    arrays[f"{name}.weight"][:2] = -1.5
    detector, report = imported(arrays, tmp_path / FILES[form])
    assert report[0].startswith(f"format {form}: ")
    assert_same_bits(arrays, export.to_official(detector))

    lines = export.save(detector, tmp_path / "folder/any.safetensors")
    assert "324 tensors of step 0, " in lines[0]
    assert_same_bits(arrays, load_file(tmp_path / "folder/any.safetensors"))
    again, report = load_published(str(tmp_path / "folder/any.safetensors"))
    assert report[0] == f"format {form}: exported by pse_jax, with its configuration"
    assert again.config == detector.config and again.categories == detector.categories
    jax.tree.map(np.testing.assert_array_equal, detector.variables, again.variables)


def test_pytorch_loads_what_other_formats_export(tmp_path):
    """Of mmdet's base, whose towers have no biases and whose batch norms are folded on import."""
    variant = torch_fcos.VARIANTS["mmdet"]
    with torch.no_grad():
        reference = torch_fcos.Reference(variant, width=8, channels=64).randomise(3)
    arrays = torch_fcos.as_arrays(torch_fcos.renamed(reference))
    exported = export.to_official(imported(arrays, tmp_path / "fcos.safetensors")[0])
    official = torch_fcos.Reference(torch_fcos.VARIANTS["fcos"], width=8, channels=64)
    official.load_state_dict({k: torch.from_numpy(v) for k, v in exported.items()}, strict=True)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for ours, theirs in zip(official(pixels), reference(pixels), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_another_ending_than_safetensors_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a.pth must end in .safetensors"):
        export.save(Detector(Config(), COCO, {}), tmp_path / "a.pth")
