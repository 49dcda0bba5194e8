"""Writes a detector as files that programs run without this package: StableHLO, ONNX.

Beside them lie model.json (labels, thresholds, input rules, versions) and README.md, a model card.
"""

import argparse
import importlib.util
import json
import shlex
from typing import TYPE_CHECKING, Any

from pse_jax.addresses import named
from pse_jax.errors import UserError
from pse_jax.files import is_regular, read_regular
from pse_jax.verbs import flags

if TYPE_CHECKING:
    from pse_jax.detector import Detector
    from pse_jax.export.artefact import Artefact

FORMATS = ("stablehlo", "onnx")
NEEDS = {"stablehlo": ("flatbuffers", "export"), "onnx": ("onnx", "onnx")}  # module, extra


def main(argv: list[str]) -> int:
    parser = flags.parser("export", __doc__)
    flags.add_workdir(parser)
    add = parser.add_argument
    text = "a published detector instead: its file, address or name"
    add("--detector", metavar="FILE", help=text)
    flags.add_checkpoint(parser)
    add("--out", type=flags.place, required=True, metavar="DIR", help="folder to write")
    text = "stablehlo (the default), onnx, or both, with a comma"
    add("--format", type=formats_of, default=["stablehlo"], metavar="FORMAT", help=text)
    text = "cpu (the default): fewer multiplications in large models; any: a node a convolution"
    add("--onnx-for", choices=("cpu", "any"), help=text)
    options = flags.parse(parser, argv)
    if options.onnx_for and "onnx" not in options.format:
        parser.error("--onnx-for is of --format onnx; add that, or leave it out")
    if bool(options.workdir) == bool(options.detector):
        parser.error("give either --workdir, a run's folder, or --detector, a file or a name")
    for name in options.format:
        check_installed(name)

    from pse_jax.export import bundle
    from pse_jax.runs.load import load
    from pse_jax.runs.remote import staging

    source = options.detector or options.workdir
    with staging.writing(options.out) as folder:
        bundle.check_folder(folder)
        detector = load(source, options.checkpoint, overrides=options.overrides)
        artefacts = [make(name, detector, options.onnx_for) for name in options.format]
        lines = bundle.write(
            detector,
            folder,
            artefacts,
            command=shlex.join(["python", "-m", "pse_jax", "export", *argv]),
            source=str(source),
            evaluation=evaluation_of(options, detector.step),
        )
    print(*map(named, lines), sep="\n")
    return 0


def formats_of(text: str) -> list[str]:
    """The argparse type of `--format`.

    Raises:
        ArgumentTypeError: if it holds anything but names of formats.
    """
    chosen = list(dict.fromkeys(word.strip() for word in text.split(",")))
    if not all(name in FORMATS for name in chosen):
        raise argparse.ArgumentTypeError(f"{text!r} is not one or more of {','.join(FORMATS)}")
    return chosen


def check_installed(format: str) -> None:
    """Raises UserError if a package is missing that the format needs."""
    module, extra = NEEDS[format]
    if importlib.util.find_spec(module) is None:
        raise UserError(f"--format {format} needs {module}; pip install 'pse-jax[{extra}]'")


def evaluation_of(options: argparse.Namespace, step: int) -> dict[str, Any] | None:
    """What the run's evaluation of that step found, if the detector is that of a run as it is."""
    from pse_jax.runs.folder import Run, numbers_file

    if options.detector or options.overrides:
        return None
    run = Run(options.workdir)
    files = [numbers_file(run.folder, step)]
    files.append(numbers_file(run.evaluations / f"step_{step}", step))
    found = next(filter(is_regular, files), None)
    return json.loads(read_regular(found)) if found else None


def make(format: str, detector: "Detector", onnx_for: str | None) -> "Artefact":
    """The model in one format; `onnx_for` is the option."""
    if format == "onnx":
        from pse_jax.export import onnx  # pyright: ignore[reportAttributeAccessIssue]

        return onnx.make(detector, for_cpu=onnx_for != "any")
    from pse_jax.export import stablehlo

    return stablehlo.make(detector)
