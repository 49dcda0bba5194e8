"""Downloads COCO 2017 and prepares it with tensorflow_datasets, for --config.data.source=tfds.

25 GiB are downloaded, unpacked, and written again as array_record: have 85 GB free. That needs
TensorFlow, which training does not: pip install "pse-jax[tfds,tfds-prepare]".
What is prepared already is only checked.
"""

from collections.abc import Sequence

from pse_jax import progress
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("prepare-tfds", __doc__)
    parser.add_argument(
        "--out",
        type=flags.path,
        metavar="DIR",
        help="TFDS's data_dir; by default TFDS_DATA_DIR, or else ~/tensorflow_datasets",
    )
    options = flags.parse(parser, argv)
    progress.show_log()

    from pse_jax.data.tfds.prepare import prepare
    from pse_jax.data.tfds.prepared import SPLITS, default_root, open_records

    root = options.out or default_root()
    folder = prepare(root)
    counts = {split: len(open_records(folder, ours)) for ours, split in SPLITS.items()}
    print(f"{folder}: " + ", ".join(f"{count:,} {split}" for split, count in counts.items()))
    where = "" if root == default_root() else f" --config.data.root={root}"
    print(f"use it with --config.data.source=tfds{where}")
    return 0
