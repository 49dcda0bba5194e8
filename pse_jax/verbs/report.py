"""Remakes the report.html of a run: curves, detections, tables, data, times and configuration.

Training keeps the page up to date by itself; this is for runs that were trained before, copied, or
evaluated again. The page is one file that opens offline.
"""

from collections.abc import Sequence

from pse_jax import progress
from pse_jax.addresses import named
from pse_jax.errors import ConfigError
from pse_jax.verbs import flags


def main(argv: Sequence[str]) -> int:
    parser = flags.parser("report", __doc__)
    parser.add_argument("--workdir", type=flags.place, metavar="DIR", help="folder of the run")
    options = flags.parse(parser, argv)
    if options.workdir is None:
        raise ConfigError("--workdir is missing; give the folder of a run")
    progress.show_log()

    from pse_jax.runs import report
    from pse_jax.runs.folder import Run

    run = Run(options.workdir)
    written = report.write(run)
    run.publish()
    for why in dict.fromkeys(written.missing.values()):
        print(why)
    print(f"wrote {named(str(written.page))} ({written.seconds:.1f} s)")
    return 0
