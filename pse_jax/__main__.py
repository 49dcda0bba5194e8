"""Every command: python -m pse_jax VERB."""

import difflib
import importlib
import sys
from collections.abc import Sequence

from pse_jax.errors import UserError

VERBS = {
    "train": "train a detector, or resume a run",
    "eval": "evaluate a run's checkpoint",
    "check": "read a whole data set, pixels too, and say what is wrong with it",
    "draw": "draw a run's detections beside the ground truth",
    "figures": "draw the paper's figures, of losses and of runs",
    "sweep": "train many variants of one configuration and tabulate them",
    "analyze": "measure how well the scores of any COCO results file rank its boxes",
    "losses": "list every loss, and where each lets the score of a positive settle",
    "gradients": "compare jax.grad with the paper's Eq. (10) and (11)",
    "import-weights": "turn a published FCOS detector into a run",
    "export-weights": "write a run's detector under official FCOS names, for PyTorch",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hands the command line to its verb and returns the exit status.

    The one place where an error that the user can fix becomes a message and the status 2.
    """
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("-h", "--help"):
        print("usage: python -m pse_jax VERB [--help | flags]\n")
        print("\n".join(f"  {verb:<15} {purpose}" for verb, purpose in VERBS.items()))
        return 0
    try:
        if verb not in VERBS:
            close = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(VERBS)}"
            raise UserError(f"there is no verb {verb!r}; {hint}")
        return importlib.import_module(f"pse_jax.verbs.{verb.replace('-', '_')}").main(rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
