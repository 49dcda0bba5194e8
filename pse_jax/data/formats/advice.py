"""What to do with a folder or file that is not what was asked for, in one sentence."""

from pathlib import Path

from pse_jax.data.formats.look import CONVERTIBLE, USABLE, Found, look

# JSON that could not be read as such: what it was to be is no news.
CUT_OFF = ("COCO", "coco", "COCO results", "JSON file")


def command(found: Found) -> str:
    """The command that converts a data set into a folder beside it."""
    return f"python -m pse_jax convert {found.path} {beside(found)}"


def beside(found: Found) -> Path:
    """Where a converted data set could go."""
    path = found.path.resolve()
    return found.path.parent / f"{path.name}-coco" if found.path.name else Path(f"{path}-coco")


def advice(found: Found) -> str:
    """How it becomes usable."""
    if found.kind in CONVERTIBLE:
        return (
            f"turn it into COCO's format with `{command(found)}`, then use "
            f"--config.data.root={beside(found)}"
        )
    if found.kind in USABLE and "train" in found.parts and "val" in found.parts:
        return f"use it with --config.data.root={found.path}"
    if found.kind in USABLE and "train" in found.parts:
        check = f"python -m pse_jax check --config own_small --config.data.root={found.path}"
        return f"it has no val split; `{check} --split=0.2` makes one beside it"
    if found.kind in USABLE:
        return "it has no train split; name one with --config.data.train_annotations=FILE"
    return found.remedy


def explained(path: Path, wanted: str) -> str:
    """`PATH is a data set in ...: turn it ...`, or "" where nothing is known of it.

    Args:
        path: a folder or file that is there.
        wanted: what was expected, for messages: "a JSON file of annotations".
    """
    found = look(path)
    if not found.kind or (path.is_file() and found.kind in CUT_OFF):
        return ""
    return f"{path} is {found.what}, not {wanted}; {advice(found)}"
