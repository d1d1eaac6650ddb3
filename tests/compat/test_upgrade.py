"""This library installed over the C++ connector of the same name: nothing of that one stays, or `import` fails."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest
from scripts import ROOT, run_python

# The files of the wheel osstorchconnector-1.2.3 for Python 3.11.
THEIRS = (
    "__init__.py",
    "_oss_bucket_iterable.py",
    "_oss_client.py",
    "_oss_tar_iterable.py",
    "oss_checkpoint.py",
    "oss_dcp_filesystem.py",
    "oss_iterable_dataset.py",
    "oss_map_dataset.py",
    "oss_safetensor.py",
    "_oss_connector/__init__.py",
    "_oss_connector/oss_connector.cpython-311-x86_64-linux-gnu.so",
    "_oss_connector/oss_connector.pyi",
)
OURS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "osstorchconnector").rglob("*.py"))


def old_wheel(folder: Path) -> Path:
    """Write a wheel with the names of the C++ connector's files; they do nothing."""
    about = "osstorchconnector-1.2.3.dist-info"
    files = {f"osstorchconnector/{name}": b"THEIRS = True\n" for name in THEIRS}
    files[f"{about}/METADATA"] = b"Metadata-Version: 2.1\nName: osstorchconnector\nVersion: 1.2.3\n"
    files[f"{about}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: py3-none-any\n"
    digest = {
        name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        for name, content in files.items()
    }
    record = [f"{name},sha256={digest[name]},{len(content)}" for name, content in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""]).encode()
    path = folder / "osstorchconnector-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with our package in it."""
    shutil.copytree(ROOT / "osstorchconnector", tmp_path / "osstorchconnector", ignore=lambda _, __: ["__pycache__"])
    return tmp_path


def put(site: Path, name: str) -> None:
    path = site / "osstorchconnector" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("THEIRS = True\n")


def error_of(site: Path, statement: str) -> str:
    """Return the text of the `ImportError` that a statement raises."""
    program = f"try:\n    {statement}\nexcept ImportError as error:\n    print(error)"
    return run_python("-c", program, folder=site, path=[site])[0]


def test_pip_puts_it_in_the_place_of_the_old_one(tmp_path: Path) -> None:
    run_python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, folder=ROOT)
    (new,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    (python,) = [path for path in (tmp_path / "venv").glob("*/python*") if path.stem == "python"]
    for wheel in (old_wheel(tmp_path), new):
        pip = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", wheel]
        environment = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")
        }
        subprocess.run([*map(str, pip)], check=True, env=environment | {"PIP_CONFIG_FILE": os.devnull}, timeout=120)
        (package,) = (tmp_path / "venv").rglob("site-packages/osstorchconnector")
        assert (package / "_oss_tar_iterable.py").exists() == (wheel != new)
    installed = {path.relative_to(package.parent).as_posix() for path in package.rglob("*") if path.is_file()}
    assert installed == {*OURS, "osstorchconnector/py.typed"}
    assert not [path for path in package.rglob("*") if path.is_dir() and not any(path.iterdir())]
    assert not (package.parent / "osstorchconnector-1.2.3.dist-info").exists()


@pytest.mark.parametrize("name", ["_oss_tar_iterable.py", "_oss_connector/__init__.py"])
def test_files_of_the_old_one_beside_ours_are_an_error(site: Path, name: str) -> None:
    put(site, name)
    text = error_of(site, "import osstorchconnector")
    assert f"are both in {site}/osstorchconnector ({name}: " in text
    assert "run `pip uninstall osstorchconnector` until it finds none" in text


def test_all_of_the_old_one_over_ours_is_an_error_where_ours_is_used(site: Path) -> None:
    for name in THEIRS:
        put(site, name)
    assert (
        "THEIRS"
        in run_python("-c", "import osstorchconnector; print(dir(osstorchconnector))", folder=site, path=[site])[0]
    )
    for part in ("checkpoint", "client.client", "datasets.iterable", "filesystem.core"):
        assert "_oss_connector/__init__.py, _oss_tar_iterable.py" in error_of(site, f"import osstorchconnector.{part}")


def test_a_folder_that_pip_did_not_remove_is_no_harm(site: Path) -> None:
    """pip keeps a folder in which something lies that it did not write."""
    put(site, "_oss_connector/__pycache__x")
    program = "from osstorchconnector._oss_connector import new_data_object; print(new_data_object.__module__)"
    assert run_python("-c", program, folder=site, path=[site])[0] == "osstorchconnector.compat.objects\n"
