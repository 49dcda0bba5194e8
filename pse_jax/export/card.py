"""README.md of an exported model: what it is, how good, how to run it."""

from typing import Any


def render(described: dict[str, Any]) -> str:
    """The model card, of the content of model.json."""
    return f"# {described['name']}\n"
