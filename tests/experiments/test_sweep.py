"""The sweep: its tables against hand computation, and that it repeats nothing."""

import csv
import itertools
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing
from pathlib import Path

import numpy as np
import pytest
from detection_cases import random_case

from pse_jax import processors
from pse_jax.config import LossConfig, differences, to_dict
from pse_jax.config_checks import override
from pse_jax.data import sources
from pse_jax.errors import ConfigError, UserError
from pse_jax.evaluation import measure
from pse_jax.evaluation.coco import METRICS
from pse_jax.experiments.sweep import launch, origin, report, results
from pse_jax.experiments.sweep.plan import MAY_CHANGE, claim, load, plan, read_numbers
from pse_jax.experiments.sweep.statistics import (
    Estimate,
    estimate,
    holm,
    paired_difference,
    sign_flips,
    t_test,
)
from pse_jax.experiments.sweep.variants import BASELINE, TABLES, VARIANTS
from pse_jax.losses.table import ASSOCIATIONS, CLASSIFICATIONS, QUALITIES
from pse_jax.runs import lock
from pse_jax.verbs import sweep as command
from tests import tiny_run

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_run.config(tmp_path_factory.mktemp("cache"))


def make(base, names=("pse", "pce"), seeds=2, tables=("I",), **more):
    variants = {name: VARIANTS[name] for name in (BASELINE, *names)} | more
    return plan("tests/tiny_run.py", base, {}, variants, tables, seeds)


class Stub:
    """Stands in for training: writes what the evaluation would, or fails, or is killed."""

    def __init__(self, base, fails=(), dies_at=None):
        self.base, self.fails, self.dies_at = base, fails, dies_at
        self.started = []

    def __call__(self, trial, report_step):
        self.started.append((trial.variant, trial.seed))
        if len(self.started) == self.dies_at:
            raise KeyboardInterrupt
        trial.folder.mkdir(parents=True, exist_ok=True)
        (trial.folder / "config.json").write_text(json.dumps(to_dict(trial.config)))
        (trial.folder / "checkpoints" / "6").mkdir(parents=True, exist_ok=True)
        trial.output.write_text("boom\n")
        report_step(3)
        if (trial.variant, trial.seed) in self.fails:
            return 1
        numbers = dict.fromkeys(METRICS, 0.5) | {"APL": None, "PCC": 0.4, "SCC": 0.3, "KCC": 0.2}
        numbers["AP"] = {BASELINE: 0.30, "pse": 0.33, "pce": 0.31}.get(trial.variant, 0.2)
        numbers["AP"] += 0.01 * trial.seed * (2 if trial.variant == "pse" else 1)
        numbers |= {"step": 6, "oracle_AP": 0.6, "detections": 1, "per_class": {}}
        (trial.folder / "eval_6.json").write_text(json.dumps(numbers))
        ranking = {"rho_img": 0.1, "rho_cls": None, "LaECE": 0.2, "LaACE": 0.3}
        (trial.folder / "ranking_6.json").write_text(json.dumps(ranking))
        return 0


def all_runs(names=(BASELINE, "pse", "pce"), seeds=(0, 1)):
    return [(name, seed) for seed in seeds for name in names]


# The plan


def test_a_variant_differs_from_the_baseline_in_what_it_names(base):
    sweep = make(base, [name for name in VARIANTS if name != BASELINE], seeds=1)
    (baseline, *others) = sweep.trials(Path("x"))
    assert baseline.config.loss.association == "none" and len(others) == len(VARIANTS) - 1
    for trial in others:
        named = VARIANTS[trial.variant]
        changed = differences(baseline.config, trial.config)
        assert 1 <= len(changed) and set(changed) <= set(named)
        flags = launch.command(trial, "file.py")
        assert set(named) <= {f.removeprefix("--config.").split("=")[0] for f in flags}


