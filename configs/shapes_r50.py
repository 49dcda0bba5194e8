"""The paper's model on generated photos of 512 px: the comparison of losses, for one GPU.

    python -m pse_jax sweep --config configs/shapes_r50.py --table I --seeds 3 --out runs/shapes_r50

ResNet-50-FPN with the paper's head, from scratch and therefore with group norm; 20,000 images and
6,000 steps of 16. The paper's schedule, shortened: a tenth of the rate after 2/3 and after 8/9 of
the run. Not yet run to its end: no duration, no score.
"""

from pse_jax.config import Config, DataConfig, InferenceConfig, ModelConfig, ShapesConfig


def get_config() -> Config:
    config = Config(
        name="shapes_r50",
        model=ModelConfig(
            norm="gn",  # trained from scratch
            frozen_stages=0,
            channel_order="rgb",
            pixel_mean=(127.5, 127.5, 127.5),
            pixel_std=(64.0, 64.0, 64.0),
        ),
        data=DataConfig(
            source="shapes",
            shapes=ShapesConfig(
                train_images=20_000, val_images=2000, image_size=512, smallest=0.07
            ),
            short_side=512,
            long_side=512,
            buckets=1,
            batch_size=16,
        ),
        inference=InferenceConfig(batch_size=50),
    )
    config.optimizer.steps = 6000
    config.optimizer.milestones = (4000, 5333)
    config.optimizer.clip_norm = 10.0
    config.train.checkpoint_every = 2000
    config.train.eval_every = 0
    return config
