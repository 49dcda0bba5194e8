"""The whole configuration, typed: what each field means, its unit, its default and its bounds.

The defaults are the paper's COCO experiment; `configs/*.py` state one experiment each, and any
field can be set on the command line as `--config.section.field=value`.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator
from operator import lt
from typing import Annotated, Any, Literal

from pse_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Bound:
    """A condition on a field's value; `must_be` completes the sentence "it must be ..."."""

    must_be: str
    holds: Callable[[Any], bool]


def _distinct(values: tuple[int, ...]) -> bool:
    return min(values, default=1) > 0 and len(set(values)) == len(values)


POSITIVE = Bound("greater than 0", lambda v: v > 0)
NON_NEGATIVE = Bound("0 or greater", lambda v: v >= 0)
INSIDE = Bound("inside (0, 1)", lambda v: 0 < v < 1)
INCREASING = Bound("greater than 0 and strictly increasing", lambda v: all(map(lt, (0, *v), v)))
DECAY = Bound("0 or greater and less than 1", lambda v: 0 <= v < 1)
RANGE = Bound("two factors from 0.1 to 10, the lower first", lambda v: 0.1 <= v[0] <= v[1] <= 10)
DISTINCT = Bound("greater than 0 and all different", _distinct)

Positive = Annotated[float, POSITIVE]
PositiveInt = Annotated[int, POSITIVE]
NonNegative = Annotated[float, NON_NEGATIVE]
NonNegativeInt = Annotated[int, NON_NEGATIVE]
Share = Annotated[float, Bound("between 0 and 1", lambda v: 0 <= v <= 1)]
Extent = Annotated[float, Bound("from 0.05 to 1", lambda v: 0.05 <= v <= 1)]
Triple = tuple[float, float, float]


@dataclasses.dataclass
class ModelConfig:
    """FCOS on a ResNet with a feature pyramid (FCOS, sec. 3)."""

    init_from: str = ""  # weights to start from: a file, https address or short name (fetch.py)
    depth: Literal[10, 18, 34, 50, 101] = 50  # ResNet; basic blocks up to 34, then bottlenecks
    width: PositiveInt = 64  # channels of the first stage; the others are 2, 4 and 8 times that
    stride_in_1x1: bool = True  # MSRA and Detectron: on the first 1x1; torchvision: on the 3x3
    norm: Literal["frozen_bn", "gn"] = "frozen_bn"  # frozen_bn needs pretrained weights
    norm_groups: PositiveInt = 32  # GroupNorm's groups in the backbone, when norm is gn
    frozen_stages: Literal[0, 1, 2, 3, 4, 5] = 2  # 1: the stem, 2: and the first stage, ... 5: all
    fpn_channels: PositiveInt = 256  # of every pyramid level and of both towers
    head_convs: NonNegativeInt = 4  # 3x3 convolutions in each of the two towers
    head_groups: PositiveInt = 32  # GroupNorm's groups in the towers
    head_init_std: Positive = 0.01  # of the towers' convolutions, FCOS's; narrow towers need more
    tower_bias: bool = True  # mmdet's towers have none
    distances: Literal["exp", "relu"] = "exp"  # exp: in px; relu: in strides (improved FCOS)
    quality: str = "none"  # a third output, for the score: losses/table.py; none: the paper
    quality_tower: Literal["class", "box"] = "class"  # which tower it sits on: class, as in FCOS
    grid: Literal["center", "torchvision"] = "center"  # where locations lie: points.py
    prior: Annotated[float, INSIDE] = 0.01  # initial score of every class (focal loss, sec. 3.3)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # compute type; auto: bfloat16 off CPU
    # compute the activations of backbone and towers again in the backward pass: less memory
    remat: bool = False
    channel_order: Literal["rgb", "bgr"] = "bgr"  # of the network's input; files are decoded to RGB
    pixel_mean: Triple = (102.9801, 115.9465, 122.7717)  # in channel_order
    # in channel_order; a pixel becomes (value - mean) / std
    pixel_std: Annotated[Triple, Bound("greater than 0", lambda v: min(v) > 0)] = (1.0, 1.0, 1.0)


