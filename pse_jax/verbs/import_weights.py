"""Turns a published FCOS detector into a run's folder, which eval.py evaluates."""

from pse_jax.verbs import flags
from pse_jax.weights.presets import FORMATS


def main(argv: list[str]) -> int:
    parser = flags.parser("import-weights", __doc__)
    parser.add_argument("file", help="the detector, .pth or .safetensors: a path or https address")
    flags.add_workdir(parser, "folder to write; it must hold no run", required=True)
    parser.add_argument("--format", choices=FORMATS, help="what it is, if the file does not tell")
    help = "file in COCO's format that names the classes, if they are not COCO's"
    parser.add_argument("--annotations", type=flags.place, metavar="FILE", help=help)
    options = flags.parse(parser, argv)

    from pse_jax.data.coco import load_categories
    from pse_jax.runs.checkpoint import save_detector
    from pse_jax.runs.folder import Run
    from pse_jax.weights.published import load_published

    run = Run(options.workdir)
    run.check_new()
    categories = load_categories(options.annotations) if options.annotations else None
    detector, report = load_published(
        options.file, form=options.format, categories=categories, overrides=options.overrides
    )
    save_detector(detector, run)
    print(*report, sep="\n")
    print(
        f"wrote {options.workdir}: ResNet-{detector.config.model.depth}, "
        f"{len(detector.categories)} classes; evaluate it with\n"
        f"  python eval.py --workdir {options.workdir} --config.data.root=FOLDER"
    )
    return 0
