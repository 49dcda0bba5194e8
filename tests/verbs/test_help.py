"""`train.py --help` and `train.py --overfit`, without training."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pse_jax import config as source
from pse_jax.config import Config, leaves
from pse_jax.data import sources
from pse_jax.errors import ConfigError, UserError
from pse_jax.verbs import fields, flags, overfit, predict, train
from tests import tiny_run

ROOT = Path(__file__).parents[2]


def test_help_lists_every_field_and_exits_with_0():
    done = subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    listed = done.stdout.split("fields of the configuration")[1]
    for path, _, _ in leaves(Config()):
        assert listed.count(f"  --config.{path}=") == 1, path
    for section in ("model", "targets", "loss", "optimizer", "data", "data.shapes", "inference"):
        assert f"\n{section}: " in listed
    assert max(map(len, listed.splitlines())) < 160


def test_every_field_is_explained():
    """Whoever adds one writes a comment beside it, or above."""
    for path, node in fields.sections(Config()):
        silent = [name for name, comment in fields.comments_of(type(node)).items() if not comment]
        assert not set(silent) - {"model", "targets", "loss", "optimizer", "data", "shapes",
                                  "inference", "train"}, path  # fmt: skip


def test_what_is_said_of_some_fields():
    """Read off config.py by eye."""
    lines = fields.help_text().splitlines()

    def entry(path):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"  --config.{path}="))
        end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("      "))
        return lines[start].strip(), " ".join(line.strip() for line in lines[start + 1 : end])

    assert entry("model.depth") == (
        "--config.model.depth=50  (one of 10, 18, 34, 50, 101)",
        "ResNet; basic blocks up to 34, then bottlenecks",
    )
    assert entry("optimizer.milestones") == (
        "--config.optimizer.milestones=(60000,80000)  "
        "(whole numbers, with commas between them, greater than 0 and strictly increasing)",
        "from these steps on, times gamma",
    )
    assert entry("data.exif")[1].startswith("apply: photos are turned upright, as people see")
    assert entry("data.exif")[1].endswith("fit one of the two only, that one is taken.")
    assert entry("data.keep_empty") == (
        "--config.data.keep_empty=false  (true or false)",
        "train on images without objects too; the reference drops them",
    )


def test_no_comment_beside_a_field_is_lost():
    """Against a plain search of the text for `name: type = value  # comment`."""
    text = Path(source.__file__).read_text()
    found = re.findall(r"^    (\w+): [^#\n]+ = [^#\n]+  # (.+)$", text, re.MULTILINE)
    assert len(found) > 90
    said = {}
    for _, node in fields.sections(Config()):
        for name, comment in fields.comments_of(type(node)).items():
            said.setdefault(name, []).append(comment)
    for name, comment in found:
        assert any(one.endswith(comment) for one in said[name]), name


@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5", ""])
def test_overfit_wants_a_number_of_images(value):
    with pytest.raises(UserError, match=r"--overfit: '.*' is not a number of images, 1 or more"):
        train.main(["--config=coco_pse", f"--overfit={value}"])


def test_overfit_changes_the_recipe_in_what_it_says():
    given = flags.load_config("own")
    given.data.zoom, given.data.hue = (0.5, 2.0), 0.1
    config = overfit.configuration(given, 8, [])
    data = config.data
    assert (data.overfit, data.flip, data.zoom, data.hue, data.jitter) == (8, 0, (1, 1), 0, ())
    assert data.batch_size == given.data.batch_size and config.model == given.model
    assert config.optimizer.steps == overfit.STEPS and config.optimizer.milestones == ()
    assert config.optimizer.learning_rate == given.optimizer.learning_rate
    assert config.name == "own_overfit8" and given.data.overfit == 0
    flag = "--config.optimizer.steps=40"
    given.optimizer.steps = 40
    config = overfit.configuration(given, 8, [flag])
    assert config.optimizer.steps == 40 and config.optimizer.warmup_steps <= 4


def test_no_form_of_an_image_is_left_out_by_overfit():
    """A field of the data that is new is either named there or no augmentation."""
    same = {"source", "root", "cache_dir", "outside_images", "exif", "resize", "short_side",
            "long_side", "buckets", "batch_size", "overfit", "keep_empty", "threads", "prefetch",
            "cache_gb", "train_annotations", "train_images", "val_annotations", "val_images",
            "shapes"}  # fmt: skip
    assert set(vars(Config().data)) == same | set(overfit.PLAIN)


@pytest.mark.parametrize("ap50, good", [(0.9, True), (0.8999, False), (None, False)])
def test_the_verdict(ap50, good, caplog):
    numbers = {"AP": 0.5, "AP50": ap50}
    assert overfit.learned(numbers) is good
    config = overfit.configuration(flags.load_config("own"), 8, [])
    told = overfit.Verdict()
    told.on_start(overfit.RunInfo(config, Path("x"), 0, 300, {}))
    told.on_evaluation(300, numbers)
    with caplog.at_level("INFO"):
        told.on_end("interrupted")
        assert not caplog.records
        flags.getLogger("pse_jax").propagate = True
        told.on_end("finished")
    assert ("yes, this set-up can learn" in caplog.text) is good
    assert ("NO, this set-up did not learn 8 images in 300 steps" in caplog.text) is not good


def test_both_sets_are_the_same_few_images_with_objects(tmp_path):
    data = tiny_run.config(tmp_path).data
    whole = sources.open_train(data)
    data.overfit = 5
    ours, theirs = sources.open_train(data), sources.open_split(data, "val")
    assert ours.image_ids.tolist() == theirs.image_ids.tolist() == whole.image_ids[:5].tolist()
    assert len(ours.labels) == len(theirs.labels) == len(whole.select(np.arange(5)).labels) > 0
    data.overfit = 10**6
    assert len(sources.open_split(data, "val")) == len(whole)


def test_a_run_is_no_place_for_overfit(tmp_path):
    """Nor the other way round: the folder of the one is refused by the other."""
    from pse_jax.runs.folder import Run

    run, config = Run(tmp_path / "run"), tiny_run.config(tmp_path)
    run.make()
    run.claim(config)
    (run.checkpoints / "4").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"data\.overfit was 0 and is 2"):
        run.check_claim(overfit.configuration(config, 2, []))


@pytest.mark.slow
def test_overfit_from_the_command_line(tmp_path):
    """Two steps teach nothing: exit status 1, and a run that says so."""
    done = subprocess.run(
        [
            *(sys.executable, "train.py", "--config=tests/tiny_run.py", "--overfit=4"),
            *(f"--config.data.cache_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"),
            "--config.optimizer.steps=2",
        ],
        **{"cwd": ROOT, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 1, done.stderr
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.rstrip().splitlines()[-1].count("overfit: NO, this set-up did not learn 4") == 1
    assert "val data    4 images" in log


def test_files_may_stand_before_between_and_after_the_flags():
    words = "a.jpg --threshold .5 b.jpg --config.inference.top_k=9 --no-images c.jpg".split()
    options = flags.parse(predict._parser(), words)
    assert options.images == [Path("a.jpg"), Path("b.jpg"), Path("c.jpg")]
    assert options.threshold == 0.5
    assert options.no_images and options.overrides == ["--config.inference.top_k=9"]
    options = flags.parse(predict._parser(), ["--no-images", "--", "-a.jpg"])
    assert options.images == [Path("-a.jpg")]
    with pytest.raises(UserError, match="no flag --treshold; did you mean --threshold"):
        flags.parse(predict._parser(), ["a.jpg", "--treshold", ".5"])
    with pytest.raises(UserError, match="required: IMAGE_OR_FOLDER"):
        flags.parse(predict._parser(), ["--threshold", ".5"])
