"""What a sweep compares, as plain data: the variants, and the tables that they make up.

A variant is what it changes of the baseline, as `--config.` flags would; the baseline is what it
changes of the configuration file.
"""

import dataclasses

from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES

Overrides = dict[str, str]  # {"loss.beta": "2"}

BASELINE = "baseline"
BASELINE_OVERRIDES: Overrides = {
    "loss.association": "none",
    "loss.classification": "focal",
    "loss.beta": "1",  # the setting of the paper's Tables I and II
    "loss.k": "1",
    "loss.score": "max",
    "model.quality": "none",
}

# Every loss: each changes one thing of the baseline, an association also the score that it ties.
LOSSES: dict[str, Overrides] = {
    **{"iou_branch" if name == "iou" else name: {"model.quality": name} for name in QUALITIES},
    **{name: {"loss.classification": name} for name in CLASSIFICATIONS if name != "focal"},
    **{
        f"{name}{suffix}": {"loss.association": name, **score}
        for name in ASSOCIATIONS
        for suffix, score in (("", {}), ("_target", {"loss.score": "target"}))
    },
}

# The paper's Table III; the text names β = 0.25, 1 and 1.25 and k = 1, the other values are ours.
GRID: dict[str, Overrides] = {
    "pse" if value == "1" else f"pse_{field}{value}": {
        "loss.association": "pse",
        f"loss.{field}": value,
    }
    for field, values in (
        ("k", ("0.5", "0.75", "1", "1.25", "1.5")),
        ("beta", ("0.25", "0.5", "0.75", "1", "1.25", "2")),
    )
    for value in values
}

VARIANTS: dict[str, Overrides] = {BASELINE: BASELINE_OVERRIDES, **GRID, **LOSSES}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Variants below one another, metrics beside one another."""

    title: str
    variants: tuple[str, ...]
    metrics: tuple[str, ...]


AP = ("AP", "AP50", "AP75", "APS", "APM", "APL")
CORRELATION = ("PCC", "SCC", "KCC", "rho_img", "rho_cls")
OVERVIEW = ("AP", "AP50", "AP75", *CORRELATION, "oracle_gap", "LaECE")

TABLES: dict[str, Comparison] = {
    "I": Comparison(
        "Table I: the association losses", (BASELINE, "pse", "pce"), (*AP, "AR1", "AR10", "AR100")
    ),
    "II": Comparison(
        "Table II: score and IoU of the final detections",
        (BASELINE, "pse", "pce"),
        ("detections", *CORRELATION, "oracle_AP", "oracle_gap", "LaECE"),
    ),
    "III": Comparison(
        "Table III: slope k and weight β of PSE", (BASELINE, *GRID), (*AP, "PCC", "oracle_gap")
    ),
    "losses": Comparison("Every loss of the family", (BASELINE, *LOSSES), OVERVIEW),
}
