"""The floors of docs/architecture.md, and what no module may do, read from the modules' syntax trees."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "fewcell"

# Every module or package directly below fewcell, and its floor. A new one fails the test until it stands here
# and in docs/architecture.md. Imports run strictly downwards; inside one package they are free.
FLOORS = {
    "cli": 7,
    "terminal": 6,
    "report": 6,
    "web": 6,
    "benchmark": 5,
    "handover": 5,
    "slides": 4,
    "training": 4,
    "segmenter": 3,
    "data": 2,
    "networks": 2,
    "representations": 2,
    "engine": 2,
    "tiles": 2,
    "images": 1,
    "metrics": 1,
    "scoring": 1,
    "ahead": 0,
    "compiled": 0,
    "config": 0,
    "errors": 0,
    "family": 0,
    "flags": 0,
    "kept": 0,
    "types": 0,
    "windows": 0,
}
# The words of the project: every floor speaks them, their own included, and they import nothing of ours.
WORDS = {"errors", "types"}
# fewcell/__init__.py is the door: it may show what lies on any floor (lazily, see below), and nobody looks
# through it from inside, except for the version.
DOOR = max(FLOORS.values()) + 1

HEAVY = {"torch", "monai", "onnx", "safetensors", "matplotlib", "dask", "distributed", "pandas"}
MAY_LOAD_HEAVY = {"training", "networks"}
NEVER_HEAVY = {"images", "metrics", "scoring", "tiles"}
SLOW_TO_LOAD = HEAVY | {"openvino", "scipy", "skimage", "numba"}
PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "common", "core", "misc"}


def part_of(module: str) -> str:
    """'fewcell.images.read' -> 'images'; 'fewcell' -> ''."""
    return module.split(".")[1] if "." in module else ""


def module_name(path: Path) -> str:
    parts = ("fewcell", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}
every_module = pytest.mark.parametrize("module", MODULES)


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), str(MODULES[module]))


def imported_by(node: ast.AST, module: str) -> list[str]:
    """The dotted names that an import statement brings in, relative ones resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
    return [f"{base}.{alias.name}" for alias in node.names]


def all_imports(module: str) -> list[str]:
    """Every import, also inside functions and for type checkers only: to know a type is to know a part."""
    return [name for node in ast.walk(tree_of(module)) for name in imported_by(node, module)]


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, not TYPE_CHECKING blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from run_on_import(child)


def test_the_table_is_the_one_in_the_documentation() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn, floor = {}, None
    for line in text[text.index("## Floors") :].splitlines()[1:]:
        if not line.startswith("    "):
            break
        number, words = re.fullmatch(r"\s+(?:(\d)  )?\s*(.*)", line).groups()
        floor = int(number) if number else floor
        names = re.match(r"\w+/|(?:\w+\.py\s*)+", words)
        assert names, f"this line of docs/architecture.md names no module: {line!r}"
        drawn |= {name.removesuffix("/").removesuffix(".py"): floor for name in names.group().split()}
    assert drawn == FLOORS


@every_module
def test_every_module_stands_on_a_floor(module: str) -> None:
    assert module == "fewcell" or part_of(module) in FLOORS, (
        f"{module} is new: place it in FLOORS and in docs/architecture.md"
    )


def forbidden_imports(module: str) -> list[str]:
    own = part_of(module)
    floor = FLOORS.get(own, DOOR)
    bad = []
    for name in all_imports(module):
        if name.split(".")[0] != "fewcell" or name == "fewcell.__version__":
            continue
        other = part_of(name)
        spoken = other in WORDS and own not in WORDS
        if other != own and not spoken and FLOORS.get(other, DOOR) >= floor:
            bad.append(name)
    return bad


@every_module
def test_imports_run_strictly_downwards(module: str) -> None:
    assert forbidden_imports(module) == []


@every_module
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    if part_of(module) in MAY_LOAD_HEAVY:
        return
    nodes = run_on_import(tree_of(module))
    loaded = {name.split(".")[0] for node in nodes for name in imported_by(node, module)}
    assert loaded & HEAVY == set()


@every_module
def test_parts_that_load_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    """Else what needs no torch, such as `fewcell evaluate --draw`, would load it by way of another module."""
    if part_of(module) in MAY_LOAD_HEAVY:
        return
    loaded = [name for node in run_on_import(tree_of(module)) for name in imported_by(node, module)]
    assert [name for name in loaded if name.startswith("fewcell.") and part_of(name) in MAY_LOAD_HEAVY] == []


@every_module
def test_plain_array_parts_never_know_a_heavy_library(module: str) -> None:
    if part_of(module) in NEVER_HEAVY:
        assert {name.split(".")[0] for name in all_imports(module)} & HEAVY == set()


@every_module
def test_no_module_has_a_vague_name(module: str) -> None:
    assert {word for part in module.split(".") for word in part.split("_")} & VAGUE_NAMES == set()


def unsafe_code(tree: ast.AST) -> list[str]:
    """Pickle in any disguise, code from strings, prints."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = names if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in names if name.split(".")[0] in PICKLERS]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("eval", "exec", "print", "breakpoint"):
            found.append(called)
        if keywords.get("allow_pickle", "False") != "False":
            found.append("allow_pickle")
        if called == "torch.load" and keywords.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
    return [f"line of {name}" for name in found]


@every_module
def test_no_pickle_no_eval_no_print(module: str) -> None:
    assert unsafe_code(tree_of(module)) == []


def test_what_fewcell_warns_with_is_heard_while_others_are_silenced() -> None:
    nodes = [node for module in MODULES for node in ast.walk(tree_of(module))]
    warned = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"]
    assert {ast.unparse(node.args[1]) if len(node.args) > 1 else None for node in warned} == {"FewcellWarning"}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "def f():\n    print('x')",
        "np.load(p, allow_pickle=True)",
        "torch.load(p)",
    ],
)
def test_the_check_for_unsafe_code_finds_it(code: str) -> None:
    assert unsafe_code(ast.parse(code))


def test_the_check_for_unsafe_code_lets_good_code_pass() -> None:
    good = "model.eval()\nnp.load(p, allow_pickle=False)\ntorch.load(p, weights_only=True)\nconsole.print('x')"
    assert unsafe_code(ast.parse(good)) == []


def test_the_check_of_floors_finds_a_climb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "read.py"
    path.write_text(
        "from fewcell.errors import ReadError\n"
        "from .write import x\n"
        "from .. import segmenter\n"
        "from fewcell import __version__, Segmenter\n"
        "def f():\n"
        "    import fewcell.metrics.scores\n"
    )
    monkeypatch.setitem(MODULES, "fewcell.images.read", path)
    assert forbidden_imports("fewcell.images.read") == [
        "fewcell.segmenter",
        "fewcell.Segmenter",
        "fewcell.metrics.scores",
    ]


def test_the_check_for_heavy_libraries_looks_into_classes_but_not_functions() -> None:
    guarded = "if TYPE_CHECKING:\n    import a\ndef f():\n    import b\n"
    code = guarded + "class C:\n    import c\ntry:\n    import d\nfinally:\n    pass"
    found = [n.names[0].name for n in run_on_import(ast.parse(code)) if isinstance(n, ast.Import)]
    assert found == ["c", "d"]


@pytest.mark.parametrize("module", ["fewcell", "fewcell.cli"])
def test_help_is_fast_because_nothing_slow_is_loaded(module: str) -> None:
    code = f"import {module}, json, sys; sys.stdout.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert {name.split(".")[0] for name in json.loads(done.stdout)} & SLOW_TO_LOAD == set()


def test_the_package_with_its_model_is_small() -> None:
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 40e6