def test_the_flags_of_a_run_give_its_configuration(base):
    """What train.py makes of the command is what the plan says."""
    far = {"optimizer.milestones": "(2,5)", "model.remat": "true"}
    sweep = make(base, seeds=2, far=far)
    for trial in sweep.trials(Path("x")):
        assert override(base, trial.flags) == trial.config
    assert trial.seed == base.seed + 1 and sweep.config_of("far", 0).optimizer.milestones == (2, 5)


def test_every_choice_of_loss_is_in_the_table_of_losses():
    covered = [VARIANTS[BASELINE] | VARIANTS[name] for name in TABLES["losses"].variants]
    choices = {
        "loss.association": {"none", *ASSOCIATIONS},
        "loss.classification": {*CLASSIFICATIONS},
        "loss.score": {*typing.get_args(typing.get_type_hints(LossConfig)["score"])},
        "model.quality": {"none", *QUALITIES},
    }
    for path, names in choices.items():
        assert {variant[path] for variant in covered} == names


def test_the_grids_of_table_iii():
    cells = [VARIANTS[BASELINE] | VARIANTS[name] for name in TABLES["III"].variants]
    grid = {(c["loss.k"], c["loss.beta"]) for c in cells if c["loss.association"] == "pse"}
    assert {("1", "0.25"), ("1", "1"), ("1", "1.25"), ("0.5", "1"), ("1.5", "1")} <= grid
    assert all("1" in pair for pair in grid) and len(cells) == len(grid) + 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"a": {"loss.assoc": "pse"}}, "did you mean config.loss.association"),
        ({"a": {"loss.association": "psi"}}, "did you mean pse?"),
        ({"a": {"seed": "3"}}, "that is what --seeds is for"),
        ({"a": {"loss.beta": "1"}}, "variants baseline and a have the same configuration"),
        ({"a": {"train.patience": "2", "train.eval_every": "3"}}, "a sweep compares runs of equal"),
        ({"a": {"loss.k": "2"}, "b": {"loss.k": "2.0"}}, "variants a and b have the same"),
    ],
)
def test_invalid_variants(base, settings, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        make(base, (), **settings)


def test_a_shared_setting_that_the_baseline_overrules_is_an_error(base):
    variants = {BASELINE: VARIANTS[BASELINE], "pse": VARIANTS["pse"]}
    with pytest.raises(ConfigError, match=r"--config\.loss\.beta: the baseline sets it; "):
        plan("f", base, {"loss.beta": "2"}, variants, (), 1)


def test_variants_on_the_command_line():
    text = "x: --config.loss.beta=2 --config.optimizer.milestones '(2, 3)' --config.model.remat"
    expected = {"loss.beta": "2", "optimizer.milestones": "(2, 3)", "model.remat": "true"}
    assert command.parse_variant(text) == ("x", expected)
    for wrong in (
        "x",
        "x:",
        ": --config.loss.beta=2",
        "a/b: --config.loss.beta=2",
        "x: --config.loss.beta",
        "x: loss.beta=2",
        "x: --config.loss.beta=2 --seeds 3",
    ):
        with pytest.raises(ConfigError):
            command.parse_variant(wrong)


def test_a_flag_for_every_run_changes_the_baseline_too():
    words = ["--config", "shapes_small", "--out", "x", "--table", "I"]
    options = command.parse([*words, "--config.optimizer.steps", "40", "--config.seed=7"])
    sweep = command.plan_of(options)
    assert sweep.shared == {"optimizer.steps": "40", "seed": "7"}
    for trial in sweep.trials(Path("x")):
        assert (trial.config.optimizer.steps, trial.seed) == (40, 7)


# Running


def test_a_killed_sweep_repeats_nothing_that_is_finished(base, tmp_path):
    sweep = claim(make(base), tmp_path)
    first = Stub(base, dies_at=4)
    with pytest.raises(KeyboardInterrupt):
        launch.run_all(results.unfinished(sweep, tmp_path), first)
    assert first.started == all_runs()[:4]
    states = [o.state for o in results.collect(sweep, tmp_path)]
    assert states == ["finished"] * 3 + ["missing"] * 3
    second = Stub(base)
    launch.run_all(results.unfinished(claim(make(base), tmp_path), tmp_path), second)
    assert second.started == all_runs()[3:]
    third = Stub(base)
    launch.run_all(results.unfinished(sweep, tmp_path), third)
    assert third.started == []


def test_a_cut_off_evaluation_does_not_count(base, tmp_path):
    sweep = make(base, (), seeds=1)
    launch.run_all(results.unfinished(sweep, tmp_path), Stub(base))
    file = tmp_path / "baseline" / "seed0" / "eval_6.json"
    file.write_text(file.read_text()[:40])
    again = Stub(base)
    launch.run_all(results.unfinished(sweep, tmp_path), again)
    assert len(again.started) == 1 and read_numbers(sweep.trials(tmp_path)[0]) is not None


def test_a_failed_run_is_reported_and_the_next_one_begins(base, tmp_path, capsys):
    sweep = claim(make(base), tmp_path)
    launch.run_all(results.unfinished(sweep, tmp_path), Stub(base, fails=[("pse", 1)]))
    assert command._report(sweep, tmp_path) == 1
    printed = capsys.readouterr().out
    log = tmp_path / "pse" / "seed1" / "output.log"
    assert f"FAILED: pse seed 1, see {log}" in printed
    assert "5 of 6 runs finished, 1 failed" in printed and f"**failed**, see {log}" in printed
    again = Stub(base)
    launch.run_all(results.unfinished(sweep, tmp_path), again)
    assert again.started == [("pse", 1)]
    assert command._report(sweep, tmp_path) == 0


def test_a_folder_holds_one_recipe_but_may_grow(base, tmp_path):
    sweep = claim(make(base, ["pse"], seeds=1), tmp_path)
    launch.run_all(results.unfinished(sweep, tmp_path), Stub(base))
    other = override(base, ["--config.optimizer.learning_rate=0.5"])
    with pytest.raises(ConfigError, match=r"learning_rate was 0.01 and is 0.5.*another --out"):
        claim(make(other), tmp_path)
    with pytest.raises(ConfigError, match=r"in pse, config.loss.beta was 1.0 and is 3.0"):
        claim(make(base, (), pse={"loss.association": "pse", "loss.beta": "3"}), tmp_path)
    whole = claim(make(base, ["pce"], seeds=2, tables=("II",)), tmp_path)
    assert list(whole.variants) == [BASELINE, "pse", "pce"] and whole.seeds == 2
    assert whole.tables == ("I", "II") and load(tmp_path) == whole
    slower = override(base, ["--config.data.threads=7", "--config.train.log_every=9"])
    claim(make(slower), tmp_path)


def test_a_finished_run_of_another_configuration_is_an_error(base, tmp_path):
    sweep = make(base, (), seeds=1)
    (trial,) = sweep.trials(tmp_path)
    launch.run_all([trial], Stub(base))
    content = to_dict(trial.config)
    content["inference"]["nms_threshold"] = 0.9
    (trial.folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"config.inference.nms_threshold=0.9.*asks for 0.6"):
        results.collect(sweep, tmp_path)
    assert not any("inference" in name for name in MAY_CHANGE)


# Statistics and tables


def test_statistics_by_hand():
    # Differences 1, 2, 6: mean 3, s = sqrt(7), t(0.975, 2) = 4.302653.
    ours, theirs = {0: 2.0, 1: 4.0, 2: 9.0, 5: 100.0}, {0: 1.0, 1: 2.0, 2: 3.0, 4: -9.0}
    d = paired_difference(ours, theirs)
    half = 4.302652730 * math.sqrt(7) / math.sqrt(3)
    assert d.count == 3 and d.mean == pytest.approx(3)
    assert (d.low, d.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
    s = estimate({0: 2.0, 1: 4.0, 2: 9.0, 3: math.nan})
    assert s.count == 3 and s.mean == 5 and s.deviation == pytest.approx(math.sqrt(13))


def test_statistics_of_few():
    one = paired_difference({0: 2.0, 1: math.nan}, {0: 1.5, 1: 1.0})
    assert one.count == 1 and one.mean == 0.5 and math.isnan(one.low) and math.isnan(one.high)
    assert paired_difference({0: 1.0}, {1: 1.0}).count == 0
    assert math.isnan(estimate({}).mean) and math.isnan(estimate({0: 1.0}).deviation)


def test_the_interval_covers_what_it_promises(rng):
    """95 of 100 intervals over 4 seeds hold the true difference."""
    held = 0
    for _ in range(1000):
        noise = rng.normal(0, 1, (2, 4))
        shared = rng.normal(0, 9, 4)  # what the seed does to both
        ours, theirs = (dict(enumerate(row + shared)) for row in noise)
        d = paired_difference(ours, theirs)
        held += d.low <= 0 <= d.high
    assert 930 <= held <= 970


def test_sign_flips_by_counting(rng):
    for n in (2, 3, 6):
        values = rng.normal(0.4, 1, n)
        means = [abs((values * signs).mean()) for signs in itertools.product((-1, 1), repeat=n)]
        expected = np.mean([mean >= abs(values.mean()) - 1e-12 for mean in means])
        assert sign_flips(list(values)) == pytest.approx(expected)
    assert sign_flips([0.1, 0.2, 0.3, 0.4]) == 2 / 2**4
    assert math.isnan(sign_flips([1.0])) and math.isnan(t_test([1.0]))
    assert math.isnan(t_test([2.0, 2.0]))


def test_the_t_test_agrees_with_its_interval(rng):
    for _ in range(50):
        values = dict(enumerate(rng.normal(0.5, 1, 5)))
        e = estimate(values)
        assert (t_test(list(values.values())) < 0.05) == (not e.low <= 0 <= e.high)


def test_holm_by_hand():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 but not under the one before, 0.5 * 1.
    found = holm([0.02, 0.5, math.nan, 0.01, 0.03])
    assert found[:2] == [pytest.approx(0.06), pytest.approx(0.5)] and math.isnan(found[2])
    assert found[3:] == [pytest.approx(0.04), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize(
    ("mean", "half", "p", "words"),
    [
        (0.02, 0.01, 0.01, "higher"),
        (-0.02, 0.01, 0.01, "lower"),
        (0.02, 0.01, 0.06, "open"),  # not after the correction
        (0.001, 0.003, 0.6, "the same within 0.5"),
        (0.003, 0.003, 0.06, "open"),
    ],
)
def test_what_the_tests_say(mean, half, p, words):
    assert report._verdict(Estimate(8, mean, 0.01, mean - half, mean + half), p) == words


@pytest.fixture
def reported(base, tmp_path):
    sweep = claim(make(base), tmp_path)
    launch.run_all(results.unfinished(sweep, tmp_path), Stub(base))
    text = report.write(sweep, results.collect(sweep, tmp_path), tmp_path)
    return text, tmp_path


def test_the_markdown(reported):
    text, out = reported
    assert text == (out / "sweep.md").read_text()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines()]
    (pse,) = (row for row in cells if row[:2] == ["pse", "2"] and "±" in row[2])
    # AP 33 and 35: mean 34, standard deviation sqrt(2). No large objects: a dash.
    assert pse[2] == "34.0 ± 1.4" and pse[3] == "50.0 ± 0.0" and pse[7] == "-"
    (paired,) = (row for row in cells if row[:2] == ["pse", "2"] and "[" in row[2])
    # Differences 3 and 4: 3.5 ± 12.706 · 0.5.
    assert paired[2] == "+3.5 [-2.9, +9.9]"
    (tested,) = (row for row in cells if row[:2] == ["pse", "2 of 2"])
    # t = 3.5 / 0.5 of one degree of freedom; signs: 2 of 4. The other is the smaller p.
    p = f"{1 - 2 / math.pi * math.atan(7):.4f}"
    assert tested[2:] == [p, p, "0.5000", "open"]
    header = next(row for row in cells if row[:2] == ["variant", "seeds"])
    assert header[2:] == list(TABLES["I"].metrics)
    lines = text.splitlines()
    for start in (i for i, line in enumerate(lines) if line.startswith("| -")):
        table = lines[start - 1 : start + 3]
        assert len({len(line) for line in table}) == 1 and len({x.count("|") for x in table}) == 1


def test_the_report_says_what_made_it(base, tmp_path):
    words = ["--config", "shapes_small", "--out", str(tmp_path), "--table", "I", "--seeds", "2"]
    more = ["--variant", "b: --config.loss.k=2 --config.loss.association=pse", "--config.seed=4"]
    sweep = command.plan_of(command.parse([*words, *more]))
    said = origin.command(sweep, tmp_path)
    assert command.plan_of(command.parse(shlex.split(said)[4:])) == sweep
    sweep = claim(make(base, (), tables=(), seeds=2, b={"loss.k": "2"}), tmp_path)
    launch.run_all(results.unfinished(sweep, tmp_path), Stub(base))
    for number, trial in enumerate(sweep.trials(tmp_path)):
        job = {"processor": "P9", "commit": f"abc{number % 2}", "versions": {"jax": "0.10"}}
        (trial.folder / "job.json").write_text(json.dumps(job) if number else "{")
    text = report.markdown(sweep, results.collect(sweep, tmp_path), tmp_path)
    made = text.split("## Made by")[1]
    assert f"sweep --report-only --out {tmp_path}\n" in made and "- 4 runs, 0.0 hours" in made
    assert "- processor: P9; not noted in 1\n" in made
    assert "- commit: abc0; abc1; not noted in 1\n" in made


def test_the_csv_files(reported):
    _, out = reported
    runs = list(csv.DictReader((out / "runs.csv").open()))
    assert [(r["variant"], int(r["seed"])) for r in runs] == all_runs()
    assert float(runs[1]["AP"]) == 0.33 and runs[1]["APL"] == "" and runs[1]["state"] == "finished"
    assert float(runs[1]["oracle_gap"]) == pytest.approx(0.27)
    rows = {(r["variant"], r["metric"]): r for r in csv.DictReader((out / "summary.csv").open())}
    row = rows["pse", "AP"]
    assert float(row["mean"]) == pytest.approx(0.34) and row["seeds"] == row["pairs"] == "2"
    assert float(row["difference"]) == pytest.approx(0.035)
    half = 12.7062047364 * 0.005
    assert float(row["ci_high"]) == pytest.approx(0.035 + half)
    assert rows[BASELINE, "AP"]["difference"] == "" and rows["pse", "rho_cls"]["mean"] == ""


def test_a_finished_run_counts_without_its_folder(reported, base, caplog):
    """By its row in runs.csv: the tables are the same, to the letter, and it is not repeated."""
    text, out = reported
    sweep, summary = load(out), (out / "summary.csv").read_text()
    for trial in sweep.trials(out):
        (trial.folder / "job.json").write_text(
            json.dumps({"commit": "abc", "versions": {"jax": 1}})
        )
    report.write(sweep, results.collect(sweep, out), out)
    text, rows = (out / "sweep.md").read_text(), (out / "runs.csv").read_text()
    for name in (BASELINE, "pse", "pce"):
        shutil.rmtree(out / name)
    assert report.write(sweep, results.collect(sweep, out), out) == text and "commit: abc\n" in text
    assert (out / "runs.csv").read_text() == rows
    assert (out / "summary.csv").read_text() == summary
    with pytest.raises(ConfigError, match="another recipe"):
        claim(make(override(base, ["--config.optimizer.learning_rate=0.5"])), out)
    with caplog.at_level("INFO"):
        left = results.unfinished(claim(make(base, seeds=3), out), out)
    assert "6 of 9 runs are already finished; 6 of these have no folder" in caplog.text
    assert [(trial.variant, trial.seed) for trial in left] == all_runs(seeds=[2])


def test_a_damaged_row_is_an_error(reported):
    _, out = reported
    text = (out / "runs.csv").read_text()
    (out / "runs.csv").write_text(text.replace("pse,1,finished,6,", "pse,x,finished,6,"))
    with pytest.raises(ConfigError, match=r"runs\.csv, line 6: .*'x'"):
        results.collect(load(out), out)
    (out / "runs.csv").write_text("variant\npse\n")
    with pytest.raises(ConfigError, match=r"runs\.csv, line 2: KeyError\('state'\)"):
        results.collect(load(out), out)


def test_variants_of_no_table_get_one_of_their_own(base, tmp_path):
    sweep = claim(make(base, (), tables=(), seeds=1, mine={"loss.k": "2"}), tmp_path)
    text = report.markdown(sweep, results.collect(sweep, tmp_path), tmp_path)
    assert "## Variants" in text and "`loss.k=2.0`" in text and "0 of 2 runs finished" in text
    assert "| **missing** |" in text


# The command


def sweep_command(cache, out, *more):
    return [
        *(sys.executable, "-m", "pse_jax", "sweep", "--config", "tests/tiny_run.py"),
        *("--out", str(out), "--variant", "baseline: --config.loss.association=pse"),
        *(f"--config.data.cache_dir={cache}", *more),
    ]


# Compiles faster, runs slower.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--out"),
        (["--out", "x", "--table", "I"], "--config is missing"),
        (["--out", "x", "--config", "configs/shapes_pse.py"], "nothing to compare"),
        (["--out", "x", "--config", "f", "--table", "I", "--seeds", "0"], "must be 1 or more"),
        (["--out", "x", "--config", "f", "--set", "loss.beta=2"], "there is no flag --set"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        command.main(arguments)


def test_report_only_needs_a_sweep(tmp_path):
    with pytest.raises(ConfigError, match="holds no sweep"):
        command.main(["--report-only", "--out", str(tmp_path)])


TRAINER = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--workdir") + 1])
def stop(*_):
    (folder / "saved").write_text("")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / "metrics.jsonl").write_text('{"step": 2}\\n{"step": 4}\\n')
print("training", *sys.argv, flush=True)
while not (folder / "end").exists():
    time.sleep(0.02)
sys.exit(3)
"""


@pytest.fixture
def trainer(base, tmp_path, monkeypatch):
    """A run whose training is a script that lasts until DIR/end is there."""
    file = tmp_path / "train.py"
    file.write_text(TRAINER)
    monkeypatch.setattr(launch, "PROGRAM", (sys.executable, str(file)))
    monkeypatch.setattr(launch, "POLL", 0.1)
    (trial,) = make(base, (), seeds=1).trials(tmp_path)
    trial.folder.mkdir(parents=True)
    return trial


def test_a_run_is_a_process_that_waits_for_one_that_is_left_over(trainer, monkeypatch):
    """A sweep that was killed leaves its training process; two never write to one folder."""
    monkeypatch.setattr(lock, "POLL", 0.02)
    trial = trainer
    left_over = lock.Lock(trial.folder)
    ending = threading.Timer(0.5, left_over.release)
    ending.start()
    steps = []

    def look(step):
        steps.append(step)
        assert not ending.is_alive()
        if step == 4:
            (trial.folder / "end").write_text("")

    assert launch.train_process("some/config.py")(trial, look) == 3
    assert steps[-1] == 4
    printed = trial.output.read_text()
    assert printed.count("--config some/config.py --workdir") == 2  # the command, and its output
    assert "--config.loss.association=none" in printed


def test_a_stopped_sweep_lets_its_run_save(trainer):
    trial = trainer

    def stop(step):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.run_all([trial], lambda *a: launch.train_process("c.py")(trial, stop))
    assert (trial.folder / "saved").exists() and not trial.exit_status.exists()
    assert results.outcome(trial).state == "unfinished" and results.outcome(trial).step == 4


def test_two_runs_at_a_time_have_their_own_processors(base, tmp_path):
    trials = make(base, ["pse", "pce"], seeds=1).trials(tmp_path)
    both, stub, on = threading.Barrier(2, timeout=20), Stub(base), {}

    def start(trial, report):
        command = [sys.executable, "-c", "from pse_jax import processors as p; print(p.numbers())"]
        on[trial.variant] = subprocess.run(command, capture_output=True, text=True).stdout
        if len(on) < 3:
            both.wait()
        return stub(trial, report)

    launch.run_all(trials, start, jobs=2)
    assert len(stub.started) == 3 and all(read_numbers(trial) for trial in trials)
    if mine := processors.numbers():
        assert {on["baseline"].strip(), on["pse"].strip()} == {str(mine[::2]), str(mine[1::2])}
        assert processors.numbers() == mine


def test_of_two_runs_each_is_stopped_when_one_fails_to_begin(trainer, base, tmp_path):
    trials = make(base, ["pse", "pce"], seeds=1).trials(tmp_path)
    begun = threading.Event()

    def start(trial, report):
        if trial.variant == "pse":
            assert begun.wait(20)
            raise OSError("no such program")

        def look(step):
            begun.set()
            report(step)

        return launch.train_process("c.py")(trial, look)

    with pytest.raises(OSError, match="no such program"):
        launch.run_all(trials, start, jobs=2)
    assert (trials[0].folder / "saved").exists() and not trials[0].exit_status.exists()
    assert not trials[2].folder.exists()


@pytest.mark.parametrize("jobs", [0, 10**6])
def test_more_runs_at_a_time_than_processors_are_refused(jobs):
    most = processors.count()
    with pytest.raises(UserError, match=f"--jobs {jobs}: must be 1 to {most}, the number of proc"):
        command.parse(["--table", "I", "--config", "f", "--out", "x", "--jobs", str(jobs)])


def test_an_older_ranking_file_is_made_anew(base, tmp_path, monkeypatch):
    """Its LaECE was another measure."""
    (trial,) = make(base, (), seeds=1, tables=()).trials(tmp_path)
    trial.folder.mkdir(parents=True)
    old = {"rho_img": 0.1, "rho_cls": 0.1, "LaECE": 7.0}
    (trial.folder / "ranking_6.json").write_text(json.dumps(old))
    truth, found = random_case(3)
    monkeypatch.setattr(results.sources, "open_split", lambda *_: truth)
    monkeypatch.setattr(results, "load_results", lambda *_: found)
    numbers = {"step": 6, "per_class": dict.fromkeys(truth.categories.unique_names, 0.5)}
    made = results._ranking(trial, numbers)
    assert made["LaECE"] == measure.calibrate(measure.examine(truth, found))["LaECE"]
    kept = json.loads((trial.folder / "ranking_6.json").read_text())
    assert kept["LaECE"] == made["LaECE"] and "LaACE" in kept


@pytest.mark.slow
def test_stopped_and_run_again(base, tmp_path, capsys):
    """Real training processes: SIGTERM saves the run at hand, and the sweep resumes it."""
    cache, out = base.data.cache_dir, tmp_path / "sweep"
    sources.locate(base.data)
    words = sweep_command(
        cache, out, "--config.optimizer.steps=60", "--config.inference.score_threshold=0.001"
    )
    options = {"cwd": ROOT, "text": True, "env": os.environ | QUICK}
    with subprocess.Popen(words, stdout=subprocess.PIPE, **options) as process:
        metrics, patience = out / "baseline" / "seed0" / "metrics.jsonl", time.time() + 120
        while not (metrics.exists() and metrics.read_text()) and time.time() < patience:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command resumes" in printed
    done = subprocess.run(words, capture_output=True, timeout=200, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    log = (out / "baseline" / "seed0" / "output.log").read_text()
    assert log.count("$ ") == 2 and "resumed from a checkpoint" in log
    (row,) = csv.DictReader((out / "runs.csv").open())
    assert row["state"] == "finished" and float(row["detections"]) > 0
    assert np.isfinite(float(row["LaECE"]))
    capsys.readouterr()
    assert command.main(["--report-only", "--out", str(out)]) == 0
    assert capsys.readouterr().out == done.stdout
