"""Evaluates a checkpoint of a run: python eval.py --workdir runs/coco_pse.

The configuration is the run's own, or --config's; --config.x.y=z changes either. Results of the
newest checkpoint under the run's own configuration are written into the run's folder, all others
into a folder of their own below its evaluations/, or to --out.
"""

from contextlib import nullcontext

from pse_jax.verbs import flags


def main(argv: list[str]) -> int:
    parser = flags.parser("eval", __doc__)
    flags.add_workdir(parser, "folder of the run; runs/NAME by default, NAME being config.name")
    flags.add_checkpoint(parser)
    flags.add_config(parser)
    parser.add_argument("--out", type=flags.place, metavar="DIR", help="folder to write to")
    flags.add_processes(parser)
    options = flags.parse(parser, argv)
    run, config = flags.run_of(options)
    flags.prepare(config)

    from pse_jax.processes import job
    from pse_jax.runs.evaluate import evaluate_run
    from pse_jax.runs.remote import staging

    job.join(**flags.processes(options))
    with staging.writing(options.out) if options.out else nullcontext() as out:
        evaluate_run(run, config, options.checkpoint, out)
    return 0