@dataclasses.dataclass
class TargetConfig:
    """Which location answers for which object (FCOS, sec. 3.1 and 3.2)."""

    # px; between P3|P4|P5|P6|P7
    size_bounds: Annotated[tuple[int, int, int, int], INCREASING] = (64, 128, 256, 512)
    center_radius: NonNegative = 0.0  # 0: the whole box; 1.5: centre sampling, in strides


@dataclasses.dataclass
class LossConfig:
    """Focal + IoU + association, all divided by the number of positives."""

    classification: str = "focal"  # focal (Eq. 4), or what replaces it: losses/table.py
    focal_alpha: Share = 0.25  # weight of positives; of negatives 1 - alpha
    focal_gamma: NonNegative = 2.0  # how much less easy locations count; 0: cross-entropy
    box: Literal["iou", "giou"] = "iou"  # iou: Eq. (6)
    box_weight: NonNegative = 1.0  # λ of Eq. (6)
    box_by_centerness: bool = False  # weigh each positive's box loss so, as FCOS; the paper: no
    # px² (relu: strides²), added to intersection and union in the box loss. The authors: 1; 0:
    # Eq. (7)
    iou_smooth: NonNegative = 1.0
    target_smooth: NonNegative = 0.0  # the same in the Î that scores are drawn to; the authors: 1
    association: str = "pse"  # Eq. (8); none, or another of losses/table.py
    beta: NonNegative = 1.0  # weight of the association loss
    k: NonNegative = 1.0  # slope: the score is drawn to k·IoU
    score: Literal["max", "target"] = "max"  # tied to the IoU: maximum over classes, or true class


@dataclasses.dataclass
class OptimizerConfig:
    """SGD with PyTorch's semantics, and the learning-rate schedule."""

    learning_rate: Positive = 0.01  # after the warm-up, before the first milestone
    momentum: Share = 0.9  # of PyTorch's SGD, without dampening
    weight_decay: NonNegative = 1e-4  # of weights; added to the gradient
    bias_lr_factor: NonNegative = 2.0  # biases learn this many times faster
    bias_weight_decay: NonNegative = 0.0  # of biases
    steps: PositiveInt = 90_000  # of the whole run
    # from these steps on, times gamma
    milestones: Annotated[tuple[int, ...], INCREASING] = (60_000, 80_000)
    gamma: Positive = 0.1  # what a milestone multiplies the learning rate by
    warmup_steps: NonNegativeInt = 500  # steps of a lower rate at the start; 0: none
    warmup_factor: NonNegative = 1 / 3  # of the learning rate, at the start of the warm-up
    warmup: Literal["constant", "linear"] = "constant"  # at warmup_factor; linear: from it to 1
    clip_norm: NonNegative = 0.0  # global gradient norm; 0: no clipping, as in FCOS
    base_batch: PositiveInt = 16  # the data.batch_size that learning_rate is meant for
    # linear: the rate is learning_rate times data.batch_size / base_batch
    batch_rule: Literal["none", "linear"] = "none"
    # decay of an average of the parameters, which is evaluated, kept in best/ and exported; 0: none
    ema_decay: Annotated[float, DECAY] = 0.0


@dataclasses.dataclass
class ShapesConfig:
    """The generated data set. Sizes are shares of the longer side; chances lie in 0..1."""

    train_images: PositiveInt = 3000  # generated to train on
    val_images: PositiveInt = 500  # generated to evaluate on
    # px of the longer side; the other is as long or three quarters of it
    image_size: Annotated[int, Bound("at least 48 px", lambda px: px >= 48)] = 128
    max_objects: PositiveInt = 5  # per image; the mean is about 2
    smallest: Extent = 0.28  # longer side of the smallest object; sizes are log-uniform
    largest: Extent = 0.8  # longer side of the largest
    own_colour: Share = 0.95  # chance that an object has its class's hue; 0: colour tells nothing
    own_pattern: Share = 0.95  # chance that an object wears its class's pattern; 0: any, form alone
    clutter: Share = 0.3  # background texture, marks of no class, sensor noise; 0: smooth
    contrast: Share = 0.35  # how far an object's colour stands off the background's; 0: any colour
    occlusion: Share = 0.15  # chance that an object lies behind others; 0: all show nine tenths
    bars: Share = 0.1  # chance that a bar of no class crosses an object; 0: none
    feelers: Share = 0.07  # chance of a thin feeler, part of the box; 0: none
    softness: Share = 0.15  # width of blurred edges; 0: all crisp, 1: to a fifth of the object
    shadow: Share = 0.4  # darkness of the soft shadows, never part of a box; 0: none
    rows: Share = 0.12  # chance of an image of one thing repeated side by side; 0: none
    crowds: Share = 0.04  # chance of an image with a crowd region (iscrowd=1); 0: none
    empty: Share = 0.06  # chance of an image with nothing in it; 0: none
    seed: NonNegativeInt = 0  # of the generator: the same seed, the same bytes


