"""Draws which location answers for which object, on images as training gets them.

Takes the first images of a run, after resizing, flipping and every other change that the
configuration makes. A dot is a location that learns to find the object of its colour, larger on
higher levels of the pyramid; a label counts an object's dots; an object that no location answers
for is dashed, and named in the output.
"""

import io
from collections.abc import Sequence

from pse_jax import progress
from pse_jax.files import make_folder, write_whole
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("draw-targets", __doc__)
    flags.add_config(parser)
    flags.add_workdir(parser, "folder of a run, in place of --config")
    add = parser.add_argument
    add("--out", type=flags.path, metavar="DIR", required=True, help="folder for the pictures")
    add("--count", type=int, default=8, help="images to draw (default 8)")
    add("--step", type=int, default=1, help="the first step whose images are drawn (default 1)")
    help = "what the colour of a dot tells: its object (the default), or its level"
    add("--by", choices=("object", "level"), default="object", help=help)
    options = flags.parse(parser, argv)
    if not options.config and not options.workdir:
        parser.error("give --config, or the --workdir of a run")
    config = flags.run_of(options)[1]
    if options.count < 1:
        parser.error(f"--count is {options.count}; it must be at least 1")
    if not 1 <= options.step <= config.optimizer.steps:
        parser.error(f"--step is {options.step}; it must be 1 to {config.optimizer.steps}")
    progress.show_log()

    import jax

    jax.config.update("jax_platforms", "cpu")  # an accelerator may be busy training
    from pse_jax.data import sources
    from pse_jax.data.pipeline import batches
    from pse_jax.data.sampling import plan_for
    from pse_jax.report.targets import Draw

    dataset = sources.open_train(sources.locate(config.data))
    plan = plan_for(dataset, config)
    make_folder(options.out, "the folder of the pictures")
    draw, seen, drawn = Draw(config, dataset.categories, options.by), set(), 0
    rows, start = slice(0, config.data.batch_size), options.step - 1
    loaded = batches(dataset, plan, rows=rows, threads=config.data.threads, prefetch=1, start=start)
    for step, batch in enumerate(loaded, options.step):
        for k, image in enumerate(batch["index"].tolist()):
            if drawn == options.count or image in seen:
                continue
            seen.add(image)
            if not batch["image_valid"][k]:  # the log says why
                continue
            row = {name: values[k] for name, values in batch.items()}
            taught = draw(row, int(dataset.image_ids[image]))
            file, stream = options.out / f"step{step}_image{taught.image_id}.png", io.BytesIO()
            taught.picture.save(stream, "PNG")
            write_whole(file, stream.getvalue(), "a picture of the targets")
            print(f"{file}: {taught.told()}", flush=True)
            drawn += 1
        if drawn == options.count or len(seen) == len(dataset):
            break
    return 0
