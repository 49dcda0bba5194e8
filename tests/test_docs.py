"""README.md and docs/ against the code: links, anchors, commands, flags, fields, configurations.

Nothing is run and nothing is fetched: the parsers of the verbs read the commands. Whether the
commands of the README and the tutorial work, tests/test_docs_run.py says.
"""

import json
import os
import re
import subprocess
import sys

import pages
import pytest

from pse_jax import config as fields_of_code
from pse_jax.config import Config
from pse_jax.verbs import flags

ROOT = pages.ROOT
BROKEN = {
    "python -m pse_jax evaluate --workdir a": "there is no verb 'evaluate'",
    "python train.py --config shapes_pse --workdirr a": "there is no flag --workdirr",
    "python train.py --config shapes_psi": "no configuration at shapes_psi",
    "python train.py --config shapes_pse --config.loss.betta=1": "has no field 'betta'",
    "python train.py --config shapes_pse --config.loss.beta=-1": "it must be 0 or greater",
    "python train.py --config shapes_pse --config.loss.association=ps": "it must be one of",
    "python -m pse_jax analyze --annotations a.json": "arguments are required: --detections",
    'python -m pse_jax sweep --config shapes_pse --out a --variant "b: --config.x=1"': "'x'",
}


@pytest.fixture(scope="module")
def wrong():
    """What is wrong with the commands of all pages and configurations, and of BROKEN."""
    found = [(text, text, True) for text in BROKEN]
    texts = {page: pages.read(page) for page in pages.pages()}
    for file in sorted((ROOT / "configs").glob("[!_]*.py")):
        texts[f"configs/{file.name}"] = file.read_text().split('"""')[1]
    for page, text in texts.items():
        blocks, prose = pages.split(page, text)
        found += [(str(block), block.text, True) for block in blocks]
        found += [(f"{page}:{line}", code, False) for line, code in pages.inline_code(prose)]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "docs_commands.py"],
        input=json.dumps(found),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_exists(wrong):
    assert [message for message in wrong if not message.startswith(tuple(BROKEN))] == []


@pytest.mark.parametrize("text", BROKEN)
def test_a_command_that_does_not_exist_is_found(text, wrong):
    (message,) = (message for message in wrong if message.startswith(f"{text}: "))
    assert BROKEN[text] in message


def test_the_commands_are_found():
    """That the test above looks at something."""
    found = [
        c for page in pages.pages() for b in pages.blocks(page) for c in pages.commands(b.text)
    ]
    assert len(found) > 40
    assert {verb for verb, _, _ in found} >= {"train", "eval", "check", "convert", "sweep"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("$ python train.py --config a.py  # why", [("train", ["--config", "a.py"], True)]),
        (
            "A=1 python -m pse_jax draw \\\n  --out x && python eval.py ...",
            [("draw", ["--out", "x"], True), ("eval", [], False)],
        ),
        ("nohup python train.py --seed 2 > out 2>&1 &", [("train", ["--seed", "2"], True)]),
        ("python train.py 2>&1 &", [("train", [], True)]),
        ("sh -c 'exec python train.py --workdir w'", [("train", ["--workdir", "w"], True)]),
        ('python -m pse_jax sweep --variant "a: --b"', [("sweep", ["--variant", "a: --b"], True)]),
        ("python -m pse_jax analyze [--images DIR]", [("analyze", ["--images", "DIR"], True)]),
        ("run `python -m pse_jax check` and", [("check", [], True)]),
        ("python -m pse_jax VERB", []),
    ],
)
def test_what_a_command_is(text, expected):
    assert list(pages.commands(text)) == expected


@pytest.mark.parametrize("page", pages.pages())
def test_every_link_leads_somewhere(page):
    broken = []
    for line, target in pages.links(page):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        if not place.exists() or not place.is_relative_to(ROOT):
            broken.append(f"{page}:{line}: there is no {target}")
        elif anchor and anchor not in pages.anchors(str(place.relative_to(ROOT))):
            broken.append(f"{page}:{line}: {place.name} has no heading #{anchor}")
    assert not broken


def test_anchors_are_github_s(tmp_path, monkeypatch):
    page = "# A `b` of c_d, e.g. [f](g.md)\n\n## Twice\n\n```\n# no heading\n```\n\n## Twice\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    assert pages.anchors("page.md") == {"a-b-of-c_d-eg-f", "twice", "twice-1"}


def test_every_page_is_in_the_table_of_contents():
    shown = [
        entry
        for block in pages.blocks("docs/index.md")
        if block.language == "{toctree}"
        for entry in block.text.splitlines()
        if entry and not entry.startswith(":")
    ]
    expected = {page.removeprefix("docs/").removesuffix(".md") for page in pages.pages()[1:]}
    assert sorted(shown) == sorted(expected - {"index"})


def test_every_shipped_configuration_is_described():
    text = pages.read("docs/configuration.md")
    assert [name for name in flags.shipped() if f"`{name}`" not in text] == []


def test_every_field_of_the_configuration_says_what_it_means(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "_extensions")
    sys.modules.pop("fields", None)
    import fields

    shown = pages.read("docs/reference/fields.md")
    sections = [
        "config",
        *{path.rpartition(".")[0] for path, *_ in fields_of_code.leaves(Config())},
    ]
    for section in filter(None, sections):
        assert f"{{config-fields}} {section}\n" in shown
        node = Config() if section == "config" else fields_of_code.get(Config(), section)
        rows = fields.rows(node)
        assert all(comment for *_, comment in rows), rows
    (row,) = (row for row in fields.rows(Config().inference) if row[0] == "max_detections")
    assert row == ("max_detections", "a whole number, greater than 0", "100", "per image")
