"""Six steps of training: the same losses and the same parameters as in PyTorch."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402

from pse_jax import distributed, models  # noqa: E402
from pse_jax.categories import Categories  # noqa: E402
from pse_jax.config import Config, LossConfig, OptimizerConfig, TargetConfig  # noqa: E402
from pse_jax.detector import Detector  # noqa: E402
from pse_jax.models.resnet import BLOCKS  # noqa: E402
from pse_jax.training import optimizer  # noqa: E402
from pse_jax.training.step import TrainState, make_train_step  # noqa: E402
from pse_jax.weights import export, published  # noqa: E402
from tests.weights import torch_fcos  # noqa: E402

SHORT = (1, 1, 1, 1)  # bottlenecks a stage
STEPS = 6
SCHEDULE = OptimizerConfig(learning_rate=0.01, warmup_steps=3, milestones=(5,), steps=STEPS)
RATES = [0.01 / 3, 0.01 / 3, 0.01, 0.01, 0.001, 0.001]  # warm-up ends at 3, the drop is at 5
BOUNDS = (32, 64, 128, 256)  # px, between the levels
CLASSES = 3
CATEGORIES = Categories((1, 2, 3), ("a", "b", "c"))


def make_batches():
    return [tiny.make_batch(seed=seed) for seed in range(STEPS)]


def assigned(boxes, labels, valid):
    """(label or -1, distances) of every location, by the rules of FCOS, one at a time."""
    side, rows = tiny.SIDE, []
    for level, stride in enumerate(torch_fcos.STRIDES):
        low = (-1, *BOUNDS)[level]
        high = (*BOUNDS, 1e8)[level]
        count = -(-side // stride)
        for i in range(count):
            for j in range(count):
                x, y = j * stride + stride // 2, i * stride + stride // 2
                best = (math.inf, -1, [1.0] * 4)
                for (x1, y1, x2, y2), label, real in zip(boxes, labels, valid, strict=True):
                    ltrb = [x - x1, y - y1, x2 - x, y2 - y]
                    area = (x2 - x1) * (y2 - y1)
                    fits = real and min(ltrb) > 0 and low <= max(ltrb) <= high
                    if fits and area < best[0]:
                        best = (area, label, ltrb)
                rows.append(best[1:])
    return [r[0] for r in rows], [r[1] for r in rows]


def torch_losses(reference, batch, pse):
    """(classification, box, association), each over the number of positives."""
    logits, distances, labels, wanted = [], [], [], []
    for i, image in enumerate(batch["image"]):
        pixels = torch_fcos.pixels_of(image, (tiny.SIDE, tiny.SIDE), reference.variant)
        outputs = reference(pixels)
        logits.append(torch.cat(outputs[0]))
        distances.append(torch.cat(outputs[1]))
        found = assigned(*(batch[k][i].tolist() for k in ("boxes", "labels", "box_valid")))
        labels += found[0]
        wanted += found[1]
    o, d = torch.cat(logits), torch.cat(distances)
    labels, wanted = torch.tensor(labels), torch.tensor(wanted)
    positive = labels >= 0
    count = positive.sum()
    assert count > 20

    target = F.one_hot(labels.clamp(min=0), CLASSES) * positive[:, None]
    p = torch.sigmoid(o)
    hit = -0.25 * (1 - p) ** 2 * F.logsigmoid(o)
    miss = -0.75 * p**2 * F.logsigmoid(-o)
    classification = torch.where(target == 1, hit, miss).sum() / count

    d, t = d[positive], wanted[positive]
    both = torch.minimum(d, t)
    inter = (both[:, 0] + both[:, 2]) * (both[:, 1] + both[:, 3])
    areas = [(b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3]) for b in (d, t)]
    union = areas[0] + areas[1] - inter
    box = -((inter + 1) / (union + 1)).log().sum() / count  # the authors' +1
    iou = (inter / union).detach()  # Eq. (7)
    tie = ((p[positive].max(dim=1).values - iou) ** 2).sum() / count
    return classification, box, tie if pse else torch.zeros(())


def torch_run(reference, batches, frozen, pse):
    """Losses of every step; trains the reference."""
    groups = []
    for name, parameter in reference.named_parameters():
        if re.match(frozen, name) or "centerness" in name:
            parameter.requires_grad_(False)
            continue
        bias = "bias" in name
        decay = 0.0 if bias else 1e-4
        groups.append({"params": [parameter], "weight_decay": decay, "factor": 2 if bias else 1})
    sgd = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    trail = []
    for batch, rate in zip(batches, RATES, strict=True):
        for group in sgd.param_groups:
            group["lr"] = rate * group["factor"]
        terms = torch_losses(reference, batch, pse)
        sgd.zero_grad()
        sum(terms).backward()
        sgd.step()
        trail.append([term.item() for term in terms])
    return trail


def our_run(config, variables, batches, mesh):
    model = models.create(config.model, CLASSES)
    sgd = optimizer.create(config.optimizer, config.model)
    zero = lambda: jnp.zeros((), jnp.int32)  # noqa: E731
    params = jax.tree.map(jnp.array, variables["params"])
    frozen = jax.tree.map(jnp.array, variables.get("frozen", {}))
    state = TrainState(zero(), params, frozen, sgd.init(params), zero(), zero())
    state = jax.device_put(state, distributed.replicated(mesh))
    step = jax.jit(make_train_step(model, sgd, config, mesh), compiler_options=tiny.FAST)
    trail = []
    for batch in batches:
        state, metrics = step(state, distributed.to_devices(batch, mesh))
        trail.append([float(metrics[name]) for name in ("cls", "box", "assoc")])
    return {"params": state.params, "frozen": state.frozen}, trail


def group_of(name):
    """("layer3", "weight"), ("layer3", "norm weight"), ("cls_tower", "bias"), ..."""
    parts = name.split(".")
    module = next(p for p in parts if p not in ("backbone", "body", "rpn", "head", "fpn"))
    normalises = re.search(r"\.bn\d|downsample\.1|_tower\.1", name)
    return module, ("norm " if normalises else "") + parts[-1]


def norms(arrays, start):
    """By group: the norm of its parameters, and of how far they moved."""
    groups = {}
    for name, array in arrays.items():
        if "running" not in name and "centerness" not in name:
            both = [array.reshape(-1), (array - start[name]).reshape(-1)]
            groups.setdefault(group_of(name), []).append(np.stack(both).astype(np.float64))
    return {k: np.linalg.norm(np.concatenate(v, axis=1), axis=1) for k, v in groups.items()}


@pytest.mark.parametrize(
    "pse, groups",
    [
        pytest.param(True, 0, id="pse"),
        pytest.param(False, 4, id="baseline-gn", marks=pytest.mark.slow),
    ],
)
def test_six_steps_of_sgd_are_those_of_pytorch(pse, groups, one_device_mesh, monkeypatch):
    monkeypatch.setitem(BLOCKS, 50, SHORT)
    variant = dataclasses.replace(
        torch_fcos.VARIANTS["fcos"], classes=CLASSES, groups=groups, tower_convs=1
    )
    with torch.no_grad():
        reference = torch_fcos.Reference(variant, SHORT, width=8, channels=64).randomise(5)
    start = torch_fcos.as_arrays(torch_fcos.renamed(reference))
    arrays = {k: v for k, v in start.items() if "centerness" not in k}
    detector = published.translate(arrays, "own", form="fcos", categories=CATEGORIES)
    model = dataclasses.replace(detector.config.model, dtype="float32", norm_groups=4)
    assert model.quality == "none" and model.norm == ("gn" if groups else "frozen_bn")
    config = Config(
        model=model,
        targets=TargetConfig(size_bounds=BOUNDS),
        loss=LossConfig(association="pse" if pse else "none"),
        optimizer=SCHEDULE,
    )
    variables = {}
    for path, leaf in detector.found.items():
        *folders, name = path.split("/")
        node = variables
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = leaf

    batches = make_batches()
    variables, ours = our_run(config, variables, batches, one_device_mesh)
    frozen = "never" if groups else r"backbone\.body\.(stem|layer1)\."
    theirs = torch_run(reference, batches, frozen, pse)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert all((tie > 0) == pse for _, _, tie in ours)

    ours = norms(export.to_official(Detector(config, CATEGORIES, variables)), start)
    theirs = norms(torch_fcos.as_arrays(torch_fcos.renamed(reference)), start)
    assert len(theirs) > 20
    for group in ours:
        np.testing.assert_allclose(ours[group], theirs[group], rtol=1e-3, err_msg=str(group))
    moved = {group[0] for group, (_, distance) in ours.items() if distance > 0}
    assert ("layer1" in moved) == (groups > 0) and {"layer2", "scales"} <= moved
