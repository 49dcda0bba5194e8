"""The configuration under which each published detector was trained and is evaluated.

Facts from the code of its authors; what a file itself tells (depth, widths, pixel means) replaces
them, in identify.py.
"""

from pse_jax.config import (
    Config,
    DataConfig,
    InferenceConfig,
    LossConfig,
    ModelConfig,
    TargetConfig,
)

FORMATS = ("fcos", "fcos-improved", "adelaidet", "torchvision", "mmdet", "mmdet-improved")

DETECTRON_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
DETECTRON2_MEAN = (103.53, 116.28, 123.675)  # BGR
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB; 255 times (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)


def preset(form: str) -> Config:
    """The configuration of a format, for ResNet-50 on COCO.

    "fcos" and "mmdet" are FCOS as first published: distances as exponentials in px, centre-ness on
    the class tower. The others are the improved one: ReLU in strides, centre-ness on the box tower,
    GIoU, centre sampling.
    """
    improved = form not in ("fcos", "mmdet")
    config = Config(
        name=form,
        model=ModelConfig(
            distances="relu" if improved else "exp",
            quality="centerness",
            quality_tower="box" if improved else "class",
            pixel_mean=DETECTRON_MEAN,
        ),
        targets=TargetConfig(center_radius=1.5 if improved else 0.0),
        loss=LossConfig(
            box="giou" if improved else "iou", box_by_centerness=True, association="none"
        ),
        data=DataConfig(resize="fcos", short_side=800, long_side=1333),
        inference=InferenceConfig(score_threshold=0.05, nms_threshold=0.6, sqrt_score=True),
    )
    model, loss, data, inference = config.model, config.loss, config.data, config.inference
    if form in ("fcos", "fcos-improved"):
        inference.inclusive_boxes = True
    elif form == "adelaidet":
        model.pixel_mean = DETECTRON2_MEAN
        data.resize = "detectron2"
        inference.clip_first = False
    elif form == "torchvision":
        model.stride_in_1x1 = False
        model.grid = "torchvision"
        model.channel_order, model.pixel_mean, model.pixel_std = "rgb", IMAGENET_MEAN, IMAGENET_STD
        loss.box_by_centerness, loss.iou_smooth = False, 0.0
        data.resize = "torchvision"
        inference.score_threshold, inference.threshold_by = 0.2, "final"
    elif form in ("mmdet", "mmdet-improved"):
        model.tower_bias = improved
        model.pixel_mean = DETECTRON2_MEAN if improved else DETECTRON_MEAN
        loss.iou_smooth = 0.0
        data.resize = "mmdet"
        inference.top_k_by, inference.sqrt_score = "class", False
        inference.nms_threshold = 0.6 if improved else 0.5
    else:
        raise ValueError(f"no format {form!r}; there are {', '.join(FORMATS)}")
    return config
