"""Trains a detector and evaluates it at the end; the same command again resumes the run."""

from collections.abc import Sequence
from pathlib import Path

from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("train", __doc__)
    flags.add_config(parser)
    flags.add_workdir(parser, "folder of the run; by default runs/NAME, NAME being config.name")
    options = flags.parse(parser, argv)
    config = flags.config_of(options)
    flags.prepare(config)

    # Slow imports only now: a wrong flag or value is answered at once.
    from pse_jax import stopping

    workdir, finished = options.workdir or Path("runs", config.name), None
    with stopping.saving(lambda: newest(workdir)):
        from pse_jax import distributed
        from pse_jax.training.loop import train

        distributed.initialize()
        finished = train(config, workdir)
    if finished is None:
        stopping.say_how_to_resume()
    return 0


def newest(workdir: Path) -> str:
    """Which state a run would resume from."""
    steps = [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit()]
    return f"step {max(steps)} in {workdir} is safe" if steps else "nothing was saved yet"
