"""Which commands of given texts do not exist; run by test_docs.py as a process of its own.

A process, as the tests' own imports every module through beartype, which takes twice as long.

stdin: a JSON list of [where, text, whether its commands are shown in full].
stdout: a JSON list of messages.
"""

import importlib
import json
import re
import shlex
import sys

import pages

from pse_jax.__main__ import VERBS
from pse_jax.config import Config
from pse_jax.config_checks import override, validate
from pse_jax.errors import UserError
from pse_jax.verbs import flags

PLACEHOLDER = re.compile(r"[A-Z]+|mine\.py(:.*)?")  # of a value: FILE, NAME, a reader's own file
parse = flags.parse


class Parsed(BaseException):
    """Thrown in place of a verb's work, with the flags that it was given."""


def stop(parser, argv):
    raise Parsed(parse(parser, argv))


def check(verb, argv, whole):
    """Raises UserError if a verb, flag, field, value or configuration does not exist."""
    if verb not in VERBS:
        raise UserError(f"there is no verb {verb!r}")
    argv = [word.replace("gs://", "/") for word in argv]  # gcsfs need not be installed
    try:
        importlib.import_module(f"pse_jax.verbs.{verb.replace('-', '_')}").main(argv)
    except Parsed as parsed:
        options = parsed.args[0]
    except UserError as error:
        if whole or "the following arguments are required" not in str(error):
            raise
        return
    name = getattr(options, "config", None)
    given = Config()
    if name and not PLACEHOLDER.fullmatch(name):
        given = flags.load_config(name)
    changed = override(given, getattr(options, "overrides", []))
    if whole:
        validate(changed)
    for variant in getattr(options, "variant", []):
        override(given, shlex.split(variant.partition(":")[2]))


def problems(found):
    """What is wrong with the commands of [where, text, shown in full] triples."""
    wrong = []
    for where, text, shown_in_full in found:
        for verb, argv, whole in pages.commands(text):
            try:
                check(verb, argv, whole and shown_in_full)
            except UserError as error:
                wrong.append(f"{where}: {verb} {shlex.join(argv)}: {error}")
    return wrong


if __name__ == "__main__":
    flags.parse = stop
    json.dump(problems(json.load(sys.stdin)), sys.stdout)
