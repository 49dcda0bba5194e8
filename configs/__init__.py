"""One experiment per file; `--config NAME` or `--config configs/NAME.py` trains it.

The package sees this folder as pse_jax.configs, through a link, so that a wheel ships it too.
"""
