"""The plain files beside an exported model: model.json for programs, README.md for people."""

import datetime
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pse_jax.config import to_dict
from pse_jax.detector import Detector
from pse_jax.errors import WriteError
from pse_jax.export import card
from pse_jax.export.artefact import Artefact
from pse_jax.files import make_folder, write_together

OWN = ("model.json", "README.md", "weights.npz", "model.stablehlo", "model.onnx")


def check_folder(folder: Path) -> None:
    """Makes the folder; what an earlier export left in it will be replaced.

    Raises:
        WriteError: if it cannot be made or written to, or holds files that no export wrote.
    """
    make_folder(folder, "the folder of the exported model")
    others = sorted(path.name for path in folder.iterdir() if path.name not in OWN)
    if others:
        raise WriteError(
            f"{folder} holds other files ({', '.join(others[:5])}); give --out a new or empty "
            "folder, or that of an earlier export, which is replaced"
        )


def write(
    detector: Detector,
    folder: Path,
    artefacts: Sequence[Artefact],
    *,
    command: str,
    source: str,
    evaluation: dict[str, Any] | None = None,
) -> list[str]:
    """Writes the models, model.json and README.md, together; returns lines about them.

    Args:
        detector: that was exported.
        folder: checked by `check_folder`.
        artefacts: what each format's `make` returned.
        command: that makes the same again.
        source: the run or the file that the detector was loaded from.
        evaluation: the content of eval_STEP.json, if there is one.

    Raises:
        WriteError: if a file cannot be written; then none is.
    """
    described = describe(detector, artefacts, command=command, source=source, evaluation=evaluation)
    contents: dict[Path, str | bytes] = {}
    for artefact in artefacts:
        contents |= {folder / name: content for name, content in artefact.files.items()}
    sizes = {path.name: len(content) for path, content in contents.items()}
    contents[folder / "model.json"] = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    contents[folder / "README.md"] = card.render(
        described, {a.format: a.example for a in artefacts}
    )
    write_together(contents, "the exported model")
    for name in OWN:  # of an earlier export with other formats
        if folder / name not in contents:
            (folder / name).unlink(missing_ok=True)
    return [f"wrote {folder / name}: {size / 1e6:.1f} MB" for name, size in sizes.items()] + [
        f"wrote {folder / 'model.json'} and README.md: labels, thresholds, how to run it"
    ]


def describe(
    detector: Detector,
    artefacts: Sequence[Artefact],
    *,
    command: str,
    source: str,
    evaluation: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of model.json; see docs/export.md for its fields."""
    config = detector.config
    categories = detector.categories
    thresholds = detector.thresholds
    own = thresholds.per_class if thresholds else {}
    turned = "upright (EXIF orientation applied)"
    stored = "as stored (EXIF orientation ignored)"
    return {
        "format_version": 1,
        "name": config.name,
        "source": source,
        "step": detector.step,
        "exported": datetime.date.today().isoformat(),
        "command": command,
        "labels": [
            {"id": id, "name": name, "threshold": own.get(unique)}
            for id, name, unique in zip(
                categories.ids, categories.names, categories.unique_names, strict=True
            )
        ],
        "threshold": thresholds.overall if thresholds else None,
        "input": {
            "pixels": "uint8, RGB, [height, width, 3], "
            + (turned if config.data.exif == "apply" else stored),
            "resize": {
                "rule": config.data.resize,
                "short_side": config.data.short_side,
                "long_side": config.data.long_side,
            },
            "normalisation": "inside the model",
        },
        "artefacts": {artefact.format: artefact.described() for artefact in artefacts},
        "evaluation": evaluation,
        "versions": {
            name: importlib.metadata.version(name) for name in ("pse-jax", "jax", "jaxlib")
        },
        "config": to_dict(config),
    }
