"""Trains a detector and evaluates it at the end; the same command again resumes the run.

To resume with other values of some fields, name them:
  python train.py --config FILE --workdir runs/a --config.optimizer.learning_rate=0.005
      --allow-change=optimizer.learning_rate
To train from a state of another run, in a new folder, by default with that run's configuration:
  python train.py --from-checkpoint=runs/a/checkpoints/8000 --workdir runs/b
      --config.optimizer.learning_rate=0.005
"""

import argparse
import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from pse_jax.addresses import Place, absolute
from pse_jax.config import Config, leaves
from pse_jax.errors import ConfigError
from pse_jax.verbs import fields, flags, overfit

logger = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    text = fields.help_text() if {"-h", "--help"} & set(argv) else None
    parser = flags.parser("train", __doc__, epilog=text)
    flags.add_config(parser)
    flags.add_workdir(parser, "folder of the run; by default runs/NAME, NAME being config.name")
    parser.add_argument(
        "--allow-change",
        metavar="FIELDS",
        default="",
        help="fields that may have other values than the run in DIR had up to now, with commas "
        "between; DIR/config_history.jsonl records what changed at which step",
    )
    parser.add_argument(
        "--from-checkpoint",
        type=flags.place,
        metavar="DIR/checkpoints/STEP",
        help="start the new run in --workdir from this state of another run: parameters, "
        "velocities and step",
    )
    parser.add_argument(
        "--overfit",
        type=flags.count("images"),
        metavar="N",
        help="train on N training images and evaluate on the same, without augmentation, for "
        f"{overfit.STEPS} steps (or --config.optimizer.steps), in runs/NAME_overfitN; says whether "
        "the set-up can learn at all, and exits with 1 if not (docs/training.md)",
    )
    parser.add_argument(
        "--profile",
        type=flags.count("steps"),
        metavar="N",
        default=0,
        help="write a trace of N steps, from this session's eleventh on, to DIR/profile "
        "(docs/performance.md)",
    )
    flags.add_processes(parser)
    options = flags.parse(parser, argv)
    if options.from_checkpoint and not options.workdir:
        parser.error("--from-checkpoint starts a new run: --workdir is missing")
    config = _config_of(options)
    if options.overfit:
        config = overfit.configuration(config, options.overfit, options.overrides)
    allow_change = named_fields(options.allow_change)
    flags.prepare(config)

    # Slow imports only now: a wrong flag or value is answered at once.
    from pse_jax.processes import stopping

    workdir, finished = options.workdir or Path("runs", config.name), None
    logger.info("loading JAX and Orbax")
    with stopping.saving(lambda: newest(workdir)):
        from pse_jax.processes import job
        from pse_jax.training.loop import train

        job.join(**flags.processes(options))
        finished = train(
            config,
            workdir,
            allow_change=allow_change,
            from_checkpoint=options.from_checkpoint,
            callbacks=[overfit.Verdict()] if options.overfit else [],
            profile=options.profile,
        )
    if finished is None:
        stopping.say_how_to_resume()
    elif options.overfit:
        return 0 if overfit.learned(finished) else 1
    return 0


def newest(workdir: Place) -> str:
    """Which state a run would resume from."""
    from pse_jax.runs.folder import safe_steps

    there = safe_steps(workdir)
    return f"step {there[-1]} in {workdir} is safe" if there else "nothing was saved yet"


def _config_of(options: argparse.Namespace) -> Config:
    """That of --config, or else of the run that --from-checkpoint names; with the overrides."""
    if options.config or not options.from_checkpoint:
        return flags.config_of(options)
    return flags.run_of(options, workdir=absolute(options.from_checkpoint).parents[1])[1]


def named_fields(text: str) -> list[str]:
    """The fields of `a.b,c`, a section standing for all of its fields.

    Raises:
        ConfigError: for a name that is no field.
    """
    known = [path for path, _, _ in leaves(Config())]
    chosen = []
    for name in filter(None, (part.strip().removeprefix("config.") for part in text.split(","))):
        found = [path for path in known if path == name or path.startswith(f"{name}.")]
        if not found:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"--allow-change: there is no field {name!r}{hint}")
        chosen += found
    return chosen
