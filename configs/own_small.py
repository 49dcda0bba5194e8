"""Your own photos, from scratch, on two CPU cores in minutes: docs/tutorial.md.

    python train.py --config configs/own_small.py --config.data.root=DATA --workdir runs/own

DATA is a folder in COCO's format, as `python -m pse_jax convert` writes it. On a GPU: own.py.
"""

from pse_jax.config import (
    Config,
    DataConfig,
    InferenceConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TargetConfig,
    TrainConfig,
)


def get_config() -> Config:
    batch = 8
    return Config(
        name="own_small",
        model=ModelConfig(
            depth=10,
            width=16,
            norm="gn",  # trained from scratch
            norm_groups=8,
            frozen_stages=0,
            fpn_channels=48,
            head_convs=2,
            head_groups=8,
            head_init_std=0.05,
            distances="relu",
            channel_order="rgb",
            pixel_mean=(127.5, 127.5, 127.5),
            pixel_std=(64.0, 64.0, 64.0),
        ),
        targets=TargetConfig(size_bounds=(32, 64, 128, 256), center_radius=1.5),
        loss=LossConfig(association="pse", box="giou"),
        optimizer=OptimizerConfig(
            learning_rate=0.04,
            base_batch=batch,
            steps=2400,
            milestones=(1200, 1800, 2200),
            gamma=0.3,
            warmup_steps=100,
            warmup="linear",
            warmup_factor=0.01,
            clip_norm=10.0,
            ema_decay=0.998,
        ),
        data=DataConfig(
            source="coco",
            short_side=240,
            long_side=320,
            buckets=2,
            batch_size=batch,
            flip_vertical=0.5,
            zoom=(0.75, 1.4),
            brightness=0.15,
            contrast=0.15,
            saturation=0.15,
            hue=0.02,
            threads=2,
            cache_gb=1.0,
        ),
        inference=InferenceConfig(batch_size=8, top_k=300),
        train=TrainConfig(log_every=50, checkpoint_every=600, eval_every=1200),
    )
