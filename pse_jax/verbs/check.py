"""Reads a whole data set, its pixels too, before hours are spent on it, and says what is wrong.

Checks both data sets of a configuration, or one annotation file. With --out it also draws images
with their boxes and the locations that answer for them. Exits with 0 if the data can be used, 1 if
training on them would fail or learn nothing, 2 for other errors.
"""

from collections.abc import Sequence
from pathlib import Path

from pse_jax import addresses, progress
from pse_jax.addresses import Place
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.errors import DataError
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("check", __doc__)
    flags.add_config(parser)
    parser.add_argument(
        "--annotations", type=flags.place, metavar="FILE", help="one file in COCO's format instead"
    )
    parser.add_argument(
        "--images", type=flags.place, metavar="DIR", help="folder of the images of --annotations"
    )
    parser.add_argument(
        "--out", type=flags.path, metavar="DIR", help="folder for pictures of the data"
    )
    parser.add_argument("--seed", type=int, default=0, help="which images are drawn (default 0)")
    options = flags.parse(parser, argv)
    if bool(options.config) == bool(options.annotations):
        parser.error("give either --config or --annotations")
    if bool(options.annotations) != bool(options.images):
        _explain(options.annotations)
        parser.error("--annotations and --images go together")
    if options.config:
        config = flags.config_of(options)
    else:
        config = override(Config(), options.overrides)
        validate(config)
    progress.show_log()

    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training
    from pse_jax.data import coco, sources
    from pse_jax.data.dataset import Dataset
    from pse_jax.report.checked import check
    from pse_jax.report.dataset import leaks, lines
    from pse_jax.report.locations import write_sheets

    def opened(name: str) -> Dataset:
        if options.config:
            return sources.open_split(config.data, name, require_images=False)
        exif, outside = config.data.exif, config.data.outside_images
        return coco.load(
            options.annotations, options.images, exif=exif, outside=outside, require_images=False
        )

    failures, errors, training = [], [], None
    for name in ("train", "val") if options.config else ("data",):
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
        failures += [f"{name}: {failure}" for failure in checked.failures]
    if errors:
        raise DataError("\nerror: ".join(errors))
    if failures:
        print("the data cannot be used as they are:", *failures, sep="\n  ")
        return 1
    print("the data can be used")
    return 0


def _explain(annotations: Place | None) -> None:
    """Raises DataError if these are no annotations in COCO's format, but something else known."""
    if annotations and not addresses.is_remote(annotations) and Path(annotations).exists():
        from pse_jax.data.formats.advice import explained

        if said := explained(Path(annotations), "a file in COCO's format"):
            raise DataError(said)
