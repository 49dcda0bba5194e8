"""Reads a whole data set, its pixels too, before hours are spent on it, and says what is wrong.

Checks both data sets of a configuration, or one annotation file, and proposes settings that suit
them: as flags, and with --suggest-config as a configuration. With --out it also draws images with
their boxes and the locations that answer for them. With --split it divides the one annotation file
of a data set without a val split. Exits with 0 if the data can be used, 1 if training on them would
fail or learn nothing, 2 for other errors.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pse_jax import addresses, progress
from pse_jax.addresses import Place
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.errors import DataError
from pse_jax.files import make_folder, write_whole
from pse_jax.verbs import flags

if TYPE_CHECKING:
    from pse_jax.data.dataset import Dataset
    from pse_jax.report.checked import Checked


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    if options.config:
        config = flags.config_of(options)
    else:
        config = override(Config(), options.overrides)
        validate(config)
    progress.show_log()

    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training
    from pse_jax.data import coco, sources

    if options.split:
        config = _to_split(config)

    def opened(name: str) -> "Dataset":
        if options.config:
            return sources.open_split(config.data, name, require_images=False)
        exif, outside = config.data.exif, config.data.outside_images
        return coco.load(
            options.annotations, options.images, exif=exif, outside=outside, require_images=False
        )

    names = ("train", "val") if options.config else ("data",)
    names = names[:1] if options.split else names
    failures, errors, training = [], [], None
    for name, checked in _checked(names, opened, config, options, errors):
        training = training or checked
        failures += [f"{name}: {failure}" for failure in checked.failures]
    if errors:
        raise DataError("\nerror: ".join(errors))
    if failures:
        print("the data cannot be used as they are:", *failures, sep="\n  ")
        if options.suggest_config:
            print(f"{options.suggest_config} was not written")
        return 1
    print("the data can be used")
    if options.config and training:
        _propose(training, config, options)
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = flags.parser("check", __doc__)
    flags.add_config(parser)
    add = parser.add_argument
    add("--annotations", type=flags.place, metavar="FILE", help="one file in COCO's format instead")
    add("--images", type=flags.place, metavar="DIR", help="folder of the images of --annotations")
    add("--out", type=flags.path, metavar="DIR", help="folder for pictures of the data")
    add("--seed", type=int, default=0, help="which images are drawn, or become val (default 0)")
    help = "a new file, NAME.py, for the proposed configuration, which builds on --config"
    add("--suggest-config", type=flags.path, metavar="FILE", help=help)
    help = "if there is no val split: this share of the images becomes one, such as 0.2; writes "
    help += "STEM_split_train.json and STEM_split_val.json beside the annotations"
    add("--split", type=flags.share, metavar="SHARE", help=help)
    options = flags.parse(parser, argv)
    if bool(options.config) == bool(options.annotations):
        parser.error("give either --config or --annotations")
    if bool(options.annotations) != bool(options.images):
        _explain(options.annotations)
        parser.error("--annotations and --images go together")
    if not options.config and (options.suggest_config or options.split):
        parser.error("--suggest-config and --split need --config, and --config.data.root=FOLDER")
    file = options.suggest_config
    if file and file.suffix != ".py":
        parser.error(f"--suggest-config {file}: a configuration is a Python file; name it NAME.py")
    if file and os.path.lexists(file):
        parser.error(f"--suggest-config {file}: it is there already; give a new name, or remove it")
    return options


def _checked(
    names: Sequence[str],
    opened: "Callable[[str], Dataset]",
    config: Config,
    options: argparse.Namespace,
    errors: list[str],
) -> "Iterator[tuple[str, Checked]]":
    """Reads each data set and prints what there is to say; what cannot be read goes to `errors`."""
    from pse_jax.data import sources
    from pse_jax.report.checked import check
    from pse_jax.report.dataset import leaks, lines
    from pse_jax.report.locations import write_sheets

    training = None
    for name in names:
        try:
            dataset = opened(name)
            if training:
                ours = training.dataset.categories
                sources.check_categories(dataset.categories, ours, "the training data")
            checked = check(dataset, config, training=name == "train")
        except DataError as error:  # the other data set may have errors of its own
            errors.append(str(error))
            continue
        print(*lines(name, checked, config), *leaks(checked, training), sep="\n")
        if options.out:
            for file, what in write_sheets(name, checked, config, options.out, options.seed):
                print(f"\n  {file}: {what}")
        print(flush=True)
        training = training or checked
        yield name, checked


def _propose(training: "Checked", config: Config, options: argparse.Namespace) -> None:
    """Prints what suits the data, and writes it as a configuration if that is asked for."""
    from pse_jax.report.suggested import config_text, lines

    dataset, given, file = training.trained_on, options.overrides, options.suggest_config
    if options.split:
        dataset, config, names = _split(training, config, options)
        given = [flag for flag in given if flag.split("=")[0] not in names]
        given += [f"{name}={value}" for name, value in names.items()]
    print("", *lines(dataset, config, options.config, given), sep="\n")
    if not file:
        return
    if config.data.root and not addresses.ADDRESS.match(config.data.root):
        root = str(addresses.local(config.data.root).resolve())
        config = override(config, [f"--config.data.root={root}"])
    shipped = options.config.split(":")[0] in flags.shipped()
    of = options.config if shipped else flags.absolute(options.config)
    text = config_text(dataset, config, flags.load_config(of), file.stem, of)
    make_folder(file.parent, "the folder of the configuration")
    write_whole(file, text, "the configuration")
    print(f"\nor with the same in a file:\n  python -m pse_jax train --config {file}")


def _split(
    training: "Checked", config: Config, options: argparse.Namespace
) -> "tuple[Dataset, Config, dict[str, str]]":
    """Divides the annotations; what is trained on then, and the flags that name the parts."""
    from pse_jax.data.split import write_split

    data, whole = config.data, training.dataset
    root = addresses.local(data.root)
    digests = dict(zip(whole.image_ids.tolist(), training.digests, strict=True))
    parts = write_split(root / data.train_annotations, digests, options.split, options.seed)
    names = {}
    print()
    for split, (file, ids) in parts.items():
        names[f"--config.data.{split}_annotations"] = os.path.relpath(file, root)
        names[f"--config.data.{split}_images"] = data.train_images
        print(f"  {split:<5} {len(ids):>9,} images: {file}")
    left = training.trained_on
    kept = np.flatnonzero(np.isin(left.image_ids, parts["train"][1]))
    return left.select(kept), override(config, [f"{k}={v}" for k, v in names.items()]), names


def _to_split(config: Config) -> Config:
    """The configuration with the names of the annotations that are to be divided.

    Raises:
        DataError: if there are none, or a val split already.
    """
    from pse_jax.data.formats.advice import advice
    from pse_jax.data.formats.look import USABLE, look

    data, remedy = config.data, "leave out --split"
    if data.source != "coco" or not data.root:
        raise DataError("--split divides a folder in COCO's format: give --config.data.root=FOLDER")
    root = addresses.local(data.root)
    if (root / data.val_annotations).exists():
        raise DataError(f"{root} has a val split, {data.val_annotations}; {remedy}")
    if (root / data.train_annotations).exists():
        return config
    found = look(root)
    if found.kind not in USABLE or "train" not in found.parts:
        raise DataError(f"{root} is {found.what}; {advice(found)}")
    if "val" in found.parts:
        raise DataError(f"{root} has a val split, {found.parts['val'][0].labels}; {remedy}")
    part = found.parts["train"][0]
    names = {"train_annotations": part.labels, "train_images": part.images}
    flags_ = [f"--config.data.{k}={os.path.relpath(v, found.path)}" for k, v in names.items()]
    return override(config, [*flags_, f"--config.data.root={found.path}"])


def _explain(annotations: Place | None) -> None:
    """Raises DataError if these are no annotations in COCO's format, but something else known."""
    if annotations and not addresses.is_remote(annotations) and Path(annotations).exists():
        from pse_jax.data.formats.advice import explained

        if said := explained(Path(annotations), "a file in COCO's format"):
            raise DataError(said)
