"""README.md of an exported model, for people: what it is, how good, how to run it."""

from collections.abc import Sequence
from typing import Any

METRICS = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR100", "PCC")
SHOWN = 100  # classes that are listed; model.json has all
LICENCE = """The program was written by pse-jax (Apache-2.0). The weights carry the terms of what
they were learnt from: the training images and their labels{start}. Nothing here grants a right to
those."""


def render(described: dict[str, Any], examples: dict[str, str]) -> str:
    """The model card.

    Args:
        described: the content of model.json.
        examples: by format, lines of Python that run it.
    """
    parts = [
        f"# {described['name']}",
        _what(described),
        *_numbers(described),
        "## How it was trained",
        _training(described["config"], described["step"]),
        "## What it finds",
        _classes(described["labels"], described["threshold"]),
        "## How to run it",
        _input(described["input"]),
    ]
    for format, artefact in described["artefacts"].items():
        parts += _artefact(format, artefact, examples[format])
    start = described["config"]["model"]["init_from"]
    parts += [
        "## How to make it again",
        f"    {described['command']}",
        f"from {described['source']}, with "
        + ", ".join(f"{name} {version}" for name, version in described["versions"].items())
        + f", on {described['exported']}.",
        "## Licence",
        LICENCE.format(start=f", and the weights that it started from, `{start}`" if start else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _what(described: dict[str, Any]) -> str:
    model, classes = described["config"]["model"], len(described["labels"])
    return (
        f"An object detector for {classes} class{'es' if classes > 1 else ''}: FCOS on a "
        f"ResNet-{model['depth']} with a feature pyramid. It takes the pixels of photos as they "
        "are and gives boxes in those pixels. For programs, all of this is in model.json."
    )


def _numbers(described: dict[str, Any]) -> list[str]:
    found = described["evaluation"]
    if not found:
        return ["Not evaluated: there are no numbers for this checkpoint."]
    names = [name for name in METRICS if found.get(name) is not None]
    cells = [
        f"{found[name]:.3f}" if name == "PCC" else f"{found[name] * 100:.1f}" for name in names
    ]
    images, objects = found.get("images"), found.get("objects")
    text = (
        f"On {images} validation images with {objects} objects: COCO's average precision and "
        "recall in per cent; PCC is the correlation of scores with IoU."
    )
    return ["## How good it is", text, _table(names, [cells])]


def _training(config: dict[str, Any], step: int) -> str:
    if not step:
        return "Elsewhere: it was loaded from a published detector's file."
    data, loss, optimizer = config["data"], config["loss"], config["optimizer"]
    association = loss["association"]
    source = {"shapes": "generated shapes", "tfds": "coco/2017 of tensorflow_datasets"}
    names = f"{data['train_annotations']} and {data['train_images']}"
    rows = [
        ("steps", f"{step} of {data['batch_size']} images"),
        ("data", source.get(data["source"], names)),
        ("images", f"short side {data['short_side']} px, long side at most {data['long_side']} px"),
        ("started from", config["model"]["init_from"] or "random weights"),
        ("loss", f"{loss['classification']} + {loss['box']}"
                 + ("" if association == "none" else f" + {association}")),
        ("learning rate", f"{optimizer['learning_rate']:g}"),
    ]  # fmt: skip
    return _table(("what", "value"), rows) + "\n\nmodel.json holds the whole configuration."


def _classes(labels: Sequence[dict[str, Any]], overall: float | None) -> str:
    def threshold(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    rows = [(str(label["id"]), label["name"], threshold(label["threshold"])) for label in labels]
    text = _table(("category id", "name", "threshold"), rows[:SHOWN])
    if len(rows) > SHOWN:
        text += f"\n\nand {len(rows) - SHOWN} more, in model.json."
    if overall is None:
        return text + "\n\nNo thresholds were measured: choose the lowest score that serves you."
    return text + (
        "\n\nThreshold: the score of the best F1 at IoU 0.5 on the validation images; "
        f"{overall:.2f} over all classes. The model gives more: drop what is below."
    )


def _input(rules: dict[str, Any]) -> str:
    resize = rules["resize"]
    return (
        f"Pixels: {rules['pixels']}. Do not resize or normalise them: the model does, the short "
        f"side to {resize['short_side']} px and the long one to at most {resize['long_side']} px "
        f'(rule "{resize["rule"]}").'
    )


def _artefact(format: str, artefact: dict[str, Any], example: str) -> list[str]:
    def rows(kind: str) -> list[tuple[str, ...]]:
        return [
            (f"`{t['name']}`", f"{t['dtype']} [{', '.join(map(str, t['shape']))}]", t["meaning"])
            for t in artefact[kind]
        ]

    parts = [
        f"### {format}: {', '.join(artefact['files'])}",
        f"```python\n{example.strip()}\n```",
        _table(("input", "type", "meaning"), rows("inputs")),
        _table(("output", "type", "meaning"), rows("outputs")),
        "\n".join(f"- {note}" for note in artefact["notes"]),
    ]
    return [part for part in parts if part]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )
