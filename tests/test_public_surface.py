"""What `import osstorchconnector` gives, and what it does not cost."""

from __future__ import annotations

import ast
import inspect
import json

import pytest
from scripts import run_python

import osstorchconnector

HEAVY = ["torch", "torchdata", "oss2", "aiohttp", "uvloop", "anycrc", "asyncio", "numpy"]


def typed_names() -> set[str]:
    """The names that a type checker sees: those imported under TYPE_CHECKING."""
    tree = ast.parse(inspect.getsource(osstorchconnector))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_all_is_sorted_and_has_no_name_twice() -> None:
    assert sorted(set(osstorchconnector.__all__)) == osstorchconnector.__all__


def test_type_checkers_and_users_see_the_same_names() -> None:
    assert typed_names() | {"__version__"} == set(osstorchconnector.__all__)


@pytest.mark.parametrize("name", osstorchconnector.__all__)
def test_each_public_name_loads_and_is_kept(name: str) -> None:
    value = getattr(osstorchconnector, name)
    assert getattr(osstorchconnector, name) is value
    assert name in dir(osstorchconnector)


def test_every_error_is_public() -> None:
    from osstorchconnector import errors

    found = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert found <= set(osstorchconnector.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="osstorchconnector.*OssNothing"):
        osstorchconnector.OssNothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy_and_starts_no_thread() -> None:
    program = (
        "import json, sys, threading, osstorchconnector\n"
        "print(json.dumps([sorted(sys.modules), threading.active_count()]))"
    )
    loaded, threads = json.loads(run_python("-c", program)[0])
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []
    assert [name for name in loaded if name.startswith("osstorchconnector")] == [
        "osstorchconnector",
        "osstorchconnector.version",
    ]
    assert threads == 1


def test_every_module_imports_where_fork_fcntl_and_uvloop_are_missing() -> None:
    program = (
        "import importlib, os, pkgutil, sys\n"
        "sys.modules['fcntl'] = sys.modules['uvloop'] = None\n"
        "import torch, torchdata\n"  # they may want what we must not
        "for name in ('fork', 'register_at_fork', 'posix_fallocate', 'sendfile', 'getuid', 'geteuid'):\n"
        "    if hasattr(os, name): delattr(os, name)\n"
        "import osstorchconnector\n"
        "for module in pkgutil.walk_packages(osstorchconnector.__path__, 'osstorchconnector.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "print('imported')"
    )
    assert run_python("-c", program) == ("imported\n", "")
