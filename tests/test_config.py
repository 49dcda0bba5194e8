"""The configuration: the paper's values, what is refused and with which words, and flags."""

import dataclasses
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pse_jax import config as configuration
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    return runpy.run_path(str(CONFIGS / name))["get_config"]()


@pytest.mark.parametrize("file", [path.name for path in sorted(CONFIGS.glob("[!_]*.py"))])
def test_every_experiment_is_valid_and_named_after_its_file(file, monkeypatch):
    config = load(file, monkeypatch)
    validate(config)
    assert file == f"{config.name}.py"
    again = configuration.from_dict(json.loads(json.dumps(configuration.to_dict(config))))
    assert again == config and configuration.differences(again, config) == {}


PAPER = {
    "model.depth": 50,
    "model.norm": "frozen_bn",
    "model.frozen_stages": 2,
    "model.fpn_channels": 256,
    "model.head_convs": 4,
    "model.prior": 0.01,
    "model.channel_order": "bgr",
    "model.pixel_mean": (102.9801, 115.9465, 122.7717),
    "model.pixel_std": (1.0, 1.0, 1.0),
    "targets.size_bounds": (64, 128, 256, 512),
    "targets.center_radius": 0.0,
    "loss.focal_alpha": 0.25,
    "loss.focal_gamma": 2.0,
    "loss.box_weight": 1.0,
    "loss.association": "pse",
    "loss.beta": 1.0,
    "loss.k": 1.0,
    "loss.score": "max",
    "optimizer.learning_rate": 0.01,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 1e-4,
    "optimizer.bias_lr_factor": 2.0,
    "optimizer.bias_weight_decay": 0.0,
    "optimizer.steps": 90_000,
    "optimizer.milestones": (60_000, 80_000),
    "optimizer.gamma": 0.1,
    "optimizer.warmup_steps": 500,
    "optimizer.warmup_factor": 1 / 3,
    "model.init_from": "msra_r50",
    "optimizer.warmup": "constant",
    "optimizer.clip_norm": 0.0,
    "data.short_side": 800,
    "data.long_side": 1333,
    "data.batch_size": 16,
    "data.flip": 0.5,
    "data.keep_empty": False,
    "inference.score_threshold": 0.05,
    "inference.top_k": 1000,
    "inference.nms_threshold": 0.6,
    "inference.max_detections": 100,
}


def test_the_papers_values(monkeypatch):
    config = load("coco_pse.py", monkeypatch)
    assert {path: configuration.get(config, path) for path in PAPER} == PAPER


@pytest.mark.parametrize("data", ["coco", "shapes"])
def test_a_baseline_differs_in_the_association_alone(data, monkeypatch):
    pse, fcos = (load(f"{data}_{loss}.py", monkeypatch) for loss in ("pse", "fcos"))
    assert configuration.differences(pse, fcos) == {
        "name": (f"{data}_pse", f"{data}_fcos"),
        "loss.association": ("pse", "none"),
    }


def test_a_dictionary_of_another_version_is_refused():
    with pytest.raises(ConfigError, match=r"config\.loss\.eiou is unknown to this version"):
        configuration.from_dict({"loss": {"eiou": 1}})
    with pytest.raises(ConfigError, match=r"config\.loss is 3; it must be a section"):
        configuration.from_dict({"loss": 3})


@pytest.mark.parametrize(
    "flag, message",
    [
        (
            "--config.learnin_rate=1",
            "config has no field 'learnin_rate'; did you mean config.optimizer.learning_rate?",
        ),
        ("--config.optimizer.lr=1", "it has learning_rate, momentum, weight_decay, bias_lr_factor"),
        ("--config.optimiser.steps=1", "did you mean config.optimizer?"),
        ("--config.batch_size=1", "config.data.batch_size or config.inference.batch_size?"),
        ("--config.loss.bta=2", "config.loss has no field 'bta'; did you mean config.loss.beta?"),
        ("--config.optimizer.milestones[0]=5", "did you mean config.optimizer.milestones?"),
        ("--config.zzzz=1", "it has name, seed, model,"),
        (
            "--config.optimizer=5",
            "config.optimizer is a section; set one of optimizer.learning_rate",
        ),
        ("--config.loss.beta.x=5", "config.loss.beta is a value, not a section"),
        (
            "--config.optimizer.steps=abc",
            "--config.optimizer.steps=abc: config.optimizer.steps must be a whole number, such as "
            "90000",
        ),
        ("--config.optimizer.steps=1.5", "must be a whole number"),
        (
            "--config.optimizer.steps abc",
            "--config.optimizer.steps=abc: config.optimizer.steps must",
        ),
        ("--config.optimizer.steps", "must be a whole number"),
        ("--config.optimizer.learning_rate=nan", "must be a number, such as 0.01"),
        ("--config.optimizer.milestones=abc", "must be whole numbers, such as (60000, 80000)"),
        ("--config.optimizer.milestones=(1.5,2)", "must be whole numbers, such as (60000, 80000)"),
        ("--config.model.pixel_mean=1,2", "must be 3 numbers, such as (102.9801,"),
        ("--config.data.keep_empty=maybe", "config.data.keep_empty must be true or false"),
        ("--noconfig.data.root", "config.data.root must be text"),
        ("--config.loss.beta=-1", "config.loss.beta is -1.0; it must be 0 or greater"),
        ("--config.model.depth=49", "one of 10, 18, 34, 50, 101"),
        ("--workdir=x", "workdir"),
        ("loss.beta=2", "'loss.beta=2' is not a flag; write --config.section.field=value"),
    ],
)
def test_flags_that_are_refused(flag, message):
    with pytest.raises(ConfigError) as caught:
        override(Config(), flag.split(" "))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "flag, changed",
    [
        ("--config.optimizer.milestones=(10,20)", {"optimizer.milestones": (10, 20)}),
        ("--config.optimizer.milestones=10,20", {"optimizer.milestones": (10, 20)}),
        ("--config.optimizer.milestones=10", {"optimizer.milestones": (10,)}),
        ("--config.optimizer.milestones=()", {"optimizer.milestones": ()}),
        ("--config.model.pixel_std=2,2,2.5", {"model.pixel_std": (2, 2, 2.5)}),
        ("--config.optimizer.learning_rate=1", {"optimizer.learning_rate": 1.0}),
        ("--config.data.shapes.clutter=1e-3", {"data.shapes.clutter": 0.001}),
        ("-config.data.root=/data", {"data.root": "/data"}),
        ("--config.data.root=a b", {"data.root": "a b"}),
        ("--config.name=5", {"name": "5"}),
        ("--config.data.keep_empty", {"data.keep_empty": True}),
        ("--config.data.keep_empty=1", {"data.keep_empty": True}),
        ("--noconfig.train.tensorboard", {"train.tensorboard": False}),
        ("--config.seed=1", {"seed": 1}),
        ("--config.model.depth=18", {"model.depth": 18}),
        ("--config.loss.association=tc", {"loss.association": "tc"}),
    ],
)
def test_flags_set_their_fields_and_nothing_else(flag, changed):
    before = Config()
    found = configuration.differences(before, override(before, [flag]))
    assert {path: new for path, (_, new) in found.items()} == changed
    assert before == Config()  # unchanged


