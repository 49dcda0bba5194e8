"""Writes a run's detector under the official FCOS names, for PyTorch."""

from pse_jax.addresses import named
from pse_jax.verbs import flags


def main(argv: list[str]) -> int:
    parser = flags.parser("export-weights", __doc__)
    flags.add_workdir(parser, required=True)
    flags.add_checkpoint(parser)
    parser.add_argument(
        "--out", type=flags.place, required=True, metavar="FILE", help=".safetensors file to write"
    )
    options = flags.parse(parser, argv)
    run, config = flags.run_of(options)

    from pse_jax.runs.load import load_run
    from pse_jax.runs.remote import staging
    from pse_jax.weights.export import save

    with staging.writing(options.out.parent) as folder:
        lines = save(load_run(run, options.checkpoint, config), folder / options.out.name)
    print(*map(named, lines), sep="\n")
    return 0
