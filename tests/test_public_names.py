"""What a module shows: a literal, sorted, complete `__all__`; and the error tree as it is drawn."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from fewcell import errors

SOURCE = Path(__file__).parents[1] / "src" / "fewcell"
PATHS = [p for p in sorted(SOURCE.rglob("*.py")) if not re.fullmatch("_[^_].*", p.name)]


def dotted(path: Path) -> str:
    return ".".join(("fewcell", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a module, those inside if, try and with included."""
    found = []
    for node in body:
        found.append(node)
        for block in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found += statements(getattr(node, block, []))
        for handler in getattr(node, "handlers", []):
            found += statements(handler.body)
    return found


def bound_names(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {n.id for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Name)}


def public_definitions(body: list[ast.stmt]) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {n.name for n in statements(body) if isinstance(n, kinds) and not n.name.startswith("_")}


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions: the order of ruff's RUF022."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name


def faults(source: str, name: str) -> list[str]:
    body = ast.parse(source).body
    if all(isinstance(node, ast.Expr) for node in body):
        return []  # nothing but a docstring
    lists = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    if len(lists) != 1 or not isinstance(lists[0], ast.List):
        return ["it has no literal list __all__"]
    if not all(isinstance(e, ast.Constant) and isinstance(e.value, str) for e in lists[0].elts):
        return ["its __all__ holds more than strings"]
    names = [e.value for e in lists[0].elts if isinstance(e, ast.Constant)]
    found = []
    if names != sorted(set(names), key=as_ruff_sorts):
        found.append(f"its __all__ is not sorted: {names}")
    bound = set().union(*map(bound_names, statements(body)))
    absent = set(names) - bound
    if "__getattr__" in bound:
        module = importlib.import_module(name)
        absent = {n for n in absent if not hasattr(module, n)}
    if absent:
        found.append(f"its __all__ names what is not there: {sorted(absent)}")
    if hidden := public_definitions(body) - set(names):
        found.append(f"public, but not in __all__ (or give them an underscore): {sorted(hidden)}")
    return found


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_all_is_literal_sorted_and_complete(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), dotted(path)) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1", "no literal"),
        ("__all__ = ['x'] + names", "no literal"),
        ("__all__ = ['b', 'a']\na = b = 1", "not sorted"),
        ("__all__ = ['A', 'B_C', 'f']\nclass A: ...\nB_C = 1\ndef f(): ...", "not sorted"),
        ("__all__ = ['a']\nb = 1", "not there"),
        ("__all__ = ['a']\na = 1\ndef f(): ...", "not in __all__"),
        ("__all__ = []\ntry:\n    pass\nexcept OSError:\n    class C: ...", "not in __all__"),
    ],
)
def test_the_check_finds_faults(source: str, words: str) -> None:
    (fault,) = faults(source, "fewcell")
    assert words in fault


def test_the_check_lets_good_modules_pass() -> None:
    body = "from x import y\nclass A: ...\nB_C: int = 1\ndef f(): ...\ndef _g(): ..."
    assert faults(f"{body}\n__all__ = ['B_C', 'A', 'f', 'y']", "fewcell") == []
    assert faults('"""Only a docstring."""', "fewcell") == []


def drawn_tree(drawing: str) -> dict[str, str]:
    """Child -> parent, from a tree drawn with branches; a child stands further right than its parent."""
    parents, path = {}, []
    for line in drawing.splitlines():
        match = re.match(r"(?P<indent>[\s│├└─]*)(?P<name>[A-Z]\w*Error)\b", line)
        if not match:
            continue
        column = len(match["indent"])
        path = [(c, n) for c, n in path if c < column]
        if path:
            parents[match["name"]] = path[-1][1]
        path.append((column, match["name"]))
    return parents


def test_the_error_tree_is_the_one_that_is_drawn() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.FewcellError)]
    real = {c.__name__: c.__base__.__name__ for c in classes if c is not errors.FewcellError}
    assert drawn_tree(errors.__doc__ or "") == real
    assert len(real) >= 9


def test_every_error_says_in_its_docstring_when_it_is_raised() -> None:
    for name in drawn_tree(errors.__doc__ or ""):
        assert (getattr(errors, name).__doc__ or "").endswith("."), name