def test_several_flags_the_last_of_a_field_counts():
    flags = ["--config.seed=1", "--config.optimizer.steps", "5", "--config.seed=2"]
    changed = override(Config(), flags)
    assert (changed.seed, changed.optimizer.steps) == (2, 5)
    assert override(Config(), []) == Config()


def test_a_whole_number_in_a_float_field_takes_any_number_as_its_flag():
    config = Config()
    config.optimizer.weight_decay = 0
    assert override(config, ["--config.optimizer.weight_decay=1e-4"]) == Config()


def test_the_config_of_an_older_run_still_loads():
    config = configuration.from_dict({"inference": {"root": True}, "data": {"root": "/data"}})
    assert config.inference.sqrt_score is True and config.data.root == "/data"
    values = configuration.to_dict(Config())  # trained when one field was for boxes and scores
    del values["loss"]["target_smooth"]
    older = configuration.from_dict(values)
    assert configuration.differences(Config(), older) == {"loss.target_smooth": (0.0, 1.0)}
    assert configuration.from_dict(configuration.to_dict(older)) == older


def test_flags_are_checked_without_jax():
    """A wrong flag is answered at once."""
    code = (
        "import sys; from pse_jax.config import Config\n"
        "from pse_jax.config_checks import override\n"
        "override(Config(), ['--config.seed=1']); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("loss.association", "psa", "one of none, pse, pce, tc, pearson"),
        (
            "loss.classification",
            "qlf",
            "one of focal, iou_balanced, qfl, vfl, tal, mal, ia_bce;",
        ),
        ("model.quality", "centreness", "one of none, centerness, iou; did you mean centerness?"),
        ("loss.box", "diou", "one of iou, giou; did you mean iou?"),
        ("loss.association", "psa", "; did you mean pse?"),
        ("model.depth", 49, "one of 10, 18, 34, 50, 101"),
        ("model.depth", "50", "a whole number, such as 50"),
        ("data.shapes.image_size", 32, "at least 48 px"),
        ("data.shapes.smallest", 0.01, "from 0.05 to 1"),
        ("data.shapes.smallest", 0.9, "at most largest (0.8)"),
        ("seed", -1, "0 or greater"),
        ("optimizer.steps", 0, "greater than 0"),
        ("optimizer.steps", 1.5, "a whole number, such as 90000"),
        ("optimizer.steps", True, "a whole number"),
        ("optimizer.learning_rate", float("inf"), "a number, such as 0.01"),
        ("optimizer.learning_rate", "0.1", "a number, such as 0.01"),
        ("optimizer.milestones", (20, 10), "greater than 0 and strictly increasing"),
        ("optimizer.milestones", (0, 10), "greater than 0 and strictly increasing"),
        ("optimizer.milestones", [10, 20], "whole numbers, such as (60000, 80000)"),
        ("optimizer.momentum", 90, "between 0 and 1"),
        ("targets.size_bounds", (64, 128), "4 whole numbers, such as (64, 128, 256, 512)"),
        ("model.pixel_std", (1.0, 0.0, 1.0), "greater than 0"),
        ("model.prior", 0.0, "inside (0, 1)"),
        ("model.head_groups", 7, "a divisor of the 256 channels"),
        ("data.short_side", 2000, "at most long_side (1333)"),
        ("data.root", None, "text"),
        ("data.keep_empty", "no", "true or false"),
        ("inference.nms_threshold", 1.1, "between 0 and 1"),
    ],
)
def test_values_that_are_refused(path, value, message):
    config = Config()
    *sections, name = path.split(".")
    setattr(configuration.get(config, ".".join(sections)) if sections else config, name, value)
    with pytest.raises(ConfigError) as caught:
        validate(config)
    assert str(caught.value).startswith(f"config.{path} is {value!r}; it must be ")
    assert message in str(caught.value)


def test_knobs_of_the_generated_data_are_checked_too():
    config = Config()
    config.data.shapes = dataclasses.replace(config.data.shapes, clutter=4.0)
    with pytest.raises(
        ConfigError, match=r"^config\.data\.shapes\.clutter is 4\.0; it must be between 0 and 1"
    ):
        validate(config)
