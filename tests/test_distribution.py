"""What the wheel and the source archive hold."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from scripts import ROOT, run_python

PACKAGE = {path.relative_to(ROOT).as_posix() for path in (ROOT / "osstorchconnector").rglob("*.py")}
TO_WORK_ON_IT = {
    ".ci/run",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks/__main__.py",
    "benchmarks/peers.txt",
    "chaos/conftest.py",
    "constraints-lowest.txt",
    "constraints.txt",
    "docs/emulator.md",
    "examples/demo.py",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/oracle/__main__.py",
    "tests/seed_readme/programs.md",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run_python("-m", "hatchling", "build", "-d", folder, folder=ROOT)
    return folder


def test_the_wheel_is_the_package_alone_typed_and_for_every_platform(built: Path) -> None:
    (path,) = built.glob("*-py3-none-any.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = {name.rpartition("/")[2]: wheel.read(name).decode() for name in wheel.namelist() if name not in names}
    assert names == PACKAGE | {"osstorchconnector/py.typed"}
    assert "Root-Is-Purelib: true" in about["WHEEL"]
    assert "osstorchconnector.testing = osstorchconnector.testing" in about["entry_points.txt"]
    assert "oss = osstorchconnector.filesystem.core:OssFileSystem" in about["entry_points.txt"]
    assert "oss = osstorchconnector.integrations.mlflow:OssArtifactRepository" in about["entry_points.txt"]
    assert about["LICENSE"].startswith("MIT License")
    needed = {line.partition(": ")[2] for line in about["METADATA"].splitlines() if line.startswith("Requires-Dist: ")}
    assert "safetensors>=0.8" in needed


def test_the_source_archive_holds_what_it_takes_to_work_on_it(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= PACKAGE | TO_WORK_ON_IT
    assert not [name for name in names if name.endswith((".pyc", ".whl", ".log"))]
