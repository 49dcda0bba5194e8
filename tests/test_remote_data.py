"""A data set at an address gives what the same files give on a disk."""

import dataclasses
import json

import numpy as np
import pytest
from coco_files import good, write

from pse_jax.config import DataConfig
from pse_jax.data import coco, sources
from pse_jax.data.pipeline import batches
from pse_jax.data.plan import TrainPlan, choose_buckets
from pse_jax.errors import DataError, ImageError, UserError, WeightsError
from pse_jax.weights.fetch import resolve
from tests.object_store import served

ROOT = "gs://bucket/data"


@pytest.fixture
def store(tmp_path):
    with served(tmp_path / "store") as store:
        yield store


def upload(store, folder):
    for file in (path for path in folder.rglob("*") if path.is_file()):
        store._file(f"{ROOT}/{file.relative_to(folder).as_posix()}").write_bytes(file.read_bytes())


def config_of(root, **more):
    parts = {
        "train_annotations": "instances.json",
        "train_images": "images",
        "val_annotations": "instances.json",
        "val_images": "images",
    }
    return DataConfig(root=str(root), **{**parts, **more})


@pytest.fixture
def local(tmp_path, store):
    write(tmp_path / "local")
    upload(store, tmp_path / "local")
    return tmp_path / "local"


def batches_of(dataset):
    plan = TrainPlan(choose_buckets(dataset.sizes_hw, 64, 96, 2), 4, 1, 0.5, 4)
    return list(batches(dataset, plan, rows=slice(0, 4), threads=3, prefetch=2, start=0))


def test_batches_are_the_same_to_the_bit(local, store):
    ours, theirs = (sources.open_train(config_of(root)) for root in (ROOT, local))
    listed = [call for call in store.calls if call[0] == "list"]
    assert listed == [("list", f"{ROOT}/images"), ("list", f"{ROOT}/images/sub")]
    assert ours.source == f"{ROOT}/instances.json"
    for a, b in zip(batches_of(ours), batches_of(theirs), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_a_part_may_be_elsewhere(local, store):
    """Annotations on the disk, images in the store; and the other way around."""
    for annotations, images in (
        (str(local / "instances.json"), "images"),
        (f"{ROOT}/instances.json", str(local / "images")),
    ):
        config = config_of(ROOT, train_annotations=annotations, train_images=images)
        assert len(sources.open_train(config)) == 2
    assert len(sources.open_train(config_of(local, train_images=f"{ROOT}/images"))) == 2


def test_what_is_missing_is_named(local, store):
    store._file(f"{ROOT}/images/sub/b.jpg").rename(store._file(f"{ROOT}/images/b.jpg"))
    with pytest.raises(DataError) as caught:
        sources.open_train(config_of(ROOT))
    assert str(caught.value).startswith(f"{ROOT}/images lacks 1 of the 3 images that ")
    assert f"but {ROOT}/images/b.jpg is there: take the folders off" in str(caught.value)
    with pytest.raises(DataError, match=f"no annotations at {ROOT}/else.json"):
        sources.open_train(config_of(ROOT, train_annotations="else.json"))
    with pytest.raises(DataError, match=f"no image folder at {ROOT}/else, which"):
        sources.open_train(config_of(ROOT, train_images="else"))


@pytest.mark.parametrize("name", ["../instances.json", "/etc/hostname", "sub/../../a.jpg"])
def test_names_that_lead_out_are_refused_unless_allowed(name, local, store):
    content = good()
    content["images"][0]["file_name"] = name
    store._file(f"{ROOT}/instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"lead out of gs://bucket/data/images"):
        sources.open_train(config_of(ROOT))
    config = config_of(ROOT)
    dataset = sources.open_split(config, "train", require_images=False)
    with pytest.raises(ImageError, match="leads out of"):
        dataset.images.read(dataset.images.files.index(name))
    config = dataclasses.replace(config, outside_images=True)
    if name == "../instances.json":
        dataset = sources.open_split(config, "train", require_images=False)
        content = dataset.images.read(dataset.images.files.index(name))
        assert content == store._file(f"{ROOT}/instances.json").read_bytes()


def test_an_image_that_cannot_be_read_is_named(local, store):
    dataset = sources.open_train(config_of(ROOT))

    def fail(what, path):
        if what == "read":
            raise TimeoutError("timed out")

    store.fail = fail
    with pytest.raises(ImageError, match=f"{ROOT}/images/a.jpg cannot be read: timed out"):
        dataset.images.read(dataset.images.files.index("a.jpg"))
    store.fail = lambda what, path: exec("raise OSError('401')")
    with pytest.raises(UserError, match=f"{ROOT}.* cannot be reached: 401"):
        sources.open_train(config_of(ROOT))


def test_annotations_alone(local, store):
    found = coco.load_ground_truth(f"{ROOT}/instances.json")
    assert found.image_ids.tolist() == [10, 20, 30]
    assert len(coco.load_categories(f"{ROOT}/instances.json")) == 2


def test_weights_come_from_an_address_anew_each_time(store, tmp_path):
    for content in (b"first", b"other"):
        store._file("gs://bucket/w.safetensors").write_bytes(content)
        found = resolve("gs://bucket/w.safetensors", tmp_path / "cache")
        assert found.read_bytes() == content and found.suffix == ".safetensors"
    with pytest.raises(
        WeightsError, match=r"gs://bucket/v.safetensors cannot be read: it does not"
    ):
        resolve("gs://bucket/v.safetensors", tmp_path / "cache")
