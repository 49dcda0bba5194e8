"""Turns anybody's data set into one in COCO's format, and checks the result.

SRC is a folder of Pascal VOC, YOLO, Roboflow's COCO or COCO in another layout, found by looking.
DST becomes a folder that --config.data.root=DST takes. The same command continues an
interrupted conversion. Exits with 0 if the result can be trained on, 1 if it cannot,
2 for other errors.
"""

import argparse
import shlex
from collections.abc import Sequence

from pse_jax import progress
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.errors import UserError
from pse_jax.verbs import flags

CONFIG = "own_small"  # for own photos, most often some hundred, on any machine


def main(argv: Sequence[str]) -> int:
    options = flags.parse(_parser(), argv)
    config = override(Config(), options.overrides)
    validate(config)
    progress.show_log()

    from pse_jax.data.formats.convert import convert
    from pse_jax.data.formats.source import Options

    chosen = Options(
        difficult=options.difficult,
        corners=options.voc_corners,
        exif=config.data.exif,
        skip_broken=options.skip_broken,
        val_share=options.val_share,
        seed=options.seed,
        images=options.images,
        splits=_splits(options.splits) if options.splits else None,
    )
    done = convert(options.source, options.destination, chosen)
    print(f"{done.folder}: {len(done.categories)} categories ({', '.join(done.categories[:20])})")
    for split, images in done.images.items():
        print(f"  {split:<5} {images:>9,} images {done.boxes[split]:>9,} boxes")
    for kind, count in done.counts.items():
        print(f"  {count:,} x {kind}")
    status = 0
    if options.check:
        print(flush=True)
        status = _check(done.folder, done.images, options.overrides)
    if not options.check and {"train", "val"} <= done.images.keys():
        root = shlex.quote(str(done.folder))
        command = f"python -m pse_jax train --config {CONFIG} --config.data.root={root}"
        print(f"\ntrain on it with\n  {command}", flush=True)
    if status == 0 and {"train", "val"} <= done.images.keys():
        print("or, on a GPU, a ResNet-50 from ImageNet weights: --config own", flush=True)
    return status


def _check(folder, splits, overrides) -> int:
    """The status of `check` over every split."""
    from pse_jax.verbs import check

    status, rest = 0, [*splits]
    if {"train", "val"} <= {*splits}:
        root = f"--config.data.root={folder}"
        status = check.main(["--config", CONFIG, *overrides, root])
        rest = [split for split in splits if split not in ("train", "val")]
    for split in rest:
        file = folder / "annotations" / f"instances_{split}.json"
        where = ["--annotations", str(file), "--images", str(folder / split)]
        status = max(status, check.main([*where, *overrides]))
    return status


def _splits(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What each split is made of: `["train=train+val", "val=test"]`."""
    from pse_jax.data.formats.parts import SPLITS

    splits = {}
    for text in texts:
        name, _, sources = text.partition("=")
        parts = tuple(sources.split("+"))
        if wrong := [part for part in (name, *parts) if part not in SPLITS]:
            known = ", ".join(SPLITS)
            raise UserError(
                f"--splits {text}: {wrong[0]!r} is none of {known}; write train=train+val"
            )
        if name in splits:
            raise UserError(f"--splits {text}: {name} is given twice; join its parts with +")
        splits[name] = parts
    return splits


def _parser() -> flags.Parser:
    parser = flags.parser("convert", __doc__)
    parser.add_argument("source", type=flags.path, metavar="SRC", help="folder to read")
    parser.add_argument("destination", type=flags.path, metavar="DST", help="folder to write")
    parser.add_argument(
        "--val-share",
        type=flags.share,
        metavar="SHARE",
        help="if there is no val split: the share of the images of train that becomes one "
        "(default 0.2); 0: go without",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of that choice: another one gives another split"
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="SPLIT=SPLIT[+SPLIT]",
        help="what the splits are made of, by default each of its own: train=train+val val=test "
        "trains on all but the test images and evaluates on those",
    )
    parser.add_argument(
        "--images",
        choices=("copy", "link"),
        default="copy",
        help="link: symbolic links; DST then needs SRC where it is",
    )
    parser.add_argument(
        "--difficult",
        choices=("voc", "keep", "crowd", "drop"),
        default="voc",
        help="VOC's difficult objects: voc (the default) trains on them, and in val and test "
        "finding or missing one counts for nothing (iscrowd=1); keep: as any other; crowd: "
        "iscrowd=1 in train too, not trained on; drop: left out",
    )
    parser.add_argument(
        "--voc-corners",
        choices=("auto", "one-based", "zero-based"),
        default="auto",
        help="whether VOC's corners are pixels counted from 1, both in the box, or edges from 0; "
        "auto (the default): from 1, unless one is under 1",
    )
    parser.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out images that are missing or cannot be read, and labels without an image; "
        "each is counted",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read the result, pixels too, and say what is wrong with it (the default)",
    )
    flags.add_overrides(parser)
    return parser
