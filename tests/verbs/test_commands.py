"""The commands as a person meets them: one message that names the thing, no traceback, exit 2."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pse_jax import __main__
from pse_jax.config import Config, to_dict
from pse_jax.errors import ConfigError, UserError
from pse_jax.runs.folder import Run
from pse_jax.verbs import flags

ROOT = Path(__file__).parents[2]


def run(*arguments, program=("train.py",)):
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config", "configs/coco_psi.py"], "did you mean configs/coco_pse.py?"),
        (["--config", "coco_psi"], "did you mean coco_pse?"),
        (["--config.optimizer.learnin_rate=1"], "did you mean config.optimizer.learning_rate?"),
        (["--workdirr", "x"], "there is no flag --workdirr; did you mean --workdir?"),
        (["steps=5"], "'steps=5' is not a flag; write --config.section.field=value, no spaces"),
        (["--config.data.shapes.clutter=4"], "config.data.shapes.clutter"),
        (
            ["--config.data.root=missing"],
            "no annotations at missing/annotations/instances_train2017",
        ),
    ],
)
def test_train_answers_a_mistake_with_one_message(tmp_path, arguments, message):
    first = [] if "--config" in arguments else ["--config", "configs/coco_pse.py"]
    done = run(*first, "--workdir", str(tmp_path / "run"), *arguments)
    assert done.returncode == 2, done.stderr
    progress = r"^[\d:]+ (loading JAX|job +1 process|reading the annotations).*\n"
    said = re.sub(progress, "", done.stderr, flags=re.MULTILINE)
    assert said.startswith("error: ") and message in said
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_help_names_the_flags():
    done = run("--help")
    assert done.returncode == 0 and "--config FILE" in done.stdout
    assert "--workdir DIR" in done.stdout and "--config.SECTION.FIELD=VALUE" in done.stdout


def test_a_wrong_flag_is_answered_before_jax_is_loaded():
    program = "import sys, pse_jax.__main__ as m; m.main(sys.argv[1:]); print(*sys.modules)"
    done = run("train", "--config", "coco_pse", "--config.lr=1", program=("-c", program))
    assert "error: " in done.stderr and "jax" not in done.stdout.split()


def test_an_unknown_verb_names_the_likely_one(capsys):
    assert __main__.main(["chekc"]) == 2
    assert "there is no verb 'chekc'; did you mean check?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", __main__.VERBS)
def test_every_verb_is_listed_and_has_help(verb, capsys):
    assert __main__.main([]) == 0
    assert f"\n  {verb} " in capsys.readouterr().out
    module = importlib.import_module(f"pse_jax.verbs.{verb.replace('-', '_')}")
    with pytest.raises(SystemExit) as caught:
        module.main(["--help"])
    assert caught.value.code == 0
    assert f"usage: python -m pse_jax {verb} " in capsys.readouterr().out


# The grammar


@pytest.fixture
def parser():
    parser = flags.parser("test", "a test")
    flags.add_config(parser)
    flags.add_workdir(parser)
    flags.add_checkpoint(parser)
    parser.add_argument("--count", type=int)
    return parser


@pytest.mark.parametrize(
    "given, expected",
    [
        (["--config.a.b=1"], ["--config.a.b=1"]),
        (["-config.a.b=x=y, z"], ["--config.a.b=x=y, z"]),
        (["--config.optimizer.steps", "5"], ["--config.optimizer.steps=5"]),
        (["--config.loss.beta", "-1"], ["--config.loss.beta=-1"]),
        (["--config.model.remat", "--count", "3"], ["--config.model.remat=true"]),
        (["--noconfig.model.remat"], ["--config.model.remat=false"]),
        (["--config.data.root="], ["--config.data.root="]),
    ],
)
def test_the_ways_to_set_a_field(parser, given, expected):
    options = flags.parse(parser, ["--config", "a.py", *given, "--workdir=w"])
    assert options.overrides == expected
    assert (options.config, options.workdir) == ("a.py", Path("w")) and options.checkpoint == "best"


@pytest.mark.parametrize(
    "given, message",
    [
        (["--config.data.root"], "--config.data.root has no value"),
        (["--config.data.root", "--count", "3"], "--config.data.root has no value"),
        (["--noconfig.model.remat=true"], "there is no flag --noconfig.model.remat"),
        (["--cou", "3"], "there is no flag --cou; did you mean --count?"),
        (["--count", "x"], "argument --count: invalid int value: 'x'"),
        (["--config"], "argument --config: expected one argument"),
    ],
)
def test_a_wrong_flag_is_an_error(parser, given, message):
    with pytest.raises(UserError) as caught:
        flags.parse(parser, given)
    assert message in str(caught.value)


def test_a_verb_without_a_configuration_refuses_its_flags():
    with pytest.raises(UserError, match=r"--config.loss.beta=2: this command has no configuration"):
        flags.parse(flags.parser("test", None), ["--config.loss.beta=2"])


def test_the_flags_change_the_configuration_and_it_is_checked(parser):
    given = [
        "--config",
        "shapes_pse",
        "--config.optimizer.milestones=(1,2)",
        "--config.model.remat",
    ]
    config = flags.config_of(flags.parse(parser, given))
    assert config.name == "shapes_pse" and config.model.remat
    assert config.optimizer.milestones == (1, 2)
    with pytest.raises(ConfigError, match=r"config\.loss\.beta is -1.0; it must be 0 or"):
        flags.config_of(flags.parse(parser, [*given, "--config.loss.beta=-1"]))


def test_the_configuration_of_a_run_may_be_changed_or_replaced(parser, tmp_path):
    Run(tmp_path).config_file.write_text('{"name": "old"}')
    options = flags.parse(parser, ["--workdir", str(tmp_path), "--config.seed=3"])
    run, config = flags.run_of(options)
    assert run.folder == tmp_path and (config.name, config.seed) == ("old", 3)
    assert flags.run_of(flags.parse(parser, ["--config.seed=4"]), tmp_path)[1].seed == 4
    run, config = flags.run_of(flags.parse(parser, ["--config", "coco_pse"]))
    assert run.folder == Path("runs/coco_pse") and config.model.init_from == "msra_r50"
    with pytest.raises(ConfigError, match="--workdir is missing; give the folder of a run"):
        flags.run_of(flags.parse(parser, []))
    with pytest.raises(ConfigError, match="holds no run"):
        flags.run_of(flags.parse(parser, ["--workdir", str(tmp_path / "none")]))


# Configuration files


GOOD = (
    "from pse_jax.config import Config\n\ndef get_config(name='x'):\n    return Config(name=name)\n"
)


def test_a_configuration_file_may_take_an_argument(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(GOOD)
    assert flags.load_config(str(file)) == Config(name="x")
    assert flags.load_config(f"{file}:other").name == "other"


def test_a_configuration_file_runs_once(tmp_path, parser):
    file = tmp_path / "a.py"
    file.write_text(f"open({str(tmp_path / 'log')!r}, 'a').write('ran ')\n{GOOD}")
    flags.config_of(flags.parse(parser, ["--config", str(file)]))
    assert (tmp_path / "log").read_text() == "ran "


def test_shipped_configurations_have_bare_names(tmp_path, monkeypatch):
    names = [file.stem for file in (ROOT / "configs").glob("[!_]*.py")]
    assert flags.shipped() == sorted(names)
    monkeypatch.chdir(tmp_path)
    for name in names:
        again = flags.load_config(str(ROOT / "configs" / f"{name}.py"))
        assert to_dict(flags.load_config(name)) == to_dict(again) and again.name == name


@pytest.mark.parametrize(
    "text, message",
    [
        ("x = 1", "has no get_config(); write one that returns a pse_jax.config.Config, as "),
        ("def get_config(:\n", "line 1: invalid syntax: def get_config(:"),
        ("def get_config():\n    return {}", "get_config() returns a dict; write one that returns"),
        ("\nimport nothing_like_it", "line 2: ModuleNotFoundError: No module named 'nothing"),
        (
            GOOD.replace("name=name", "lr=1"),
            "unexpected keyword argument 'lr'",
        ),
    ],
)
def test_a_configuration_file_that_cannot_be_used(tmp_path, text, message):
    file = tmp_path / "a.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        flags.load_config(str(file))
    assert str(caught.value).startswith(str(file)) and message in str(caught.value)


@pytest.mark.parametrize("argv", [[], ["--workdir", "x"]])
def test_a_missing_config_flag_lists_the_experiments(argv, parser):
    with pytest.raises(ConfigError, match=r"--config is missing; give .* one of .*coco_pse"):
        flags.config_of(flags.parse(parser, argv))