@dataclasses.dataclass
class DataConfig:
    """Where the images are and how they become batches."""

    # coco: files in COCO's format below root; tfds: coco/2017 as tensorflow_datasets prepares it;
    # shapes: generated
    source: Literal["coco", "tfds", "shapes"] = "coco"
    # Folder of the data set; the four names below are relative to it. tfds: its data_dir, by
    # default TFDS_DATA_DIR or ~/tensorflow_datasets; coco looks there too if this is empty. Of the
    # names, tfds uses the annotations, COCO's official JSON, where they are there.
    root: str = ""
    train_annotations: str = "annotations/instances_train2017.json"  # to train on
    train_images: str = "train2017"  # folder of their images
    val_annotations: str = "annotations/instances_val2017.json"  # to evaluate on
    val_images: str = "val2017"  # folder of their images
    cache_dir: str = "~/.cache/pse_jax"  # generated data sets and compiled programs live here
    shapes: ShapesConfig = dataclasses.field(default_factory=ShapesConfig)
    outside_images: bool = False  # whether file names may lead out of the image folder
    # apply: photos are turned upright, as people see and label them; ignore: pixels as stored.
    # Where the annotated width and height fit one of the two only, that one is taken.
    exif: Literal["apply", "ignore"] = "apply"
    resize: Literal["fcos", "detectron2", "mmdet", "torchvision"] = "fcos"  # rounding and filter
    short_side: PositiveInt = 800  # px; the short side is resized to this, if long_side allows
    long_side: PositiveInt = 1333  # px; the most that the long side may have
    # px; in training, the short side of each batch is one of these, at random; none: short_side
    jitter: Annotated[tuple[int, ...], DISTINCT] = ()
    buckets: PositiveInt = 4  # most static image shapes in training, chosen from the sizes
    batch_size: PositiveInt = 16  # images per step, over all devices
    # train on the first so many training images that have objects, and evaluate on the same:
    # train.py --overfit, which also turns off what augments them; 0: off
    overfit: NonNegativeInt = 0
    flip: Share = 0.5  # probability of a horizontal flip
    # Changes of training images that the paper does not make (augment.py); 0 and (1, 1): none
    flip_vertical: Share = 0.0  # probability that top becomes bottom: microscope or aerial images
    # drawn for each image; over 1: a random window is magnified, under 1: the image shrinks
    zoom: Annotated[tuple[float, float], RANGE] = (1.0, 1.0)
    brightness: Share = 0.0  # 0.2: times 0.8 to 1.2; contrast and saturation likewise
    contrast: Share = 0.0  # distance from the image's mean grey, times 0.8 to 1.2 for 0.2
    saturation: Share = 0.0  # distance from each pixel's own grey, likewise
    hue: Share = 0.0  # 0.05: turned by up to a twentieth of the colour circle, either way
    keep_empty: bool = False  # train on images without objects too; the reference drops them
    # images of classes that fewer than this share of the images show are seen more often an epoch,
    # sqrt(threshold / share) times (LVIS: 0.001); 0: never
    repeat_threshold: Share = 0.0
    threads: PositiveInt = 8  # that decode and resize
    prefetch: PositiveInt = 4  # batches prepared ahead
    cache_gb: NonNegative = 0.0  # GB (1e9 bytes) a process for decoded training images; 0: none


