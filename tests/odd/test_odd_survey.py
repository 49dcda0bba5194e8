"""What is said before the first step: sizes that stand out, memory, photos that are turned."""

import dataclasses
import json
import logging
import re

import numpy as np
import pytest
from coco_files import good, write
from odd import images
from PIL import Image

from pse_jax.config import Config, DataConfig, ModelConfig
from pse_jax.data import coco, survey
from pse_jax.data.pipeline import Row, load_row
from pse_jax.data.plan import buckets_for
from pse_jax.data.transforms import resized_hw
from pse_jax.errors import DataError
from pse_jax.report.checked import check
from pse_jax.report.dataset import lines


def long_images(folder, sizes=((1, 5000), (5000, 1)), plain=0):
    """A data set of images of these (width, height), and of plain ones of 64x48."""
    rows = []
    for i, (width, height) in enumerate([*sizes, *[(64, 48)] * plain]):
        Image.new("RGB", (width, height)).save(folder / f"{i}.png")
        rows.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
    content = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return coco.load(folder / "a.json", folder)


@pytest.mark.parametrize("rule", ["fcos", "detectron2", "mmdet", "torchvision"])
@pytest.mark.parametrize(
    "hw", [(1, 5000), (5000, 1), (1, 2**24), (2**24, 1), (2, 2**24), (3, 9000)]
)
def test_no_side_grows_over_twice_the_limit_however_long_an_image_is(hw, rule):
    found = resized_hw(*hw, 800, 1333, rule)
    assert 1 <= min(found) and max(found) <= 2 * 1333
    assert (found[0] > found[1]) == (hw[0] > hw[1])


def test_a_column_and_a_row_in_one_bucket_make_no_canvas_of_25_million_pixels(tmp_path):
    data = DataConfig(buckets=1)
    dataset = long_images(tmp_path)
    buckets = buckets_for(dataset.sizes_hw, data)
    assert buckets.shapes_hw == ((1344, 1344),)
    for i, hw in enumerate([(1333, 1), (1, 1333)]):
        row = load_row(Row(i, buckets.shapes_hw[0], False, True), dataset, buckets, 8)
        assert row["size_hw"].tolist() == [*hw] and bool(row["image_valid"])


def test_extreme_images_and_canvases_are_named(tmp_path, caplog):
    dataset = long_images(tmp_path, plain=1)
    config = Config(data=DataConfig(buckets=1, short_side=64, long_side=96))
    said = list(survey.odd_sizes(dataset, buckets_for(dataset.sizes_hw, config.data)))
    assert said[0].startswith(
        "2 images are over 20 times as long as wide, such as id 0 (1x5000 px)"
    )
    assert len(said) == 2 and "share a canvas of 96x96 px" in said[1] and "id 1 (5000x1" in said[1]
    with caplog.at_level(logging.WARNING):
        survey.look(dataset, buckets_for(dataset.sizes_hw, config.data), config, 2)
    assert all(sentence in caplog.text for sentence in said)
    report = "\n".join(lines("data", check(dataset, config, training=False), config))
    assert said[0] in report and said[1] not in report  # an evaluation gives each its own canvas
    plain = long_images(tmp_path, sizes=(), plain=3)
    assert not list(survey.odd_sizes(plain, buckets_for(plain.sizes_hw, config.data)))


def test_the_memory_of_batches_is_forecast_and_required(tmp_path, monkeypatch):
    dataset = long_images(tmp_path, sizes=[(640, 480)], plain=1)
    config = Config(model=ModelConfig(dtype="float32"), data=DataConfig(prefetch=4))
    buckets = buckets_for(dataset.sizes_hw, config.data)
    need = survey.need(buckets, config, 16)
    height, width = need.shape_hw
    assert need.batch == 16 * np.zeros((height, width, 3), np.uint8).nbytes
    assert need.ahead == 5 * need.batch
    first = np.zeros((height // 2, width // 2, 64), np.float32).nbytes
    assert need.device == 16 * (height * width * 3 * (1 + 4) + first)
    report = "\n".join(lines("data", check(dataset, config, training=False), config))
    assert f"{need.ahead / 1e9:.2f} GB of this machine for batches of 16 images that are" in report
    survey.look(dataset, buckets, config, 16)
    for host, device, words in (
        (need.ahead - 1, need.device, "this machine's memory"),
        (need.ahead, need.device - 1, "the devices' memory"),
    ):
        monkeypatch.setattr(survey, "_memory", lambda host=host, device=device: (host, device))
        with pytest.raises(DataError) as raised:
            survey.look(dataset, buckets, config, 16)
        text = str(raised.value)
        assert words in text and f"{width}x{height} px" in text and "id 0 (640x480 px)" in text
        assert re.search(r"need [\d.]+ GB .* there are [\d.]+ GB; lower config\.data\.batch_", text)
    monkeypatch.setattr(survey, "_memory", lambda: (need.ahead, need.device))
    survey.look(dataset, buckets, config, 16)


@pytest.mark.parametrize("exif, words", [("apply", "turned upright"), ("ignore", "left as stored")])
def test_photos_that_only_their_exif_turns_are_announced(tmp_path, caplog, exif, words):
    content = good()
    file, folder = write(tmp_path, content)
    (folder / "a.jpg").write_bytes(images.oriented("JPEG", 3))
    (folder / "c.jpg").write_bytes(images.oriented("JPEG", 6))  # its size tells
    dataset = coco.load(file, folder, exif=exif)
    config = Config(data=DataConfig(short_side=64, long_side=96, threads=2))
    with caplog.at_level(logging.WARNING):
        survey.look(dataset, buckets_for(dataset.sizes_hw, config.data), config, 2)
    said = "of 3 images sampled, 1 has an EXIF orientation that the annotated size does not"
    assert said in caplog.text and "(id 10)" in caplog.text and words in caplog.text
    plain = dataclasses.replace(dataset, keys=dataset.keys[[1, 1, 1]])
    caplog.clear()
    survey.look(plain, buckets_for(plain.sizes_hw, config.data), config, 2)
    assert not caplog.text
