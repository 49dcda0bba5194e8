"""DIR/times.json: on what the processes that trained a run have spent their time.

{"seconds": {kind: s}, "sessions": [{"began": ISO 8601, "from_step", "to_step", "seconds": {...}}]}
"""

import json
from pathlib import Path
from typing import Any

# Until the first batch is asked for; compiling programs; waiting for data; computing steps;
# evaluating; writing and waiting for checkpoints.
KINDS: tuple[str, ...] = ("start", "compile", "data", "step", "evaluate", "save")


def read_times(path: Path) -> dict[str, Any]:
    """What times.json holds; zeros and no session if it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        return summed([one for one in content["sessions"] if set(one["seconds"]) >= set(KINDS)])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return summed([])


def summed(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of the file: the sessions and the sum of their seconds."""
    seconds = {kind: round(sum(one["seconds"][kind] for one in sessions), 3) for kind in KINDS}
    return {"seconds": seconds, "sessions": sessions}