@dataclasses.dataclass
class InferenceConfig:
    """From scores and distances to detections."""

    score_threshold: Share = 0.05  # detections with a lower score are left out
    threshold_by: Literal["class", "final"] = "class"  # with a quality branch: on which score
    top_k_by: Literal["class", "final"] = "final"  # the same for the candidates of a level
    sqrt_score: bool = False  # with a quality branch: the score is the square root of the product
    top_k: PositiveInt = 1000  # candidates per level before NMS
    nms_threshold: Share = 0.6  # IoU over which a lower-scored box of the same class goes
    max_detections: PositiveInt = 100  # per image
    clip_first: bool = True  # cut boxes to the image before NMS; AdelaiDet: after
    inclusive_boxes: bool = False  # maskrcnn-benchmark's: edges in 0..W-1, a width is x2 - x1 + 1
    batch_size: PositiveInt = 16  # images per step, over all devices


@dataclasses.dataclass
class TrainConfig:
    """How often things happen, in steps; and what changes no result."""

    accumulate: PositiveInt = 1  # parts in which a batch passes the network, for want of memory

    log_every: PositiveInt = 20  # steps between two rows of metrics.jsonl and lines of the log
    checkpoint_every: PositiveInt = 1000  # steps between two states to resume from
    eval_every: NonNegativeInt = 10_000  # steps between two evaluations; 0: only at the end
    # evaluations of eval_every without a better AP that end the run early; 0: never
    patience: NonNegativeInt = 0
    keep_checkpoints: PositiveInt = 2  # so many of the newest states are kept, besides the best
    max_bad_steps: PositiveInt = 20  # so many non-finite steps in a row stop the run
    tensorboard: bool = True  # whether to write DIR/tensorboard too
    report: bool = True  # whether to keep DIR/report.html, made anew after evaluations
    compilation_cache: bool = True  # whether compiled programs are kept in data.cache_dir


@dataclasses.dataclass
class Config:
    """One experiment."""

    name: str = "experiment"  # the run's, in logs; its folder is runs/NAME by default
    seed: NonNegativeInt = 0  # of the parameters and of the order of the images
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    targets: TargetConfig = dataclasses.field(default_factory=TargetConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    inference: InferenceConfig = dataclasses.field(default_factory=InferenceConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)


def get(config: Config, path: str) -> Any:
    """The value at a dotted path, `get(config, "data.root")`."""
    return functools.reduce(getattr, path.split("."), config)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted path, type with its bounds, and value of every field that is not a section."""
    types = typing.get_type_hints(type(node), include_extras=True)
    for name, value in vars(node).items():
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, types[name], value


def differences(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted paths at which two configurations differ, with both values."""
    left, right = ({path: value for path, _, value in leaves(config)} for config in (a, b))
    return {path: (left[path], right[path]) for path in left if left[path] != right[path]}


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain containers, ready for JSON."""
    return dataclasses.asdict(config)


# The config.json of older runs: fields that had another name, and fields that were one with another
# of their section, whose value they then had.
RENAMED = {"config.inference.root": "sqrt_score"}
SPLIT_OFF = {"config.loss": {"target_smooth": "iou_smooth"}}


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of `to_dict`, also after JSON; ConfigError for a field that is not known."""
    return _fill(Config(), values, "config")


def _fill(node: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{where} is {values!r}; it must be a section, with names and values")
    older = {new: values[old] for new, old in SPLIT_OFF.get(where, {}).items() if old in values}
    values = older | values
    for name, value in values.items():
        name = RENAMED.get(f"{where}.{name}") or name
        if name not in vars(node):
            known = ", ".join(vars(node))
            raise ConfigError(f"{where}.{name} is unknown to this version, which has {known}")
        current = getattr(node, name)
        if dataclasses.is_dataclass(current):
            value = _fill(current, value, f"{where}.{name}")
        elif (type(current), type(value)) in ((tuple, list), (float, int)):
            value = type(current)(value)
        setattr(node, name, value)
    return node
