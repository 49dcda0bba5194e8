"""A pretrained detector by its name, from a local server that stands for its publisher's."""

import hashlib
import io

import jax
import numpy as np
import pytest
import torch
from weights.test_detectors import small, template_of
from weights.test_fetch import server as server  # a fixture

import pse_jax
from pse_jax.categories import COCO
from pse_jax.errors import CheckpointError, WeightsError
from pse_jax.models.resnet import BLOCKS
from pse_jax.weights import fetch
from pse_jax.weights.start import load_into

SHORT = (1, 1, 1, 1)  # bottlenecks a stage
NAME = "torchvision_fcos_r50"


@pytest.fixture
def published(server, monkeypatch):
    """The name leads to a file of torchvision's arrays, small, with its hash in its own name."""
    stream = io.BytesIO()
    monkeypatch.setitem(BLOCKS, 50, SHORT)
    tensors = small("torchvision", SHORT)
    torch.save(tensors, stream)
    server.content = stream.getvalue()
    digest = hashlib.sha256(server.content).hexdigest()
    address = f"{server.address}/models/fcos_resnet50_fpn_coco-{digest[:8]}.pth"
    monkeypatch.setitem(fetch.SHORT_NAMES, NAME, address)
    monkeypatch.setattr(fetch, "HASHED_NAMES", ("127.0.0.1",))
    return server, tensors


def test_the_name_stands_for_torchvisions_file():
    """FCOS_ResNet50_FPN_Weights.COCO_V1; the digits in its name are the first of its SHA-256."""
    address = "https://download.pytorch.org/models/fcos_resnet50_fpn_coco-99b0c9b7.pth"
    assert fetch.SHORT_NAMES[NAME] == address
    assert fetch._published_hash(address) == "99b0c9b7"


def test_it_is_downloaded_once_checked_and_loaded(published, tmp_path):
    there, tensors = published
    cache = f"--config.data.cache_dir={tmp_path}"
    detector = pse_jax.load(NAME, overrides=[cache])
    assert detector.categories == COCO and detector.thresholds is None
    assert detector.config.model.grid == "torchvision" and detector.config.data.resize == (
        "torchvision"
    )
    ours = detector.variables["params"]["head"]["class_conv"]["kernel"]
    theirs = tensors["head.classification_head.cls_logits.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(ours, theirs[..., list(COCO.ids)])

    model = detector.config.model  # and training starts from it, by the same name
    file = fetch.resolve(NAME, tmp_path)
    started, _ = load_into(model, template_of(model, 80), file)
    jax.tree.map(np.testing.assert_array_equal, started["params"], detector.variables["params"])
    assert len(there.requests) == 1


def test_another_file_in_its_place_is_refused(published, tmp_path):
    there, _ = published
    there.content = there.content[:-1] + b"?"
    with pytest.raises(WeightsError, match=r"its SHA-256 begins with .* and must begin with"):
        pse_jax.load(NAME, overrides=[f"--config.data.cache_dir={tmp_path}"])


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"there is no torchvision_fcos; did you mean {NAME}\?"
    ):
        pse_jax.load("torchvision_fcos")
    with pytest.raises(WeightsError, match=rf"did you mean {NAME}"):
        fetch.resolve("torchvision_fcos_r5", tmp_path)
    with pytest.raises(CheckpointError, match=rf"there is no x\.pth; give .* a name \({NAME}\)"):
        pse_jax.load("x.pth")
