"""The same system, small, on generated data: a detector on two CPU cores in minutes.

    python train.py --config configs/shapes_pse.py

About four minutes on 2 CPU cores. Expect AP 53.5, AP75 57.9, PCC 0.520 (seed 0, jax 0.10.2);
another number of cores rounds differently: on one core, the same seed gave 52.3.
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
    batch = 8  # small batches learn more from each image here
    return Config(
        name="shapes_pse",
        model=ModelConfig(
            depth=10,
            width=16,
            norm="gn",  # trained from scratch
            norm_groups=8,
            frozen_stages=0,
            fpn_channels=48,
            head_convs=2,
            head_groups=8,
            head_init_std=0.05,  # 1/sqrt(fan_in): see Tower
            channel_order="rgb",
            pixel_mean=(127.5, 127.5, 127.5),
            pixel_std=(64.0, 64.0, 64.0),
        ),
        targets=TargetConfig(size_bounds=(32, 64, 128, 256)),
        loss=LossConfig(association="pse"),
        optimizer=OptimizerConfig(
            learning_rate=0.035,
            steps=2400,
            milestones=(1200, 1770, 2190),
            gamma=0.3,
            warmup_steps=100,
            warmup="linear",
            warmup_factor=0.01,
            clip_norm=10.0,
            base_batch=batch,
        ),
        data=DataConfig(
            source="shapes",
            short_side=128,
            long_side=128,
            buckets=1,  # compiling two more would take longer than padding does
            batch_size=batch,
            threads=2,
            cache_gb=0.2,  # all of them: decoding would take time of the same two cores
        ),
        inference=InferenceConfig(batch_size=50, top_k=300),
        train=TrainConfig(log_every=50, checkpoint_every=600, eval_every=0),
    )
