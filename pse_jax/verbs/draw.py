"""Draws a sheet of validation images with a run's detections over the dashed ground truth."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pse_jax.addresses import named
from pse_jax.files import make_folder, write_whole
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("draw", __doc__)
    add = parser.add_argument
    flags.add_workdir(parser)
    flags.add_checkpoint(parser)
    add("--out", type=flags.place, metavar="FILE", help="default WORKDIR/detections.png")
    add("--count", type=int, default=12, help="images on the sheet (default 12)")
    add("--columns", type=int, default=4, help="images per row (default 4)")
    add("--size", type=int, default=640, help="px of an image's longer side (default 640)")
    add("--threshold", type=float, default=0.3, help="lowest score to draw (default 0.3)")
    add("--seed", type=int, default=0, help="which images are drawn (default 0)")
    options = flags.parse(parser, argv)
    for name in ("count", "columns", "size"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; it must be at least 1")
    run, config = flags.run_of(options)
    out = options.out or run.folder / "detections.png"
    if out.suffix.lower() not in Image.registered_extensions():
        parser.error(f"--out {out}: unknown image format; end the name in .png, .jpg or .pdf")
    flags.prepare(config)

    from pse_jax.report import pictures
    from pse_jax.runs.load import load_run, open_val
    from pse_jax.runs.remote import staging

    detector = load_run(run, options.checkpoint, config)
    dataset = open_val(detector)
    # Images with several objects tell more; others are drawn where there are not enough of them.
    order = np.random.default_rng(options.seed).permutation(len(dataset))
    few = np.diff(dataset.offsets)[order] < 2
    chosen = order[np.argsort(few, kind="stable")][: options.count].tolist()
    images = [dataset.pixels_of(i) for i in chosen]
    drawn = [
        pictures.draw_detections(
            Image.fromarray(pixels),
            found,
            dataset.categories,
            dataset.boxes_of(i)[0],
            threshold=options.threshold,
            size=options.size,
        )
        for i, pixels, found in zip(chosen, images, detector(images), strict=True)
    ]
    stream = io.BytesIO()
    kind = Image.registered_extensions()[out.suffix.lower()]
    pictures.sheet(drawn, options.columns).save(stream, kind)
    with staging.writing(out.parent) as folder:
        make_folder(folder, "the folder of the sheet")
        write_whole(folder / out.name, stream.getvalue(), "the sheet")
    run.publish()
    print(f"drew {len(drawn)} images to {named(str(out))}; dashed: ground truth")
    return 0
