"""A configuration small enough to train inside a test; also `--config tests/tiny_run.py`."""

import dataclasses
from pathlib import Path

from pse_jax.config import (
    Config,
    DataConfig,
    InferenceConfig,
    OptimizerConfig,
    ShapesConfig,
    TargetConfig,
    TrainConfig,
)
from tests import tiny

MODEL = dataclasses.replace(
    tiny.MODEL, pixel_mean=(127.5, 127.5, 127.5), pixel_std=(64.0, 64.0, 64.0)
)


def get_config() -> Config:
    """For train.py."""
    return config(Path("~/.cache/pse_jax"))


def config(cache_dir: Path, **train: int) -> Config:
    """Six steps of eight 64-px images."""
    return Config(
        name="tiny",
        model=dataclasses.replace(MODEL),
        targets=TargetConfig(size_bounds=(16, 32, 64, 128)),
        optimizer=OptimizerConfig(
            learning_rate=0.01, steps=6, milestones=(4,), warmup_steps=2, clip_norm=10.0
        ),
        data=DataConfig(
            source="shapes",
            cache_dir=str(cache_dir),
            shapes=ShapesConfig(train_images=24, val_images=10, image_size=64),
            short_side=64,
            long_side=64,
            buckets=1,
            batch_size=8,
            threads=2,
        ),
        inference=InferenceConfig(batch_size=8, top_k=100, max_detections=20),
        train=TrainConfig(
            **{
                "log_every": 2,
                "checkpoint_every": 2,
                "eval_every": 0,
                "tensorboard": False,
                "report": False,
            }
            | train
        ),
    )
