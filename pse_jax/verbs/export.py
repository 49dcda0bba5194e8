"""Writes a detector as files that programs run without this package: StableHLO, ONNX.

Beside them lie model.json (labels, thresholds, input rules, versions) and README.md, a model card.
"""

import importlib.util
import json
import shlex
from typing import TYPE_CHECKING, Any

from pse_jax.addresses import named
from pse_jax.errors import UserError
from pse_jax.verbs import flags

if TYPE_CHECKING:
    from pse_jax.detector import Detector
    from pse_jax.export.artefact import Artefact

FORMATS = ("stablehlo", "onnx")
NEEDS = {"stablehlo": ("flatbuffers", "export"), "onnx": ("onnx", "onnx")}  # module, extra


def main(argv: list[str]) -> int:
    parser = flags.parser("export", __doc__)
    flags.add_workdir(parser)
    flags.add_checkpoint(parser)
    add = parser.add_argument
    add("--detector", metavar="FILE", help="a published detector's file or address, not --workdir")
    add("--out", type=flags.place, required=True, metavar="DIR", help="folder to write to")
    add(
        "--format",
        default="stablehlo",
        metavar="F,F",
        help="stablehlo (the default), onnx, or both",
    )
    options = flags.parse(parser, argv)
    formats = formats_of(options.format)

    from pse_jax.export import bundle
    from pse_jax.runs.remote import staging

    detector, evaluation = detector_of(parser, options)
    with staging.writing(options.out) as folder:
        bundle.check_folder(folder)
        lines = bundle.write(
            detector,
            folder,
            [make(format, detector) for format in formats],
            command=shlex.join(["python", "-m", "pse_jax", "export", *argv]),
            source=str(options.workdir or options.detector),
            evaluation=evaluation,
        )
    print(*map(named, lines), sep="\n")
    return 0


def formats_of(text: str) -> list[str]:
    """The formats of `--format`.

    Raises:
        UserError: for one that is unknown, or whose packages are not installed.
    """
    chosen = list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown or not chosen:
        raise UserError(f"--format {text!r}: write one or more of {', '.join(FORMATS)}")
    for name in chosen:
        module, extra = NEEDS[name]
        if importlib.util.find_spec(module) is None:
            raise UserError(f"--format {name} needs {module}: pip install 'pse-jax[{extra}]'")
    return chosen


def detector_of(parser: flags.Parser, options: Any) -> "tuple[Detector, dict | None]":
    """The detector, and its evaluation if the run has one."""
    from pse_jax.runs.folder import numbers_file
    from pse_jax.runs.load import load, load_run

    if (options.workdir is None) == (options.detector is None):
        parser.error("give either --workdir DIR or --detector FILE")
    if options.detector:
        if options.overrides:
            parser.error(f"{options.overrides[0]} goes with --workdir")
        return load(options.detector), None
    run, config = flags.run_of(options)
    detector = load_run(run, options.checkpoint, config)
    file = numbers_file(run.folder, detector.step)
    return detector, json.loads(file.read_text()) if file.exists() else None


def make(format: str, detector: "Detector") -> "Artefact":
    """The model in one format."""
    if format == "onnx":
        from pse_jax.export import onnx  # pyright: ignore[reportAttributeAccessIssue]

        return onnx.make(detector)
    from pse_jax.export import stablehlo

    return stablehlo.make(detector)
