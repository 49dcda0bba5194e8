"""Trains many variants of one configuration, over seeds, and writes the paper's tables from them.

A variant is relative to the baseline, and that to the configuration file. The same command again
resumes where it stopped and repeats nothing. Exit status: 0 if every run is finished, 1 if one
failed, 2 if the arguments are wrong, 130 if it was asked to stop.
"""

import argparse
import re
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from pse_jax import processors, progress
from pse_jax.errors import ConfigError
from pse_jax.experiments.sweep import launch, records, report, results
from pse_jax.experiments.sweep.plan import Sweep, claim, load, plan
from pse_jax.experiments.sweep.variants import BASELINE, TABLES, VARIANTS, Overrides
from pse_jax.files import make_folder
from pse_jax.runs.lock import held
from pse_jax.verbs import flags

EPILOG = """\
tables and their variants:
{tables}

  python -m pse_jax sweep --config shapes_small --table I --seeds 3 --out runs/table1
  python -m pse_jax sweep --config shapes_small --config.optimizer.steps=400 --out runs/mine \\
      --variant "strong: --config.loss.association=pse --config.loss.beta=4"
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    listing = "\n".join(f"  {key:<7} {', '.join(TABLES[key].variants)}" for key in TABLES)
    parser = flags.parser("sweep", __doc__, epilog=EPILOG.format(tables=listing))
    flags.add_config(parser)
    add = parser.add_argument
    add("--out", type=flags.path, required=True, metavar="DIR", help="folder of the sweep")
    add("--table", action="append", default=[], choices=[*TABLES, "all"], help="may be repeated")
    add(
        "--variant",
        action="append",
        default=[],
        metavar='"NAME: --config.x.y=z ..."',
        help=f"one more; the name {BASELINE} replaces the baseline; may be repeated",
    )
    add("--seeds", type=int, default=1, help="runs of each variant (default 1)")
    add("--jobs", type=int, default=1, help="runs at a time, sharing the processors (default 1)")
    add("--report-only", action="store_true", help="print the tables of what is there")
    options = flags.parse(parser, argv)
    if not (options.report_only or options.table or options.variant):
        parser.error(f"nothing to compare; give --table ({', '.join(TABLES)}, all) or --variant")
    if options.seeds < 1:
        parser.error(f"--seeds {options.seeds}: must be 1 or more")
    most = processors.count()
    if not 1 <= options.jobs <= most:
        parser.error(f"--jobs {options.jobs}: must be 1 to {most}, the number of processors")
    return options


def parse_variant(text: str) -> tuple[str, Overrides]:
    """`NAME: --config.loss.association=pse --config.loss.beta=2`, as on train.py.

    Raises:
        ConfigError: if there is no name fit for a folder, no flag, or something else.
    """
    name, _, words = text.partition(":")
    rest, overrides = flags.split_overrides(shlex.split(words))
    if rest or not overrides or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(
            f'--variant "{text}": write "NAME: --config.loss.association=pse '
            '--config.loss.beta=2", with a NAME of letters, digits and . _ -'
        )
    return name, _settings(overrides)


def _settings(overrides: Sequence[str]) -> Overrides:
    pairs = (flag.removeprefix("--config.").split("=", 1) for flag in overrides)
    return {path: value for path, value in pairs}


def plan_of(options: argparse.Namespace) -> Sweep:
    tables = tuple(TABLES) if "all" in options.table else tuple(dict.fromkeys(options.table))
    names = [name for table in tables for name in TABLES[table].variants]
    variants = {name: VARIANTS[name] for name in [BASELINE, *names]}
    variants |= dict(parse_variant(text) for text in options.variant)
    config, shared = flags.load_config(options.config), _settings(options.overrides)
    return plan(options.config, config, shared, variants, tables, options.seeds)


def main(argv: Sequence[str]) -> int:
    options = parse(argv)
    progress.show_log()
    if options.report_only:
        return _report(load(options.out), options.out)
    sweep = plan_of(options)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C; under nohup SIGHUP stays ignored
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        make_folder(options.out, "the folder of a sweep")
        with held(options.out, wait=True):
            whole = claim(sweep, options.out)
            start = launch.train_process(flags.absolute(options.config))
            launch.run_all(results.unfinished(sweep, options.out), start, options.jobs)
    except KeyboardInterrupt:
        _report(load(options.out), options.out)
        print("stopped; the same command resumes")
        return 130
    return _report(whole, options.out)


def _report(sweep: Sweep, out: Path) -> int:
    """Writes and prints the tables; 1 if a run has failed."""
    outcomes = results.collect(sweep, out)
    print(report.write(sweep, outcomes, out))
    print(f"wrote {out / 'sweep.md'}, {out / 'runs.csv'} and {out / 'summary.csv'}")
    failed = [o for o in outcomes if o.state == records.FAILED]
    for o in failed:
        print(f"FAILED: {o.trial}, see {o.trial.output}")
    return 1 if failed else 0
