"""The package as a whole: its public face, its floors, its examples."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import robustpolicy

ROOT = Path(robustpolicy.__file__).parent
MODULES = sorted(
    ".".join(("robustpolicy", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)

#: Data flows one way: a file imports from its own floor or from those above it in this list.
FLOORS = [
    ("errors", "importing", "lazy", "memory", "version", "randomness", "draws"),
    ("losses", "models"),
    ("data",),
    ("attacks",),
    ("training",),
    ("evaluation",),
    ("experiments",),
    ("report",),
    ("cli",),
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def test_public_names_are_there_and_lazy():
    assert sorted(robustpolicy.__all__) == [
        "AlternativeLoss", "FGSM", "PGD", "PolicyLoss", "Recipe", "Threat", "TwoStageLoss",
        "UserError", "alternative_loss", "audit", "evaluate", "get_recipe", "policy_loss", "train",
    ]  # fmt: skip
    for name in robustpolicy.__all__:
        assert getattr(robustpolicy, name).__doc__
    program = "import sys, robustpolicy; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        robustpolicy.nothing  # noqa: B018


def test_recipes_import_no_torch():
    program = (
        "import sys; from robustpolicy.training import RECIPES;"
        "import robustpolicy.experiments.paper; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_training_core_needs_torch_numpy_and_safetensors_alone():
    """As on a GPU machine without a network: everything else is made unimportable."""
    program = """
import sys
absent = set("scipy sklearn tyro rich matplotlib pooch jinja2 PIL".split())
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import robustpolicy.training.trainer, robustpolicy.evaluation, robustpolicy.experiments.sweep
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("module", MODULES)
def test_floors(module):
    parts = module.split(".")
    if len(parts) < 2:
        return
    own = LEVEL[parts[1]]
    path = ROOT.joinpath(*parts[1:])
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustpolicy."):
            floor = node.module.split(".")[1]
            assert LEVEL[floor] <= own, f"{module} imports {node.module} from a floor above"


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_far_above_400_lines(module):
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert len(file.read_text().splitlines()) <= 400
