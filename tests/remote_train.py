"""train.py where gs:// is an object store in the folder STORE: for tests of several processes."""

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from pse_jax.__main__ import main  # noqa: E402
from tests.object_store import served  # noqa: E402

if __name__ == "__main__":
    with served(os.environ["STORE"]):
        sys.exit(main(["train", *sys.argv[1:]]))
