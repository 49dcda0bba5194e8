"""Reads a whole data set, its pixels too, before hours are spent on it, and says what is wrong.

Checks both data sets of a configuration, or one annotation file. Exits with 0 if the data can be
used, 1 if it cannot, 2 for other errors.
"""

from collections.abc import Sequence

from pse_jax import progress
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
    options = flags.parse(parser, argv)
    if bool(options.config) == bool(options.annotations):
        parser.error("give either --config or --annotations")
    if bool(options.annotations) != bool(options.images):
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
    from pse_jax.report.dataset import check, lines

    def opened(name: str) -> Dataset:
        if options.config:
            return sources.open_split(config.data, name, require_images=False)
        exif, outside = config.data.exif, config.data.outside_images
        return coco.load(
            options.annotations, options.images, exif=exif, outside=outside, require_images=False
        )

    usable, categories, errors = True, None, []
    for name in ("train", "val") if options.config else ("data",):
        try:
            dataset = opened(name)
            categories = categories or dataset.categories
            sources.check_categories(dataset.categories, categories, "the training data")
        except DataError as error:  # the other data set may have errors of its own
            errors.append(str(error))
            continue
        checked = check(dataset, config, training=name == "train")
        print("\n".join(lines(name, checked, config)), end="\n\n", flush=True)
        usable &= not checked.unusable and len(checked.trained_on) > 0
    if errors:
        raise DataError("\nerror: ".join(errors))
    print("the data can be used" if usable else "the data cannot be used as it is: see above")
    return 0 if usable else 1
