"""What check proposes, by hand; and the configuration that it writes."""

import dataclasses

import numpy as np
import pytest
from test_box_format import dataset

from pse_jax.config import Config, OptimizerConfig, get
from pse_jax.report.suggest import applied, suggestions, without_location


def made(boxes, sizes, images=None, pretrained=False, **optimizer):
    config = Config(optimizer=OptimizerConfig(**optimizer))
    config.model.init_from = "weights.pth" if pretrained else ""
    found = dataset(boxes, images, sizes)
    return found, config, {one.field: one for one in suggestions(found, config)}


def values(proposed):
    return {field: one.value for field, one in proposed.items()}


def test_forty_images_with_objects_of_a_tenth_from_scratch():
    found, config, proposed = made([(100, 100, 64, 64)] * 40, [(640, 480)] * 40)
    assert values(proposed) == {
        "data.long_side": 416,  # 400, where 64 of 640 px are 40, in whole multiples of 32
        "data.short_side": 312,
        "targets.size_bounds": (16, 32, 64, 128),  # 64 px are 41.6 then, half of it near 16
        "data.buckets": 4,  # one shape is all there are
        "optimizer.steps": 1200,  # of 16 images, 20,000
        "optimizer.milestones": (800, 1070),  # two and eight thirds of ninths, as of 90,000
        "optimizer.warmup_steps": 120,
        "optimizer.learning_rate": 0.01,
    }
    assert "at least 42 px large (√area); 40 px are wanted from scratch" in (
        proposed["data.long_side"].why
    )
    assert "each of the 40 images is seen 480 times" in proposed["optimizer.steps"].why
    assert without_location(found, config) == (0, 40)
    assert without_location(found, applied(config, list(proposed.values()))) == (0, 40)


def test_pretrained_weights_ask_for_larger_images():
    _, _, proposed = made([(100, 100, 64, 64)] * 40, [(640, 480)] * 40, pretrained=True)
    assert proposed["data.long_side"].value == 640  # where they are 64 px
    assert proposed["targets.size_bounds"].value == (32, 64, 128, 256)
    assert proposed["optimizer.steps"].value == 1200


@pytest.mark.parametrize(
    "box, size, pretrained, side, said",
    [
        ((0, 0, 10, 10), (640, 480), False, 512, "the largest size that is proposed from scratch"),
        ((0, 0, 10, 10), (640, 480), True, 1066, "the largest size"),  # with a short side of 800
        ((0, 0, 10, 10), (2000, 480), True, 1333, "the largest size that is proposed from pre"),
        ((0, 0, 4, 4), (100, 80), False, 224, "it is twice the image's own size"),
        ((0, 0, 90, 80), (100, 80), False, 128, "the smallest size that is proposed from scratch"),
        ((0, 0, 600, 400), (1000, 800), True, 640, "the smallest size that is proposed from pre"),
    ],
)
def test_the_ends_of_the_image_size(box, size, pretrained, side, said):
    _, _, proposed = made([box] * 20, [size] * 20, pretrained=pretrained)
    assert proposed["data.long_side"].value == side and said in proposed["data.long_side"].why


def test_a_few_tiny_objects_do_not_decide_but_a_tenth_does():
    boxes = [(100, 100, 64, 64)] * 40
    boxes[:3] = [(0, 0, 8, 8)] * 3
    assert made(boxes, [(640, 480)] * 40)[2]["data.long_side"].value == 416
    boxes[:6] = [(0, 0, 8, 8)] * 6
    assert made(boxes, [(640, 480)] * 40)[2]["data.long_side"].value == 512


def test_size_bounds_follow_the_longer_side():
    """Long thin objects: 20 by 400 px of 640 are 89 px large, and 180 px long at 288 px."""
    _, _, proposed = made([(100, 50, 400, 20)] * 30, [(640, 480)] * 30)
    assert proposed["data.long_side"].value == 288  # 40 / (89.4 / 640) = 286
    assert proposed["targets.size_bounds"].value == (64, 128, 256, 512)  # 90, by powers of two


def test_two_shapes_of_images_need_two_buckets():
    sizes = [(640, 480)] * 30 + [(480, 640)] * 30
    _, _, proposed = made([(50, 50, 64, 64)] * 60, sizes)
    assert proposed["data.buckets"].value == 4  # the limit stays, as two are all there are
    assert "2 image shapes hold all images" in proposed["data.buckets"].why
    sizes = [(640, 480)] * 50 + [(640, 420)] * 50  # on 320x416 and 288x416 px
    _, _, proposed = made([(50, 50, 64, 64)] * 100, sizes)
    assert proposed["data.buckets"].value == 1
    assert "1 image shape holds all images with " in proposed["data.buckets"].why
    assert "; 2 would have " in proposed["data.buckets"].why


def test_few_images_make_small_batches_and_a_lower_rate():
    _, _, proposed = made([(50, 50, 64, 64)] * 5, [(640, 480)] * 5)
    assert proposed["data.batch_size"].value == 4
    assert proposed["optimizer.learning_rate"].value == 0.0025
    assert proposed["optimizer.steps"].value == 5000
    _, _, proposed = made([(50, 50, 64, 64)] * 5, [(640, 480)] * 5, batch_rule="linear")
    assert proposed["optimizer.learning_rate"].value == 0.01


def test_many_images_take_twelve_epochs():
    boxes = [(50, 50, 64, 64)] * 3000
    _, _, proposed = made(boxes, [(640, 480)] * 3000, steps=2500, milestones=(500, 2000, 4500))
    assert proposed["optimizer.steps"].value == 2500  # 2,250 are near
    assert proposed["optimizer.milestones"].value == (500, 2000, 4500)
    _, _, proposed = made(boxes, [(640, 480)] * 3000, steps=50, milestones=(10, 40, 90))
    assert proposed["optimizer.steps"].value == 2200
    assert proposed["optimizer.milestones"].value == (440, 1760)


def test_more_objects_than_detections():
    boxes, images = [(5 * k, 50, 4, 64) for k in range(120)], [0] * 120
    _, _, proposed = made(boxes, [(640, 480)], images)
    assert proposed["inference.max_detections"].value == 200
    assert "an image has 120 objects" in proposed["inference.max_detections"].why


def test_the_configuration_itself_is_left_alone():
    _, config, proposed = made([(100, 100, 64, 64)] * 40, [(640, 480)] * 40)
    before = dataclasses.asdict(config)
    changed = applied(config, list(proposed.values()))
    assert dataclasses.asdict(config) == before
    assert all(get(changed, field) == one.value for field, one in proposed.items())


def test_objects_without_a_location_are_counted():
    boxes = np.array([(100, 100, 64, 64), (3, 3, 2, 2)] * 3)  # between locations, at 4, 12, ...
    found, config, _ = made(boxes, [(640, 480)] * 3, [0, 0, 1, 1, 2, 2])
    config.data.short_side, config.data.long_side = 480, 640
    boxes[1::2] = (5, 5, 2, 2)
    found = dataset(boxes, [0, 0, 1, 1, 2, 2], [(640, 480)] * 3)
    assert without_location(found, config) == (3, 6)
