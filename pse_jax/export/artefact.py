"""What every format's `make` returns: the bytes of its files, and how they are used."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of an exported model."""

    name: str
    dtype: str  # "uint8", "float32", ...
    shape: tuple[str | int, ...]  # a name for a size that the caller chooses
    meaning: str  # with units


@dataclasses.dataclass(frozen=True)
class Artefact:
    """One exported model in one format."""

    format: str  # "stablehlo" or "onnx"
    files: dict[str, bytes]  # by name, the model's first
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    limits: dict[str, Any]  # what it cannot take, by name
    notes: tuple[str, ...]  # for people, a sentence each
    example: str  # lines of Python that run it, for the card
    readable_until: str | None = None  # ISO date, where the format promises no longer

    def described(self) -> dict[str, Any]:
        """For model.json."""
        return {
            "files": list(self.files),
            "inputs": [dataclasses.asdict(tensor) for tensor in self.inputs],
            "outputs": [dataclasses.asdict(tensor) for tensor in self.outputs],
            "limits": self.limits,
            "notes": list(self.notes),
            "readable_until": self.readable_until,
        }


def outputs(detections: int, batch: str = "b") -> tuple[Tensor, ...]:
    """What every format gives: at most `detections` an image, best first."""
    return (
        Tensor("boxes_xyxy", "float32", (batch, detections, 4),
               "left, top, right, bottom in px of the image as given, exclusive; 0 after the last"),
        Tensor("scores", "float32", (batch, detections), "in [0, 1], descending; 0 after the last"),
        Tensor("category_ids", "int32", (batch, detections),
               "ids of `labels`; -1 after the last"),
        Tensor("count", "int32", (batch,),
               "how many of the slots are detections; -1 for a size that the model cannot take"),
    )  # fmt: skip
