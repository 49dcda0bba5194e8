"""Every command: python -m pse_jax VERB."""

import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence

from pse_jax import addresses
from pse_jax.errors import ProcessError, UserError
from pse_jax.processes import huge_pages, link, peers, stopping

VERBS = {
    "train": "train a detector, or resume a run",
    "eval": "evaluate a run's checkpoint",
    "convert": "turn a Pascal VOC, YOLO or Roboflow folder into one in COCO's format",
    "prepare-tfds": "download COCO 2017 and prepare it with tensorflow_datasets",
    "check": "read a whole data set, pixels too, and say what is wrong with it",
    "predict": "find objects in photos: draw, list and write them",
    "draw": "draw a run's detections beside the ground truth",
    "draw-targets": "draw which location learns which object, on images as training gets them",
    "report": "write a run's report.html: curves, detections, tables",
    "figures": "draw the paper's figures, of losses and of runs",
    "sweep": "train many variants of one configuration and tabulate them",
    "analyze": "measure how well the scores of any COCO results file rank its boxes",
    "losses": "list every loss, and where each lets the score of a positive settle",
    "gradients": "compare jax.grad with the paper's Eq. (10) and (11)",
    "import-weights": "turn a published FCOS detector into a run",
    "export": "write a detector as StableHLO or ONNX, to run without this package",
    "export-weights": "write a run's detector under official FCOS names, for PyTorch",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Hands the command line to its verb and returns the exit status.

    The one place where an error that the user can fix becomes a message and the status 2, where
    Ctrl-C becomes 130, and where the other processes of this job learn of either.
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
        with stopping.interruptible():
            module = importlib.import_module(f"pse_jax.verbs.{verb.replace('-', '_')}")
            status = module.main(rest)
        peers.finish()
        return status
    except UserError as error:
        print(f"error: {addresses.named(str(error))}", file=sys.stderr)
        if isinstance(error, ProcessError):
            peers.finish(link.PATIENCE)  # the others say the same
        peers.end_all(f": {error}", 2)
        return 2
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        peers.end_all(" was stopped by Ctrl-C", stopping.INTERRUPTED)
        return stopping.INTERRUPTED
    except Exception as error:
        peers.wait_for_bad_news()  # of which this error may be the consequence
        if peers.linked():
            traceback.print_exc()
            peers.end_all(f": {type(error).__name__}: {error}", 1)
        raise


if __name__ == "__main__":
    huge_pages.use()
    sys.exit(main())
