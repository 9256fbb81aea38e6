"""The worked example of CONTRIBUTING.md is a representation: it meets the whole contract, as it stands there."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

from fewcell.representations import REPRESENTATIONS, Representation

from . import test_contract
from .scenes import SCENES

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONTRACT: dict[str, Callable] = {
    name: function
    for name, function in vars(test_contract).items()
    if name.startswith("test_") and next(iter(inspect.signature(function).parameters), "") == "representation"
}


@pytest.fixture
def worked_example(monkeypatch: pytest.MonkeyPatch) -> Representation:
    """The class in the only Python block of CONTRIBUTING.md, in the table under its name."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    module = ModuleType("peeled")
    monkeypatch.setitem(sys.modules, "peeled", module)
    exec(compile(code, "CONTRIBUTING.md", "exec"), vars(module))
    name, variant = re.search(r'"(\w+)": (\w+),', TEXT).groups()
    monkeypatch.setitem(REPRESENTATIONS, name, vars(module)[variant])
    return REPRESENTATIONS[name]()


@pytest.mark.parametrize("test", CONTRACT)
def test_the_example_meets_the_contract(worked_example: Representation, test: str) -> None:
    choices = {"scene": list(SCENES), "quarters": [1], "flip": [True], "shape": [(3, 200)]}
    names = [name for name in inspect.signature(CONTRACT[test]).parameters if name in choices]
    if test in ("test_the_loss_falls_towards_the_truth", "test_who_descends_the_loss_finds_the_cells"):
        choices["scene"] = ["touching"]
    if "scene" in names:
        for scene in choices["scene"]:
            CONTRACT[test](worked_example, scene)
    elif names:
        CONTRACT[test](worked_example, *(choices[name][0] for name in names))
    else:
        CONTRACT[test](worked_example)


def test_there_is_a_contract() -> None:
    assert len(CONTRACT) > 12
