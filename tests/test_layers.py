"""The house stands: a module imports only from floors below its own, and torch stays on the upper ones."""

from __future__ import annotations

import ast
import graphlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "osstorchconnector"

# Modules that the C++ connector has, and what they hold here.
OLD_MODULES = (
    "oss_checkpoint",
    "oss_iterable_dataset",
    "oss_map_dataset",
    "oss_dcp_filesystem",
    "oss_safetensor",
    "_oss_client",
    "_oss_connector",
    "_oss_bucket_iterable",
)

# From the ground up. What is named is a module or a folder of the package, with all that is in it;
# two on one floor do not know each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"version", "errors", "redaction", "patience", "leftovers", "local_files"}),
    frozenset({"config", "credentials", "optional", "uri"}),
    frozenset({"logs", "protocol", "index"}),
    frozenset({"client", "emulator"}),
    frozenset({"files"}),
    frozenset({"tar", "tensors", "transfer"}),
    frozenset({"datapipes", "dcp", "checkpoint", "filesystem", "safetensors", "testing"}),
    frozenset({"dataloader2", "datasets", "nodes"}),
    frozenset({"cli", "compat", "integrations"}),
    frozenset({"__main__", *OLD_MODULES}),
)
FIRST_WITH_TORCH = next(floor for floor, names in enumerate(FLOORS) if "tensors" in names)


def modules() -> Iterator[tuple[str, Path]]:
    """Yield each module's dotted name inside the package (`client.signing`) and its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            yield name, path


MODULES = dict(modules())


def imports(path: Path, top: Path = PACKAGE.parent) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything that the file imports, at the top, lazily or for types only."""
    package = list(path.relative_to(top).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                yield node.lineno, ".".join([*base, *filter(None, [node.module]), alias.name])


def own_imports(name: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each module of ours that module `name` imports; "" is the package itself."""
    for line, imported in imports(MODULES[name]):
        first, *rest = imported.split(".")
        if first != "osstorchconnector":
            continue
        while rest and ".".join(rest) not in MODULES:
            rest.pop()
        yield line, ".".join(rest)


def floor(name: str) -> int:
    room = name.partition(".")[0]
    return next(level for level, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_its_floor(name: str) -> None:
    assert any(name.partition(".")[0] in rooms for rooms in FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_fits_on_the_map_and_into_a_head(name: str) -> None:
    """The docstring of each folder names every module in it, and none is too long to read."""
    folder, _, module = name.rpartition(".")
    if folder:
        docstring = ast.get_docstring(ast.parse(MODULES[folder].read_text(encoding="utf-8")))
        assert f"`{module}`" in (docstring or "")
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 400


def test_contributing_shows_these_floors() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|([^|]+)\|", page, re.MULTILINE)
    shown = {int(number): frozenset(re.findall(r"`(\w+)/?`", names)) for number, names in rows}
    assert shown == dict(enumerate(FLOORS, start=1))


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_only_from_floors_below(name: str) -> None:
    room = name.partition(".")[0]
    wrong = [
        f"{name}:{line} imports {imported or 'the package itself'}"
        for line, imported in own_imports(name)
        if not imported or (imported.partition(".")[0] != room and floor(imported) >= floor(name))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in MODULES if floor(name) < FIRST_WITH_TORCH])
def test_below_the_tensors_nothing_imports_torch(name: str) -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for line, imported in imports(MODULES[name])
        if imported.partition(".")[0] in {"torch", "torchdata"}
    ]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] == "index"])
def test_the_index_imports_neither_client_nor_torch(name: str) -> None:
    wrong = [
        f"{name}:{line} imports {imported}"
        for line, imported in imports(MODULES[name])
        if imported.partition(".")[0] in {"torch", "torchdata"} or imported.startswith("osstorchconnector.client")
    ]
    assert wrong == []


def test_no_class_name_stands_for_two_things() -> None:
    """A class that only its own module uses, with a leading underscore, may have the name of another such class."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    # The public client is the client with the methods of the C++ connector: to users it is one.
    assert twice == {"OssClient": ["client.client", "compat.client"]}


def test_no_two_names_in_a_folder_differ_by_an_s() -> None:
    assert [name for name in MODULES if f"{name}s" in MODULES] == []


def test_few_modules_serve_one_other_module_only() -> None:
    """Each of these must be an idea of its own. What `__init__`, `__main__` and OLD_MODULES hand on serves users."""
    importers: dict[str, set[str]] = {name: set() for name in MODULES}
    for name in MODULES:
        for _, imported in own_imports(name):
            if imported != name:
                importers.setdefault(imported, set()).add(name)
    public = {name for name, path in MODULES.items() if path.name in ("__init__.py", "__main__.py")}
    public.update(OLD_MODULES)
    inner = [name for name in MODULES if name not in public and not importers[name] & public]
    lonely = [name for name in inner if len(importers[name]) == 1]
    assert len(lonely) <= 20, lonely


def check_no_cycle(graph: Mapping[str, set[str]]) -> None:
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert set(order) >= set(graph)


def test_no_modules_import_each_other_in_a_circle() -> None:
    check_no_cycle(
        {name: {imported for _, imported in own_imports(name) if imported != name} for name in MODULES},
    )


@pytest.mark.parametrize("folder", ["benchmarks", "chaos", "interop"])
def test_no_scripts_import_each_other_in_a_circle(folder: str) -> None:
    top = PACKAGE.parent
    files = {
        ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (top / folder).rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found = {imported for _, imported in imports(path, top)}
        modules = {module for module in files if found & {module} or any(f.rpartition(".")[0] == module for f in found)}
        graph[name] = modules - {name}
    check_no_cycle(graph)
