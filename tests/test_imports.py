"""Imports go down only, and what is heavy or dirty stays on its floor."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pse_jax"

# Top to bottom. A module may import those of its own floor and of the floors below it.
FLOORS = (
    ("__init__", "__main__"),
    ("verbs",),
    ("experiments",),
    ("training",),
    ("runs",),
    ("export",),
    ("weights",),
    ("detector",),
    ("report",),
    ("detections", "postprocess"),
    ("data",),
    ("config_checks",),  # the values that a loss may have are in the table of losses
    ("losses",),
    ("targets",),
    ("models",),
    ("evaluation",),
    ("boxes", "points"),
    ("distributed",),
    ("processes",),
    ("progress",),
    ("addresses",),
    ("categories", "config", "drawing", "files", "processors"),
    ("errors",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
PURE = ("losses", "targets", "boxes", "points", "postprocess", "models")

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(file.relative_to(PACKAGE)) for file in FILES]


def top_name(file):
    """`data` for pse_jax/data/coco.py, `boxes` for pse_jax/boxes.py."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file):
    """Every module that a file imports, anywhere in it, but for type checkers alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} is a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A module that is named to be imported later, or a file that is loaded by its path.
            if re.fullmatch(r"pse_jax(\.\w+)+", node.value):
                yield node.value


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_go_down_only(file):
    own = top_name(file)
    assert own in FLOOR_OF, f"{own} has no floor yet: give it one in FLOORS and in the design"
    ours = [module.split(".") for module in imported(file) if module.startswith("pse_jax.")]
    below = {parts[1] for parts in ours if parts[1] != own and parts[1] in FLOOR_OF}
    upwards = sorted(name for name in below if FLOOR_OF[name] <= FLOOR_OF[own])
    assert not upwards, (
        f"{file.relative_to(ROOT)} imports {upwards}, which stand above or beside it"
    )


@pytest.mark.parametrize("library, where", [("flax", "models/"), ("orbax", "runs/checkpoint.py")])
def test_libraries_that_one_place_imports(library, where):
    users = [
        name
        for name, file in zip(NAMES, FILES, strict=True)
        if any(module.split(".")[0] == library for module in imported(file))
    ]
    assert users and all(name.startswith(where) for name in users)


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_mathematics_knows_nothing_of_files_and_flags(file):
    if top_name(file) not in PURE:
        return
    roots = {module.split(".")[0] for module in imported(file)}
    assert not roots & {"os", "io", "pathlib", "shutil", "etils", "absl", "json", "PIL"}
    calls = [
        node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
    ]
    assert not any(isinstance(call, ast.Name) and call.id in ("open", "print") for call in calls)


def test_evaluation_imports_where_jax_is_not_installed():
    modules = [
        f"pse_jax.evaluation.{file.stem}" for file in (PACKAGE / "evaluation").glob("[!_]*.py")
    ]
    code = (
        "import sys, importlib\n"
        "for name in ('jax', 'jaxlib', 'flax', 'optax', 'orbax'): sys.modules[name] = None\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "assert not [name for name in sys.modules if name.startswith('jax.')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_training_starts_without_what_it_needs_late_or_never():
    """SciPy's statistics take half a second, PyTorch two: TensorBoard's writer would load it."""
    code = "import sys, pse_jax.training.loop; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"scipy.stats", "matplotlib", "torch"} & set(done.stdout.split())
