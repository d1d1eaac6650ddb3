"""Programs written for the C++ connector's README run here as they stand.

`seed_readme/programs.md` is that README's text, unchanged. What is replaced in a program before it runs is listed
below, and each replacement must fit: the endpoint, the paths of the credential and config files, and REPAIRS. The
bucket and all URIs stay. Each program runs as a script of its own, with and without `region=`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from loaders import needs_torch
from PIL import Image
from scripts import run_python

from osstorchconnector import emulator

HERE = Path(__file__).parent
STAND_IN = HERE / "seed_readme" / "stand_in"
TEXT = (HERE / "seed_readme" / "programs.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^### ([^\n]+)\n(?:(?!^###).)*?^```py\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
CONFIG = re.search(r"tee /etc/oss-connector/config.json\n(.*?)\nEOF", TEXT, re.DOTALL)
MANIFEST = re.search(r"object name and label:\n```\n(.*?)```", TEXT, re.DOTALL)

BUCKET = "ossconnectorbucket"
FOLDER = "EnglistImg/Img/BadImag/Bmp/Sample001/"
KEYS = [f"{FOLDER}img001-{number:05}.png" for number in range(1, 8)]

# Exactly what the programs need to run at all: (the program's text, what stands there instead).
REPAIRS: dict[str, list[tuple[str, str]]] = {
    "IterableDataset": [
        ("cred_path=CRED_PATH, config_path=CONFIG_PATH)]\n", "cred_path=CRED_PATH, config_path=CONFIG_PATH)\n")
    ],
    "Manifest file": [
        (
            "from osstorchconnector import OssIterableDataset\n",
            "import io\nfrom typing import Iterable, Tuple\nfrom osstorchconnector import OssIterableDataset\n",
        )
    ],
    # Python 3.14 starts workers anew, and they import the program. Programs that do not expect that have to fork.
    "Pytorch dataloader": [("num_workers=32", 'num_workers=2, multiprocessing_context="fork"')],
}
LAST_ARGUMENT = "config_path=CONFIG_PATH)"


@pytest.fixture(scope="module")
def oss() -> Iterator[Any]:
    with emulator.serve(buckets=[BUCKET]) as server:
        for number, key in enumerate(KEYS):
            server.put(BUCKET, key, picture(number))
        server.put(BUCKET, "manifest_file/EnglistImg/manifest_file", manifest().encode())
        yield server


def picture(number: int) -> bytes:
    """Return a PNG file that no other number has."""
    file = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number, 2 * number, 255 - number)).save(file, "PNG")
    return file.getvalue()


def manifest() -> str:
    assert MANIFEST
    return MANIFEST.group(1)


def repaired(name: str, settings: dict[str, str], *, region: str) -> str:
    """Return the program `name` with its endpoint, paths and REPAIRS set right, and `region=` added if one is given."""
    program = PROGRAMS[name]
    for old, new in settings.items():
        program = replaced(program, f'"{old}"', repr(new))
    for old, new in REPAIRS.get(name, []):
        program = replaced(program, old, new)
    if region:
        program = replaced(program, LAST_ARGUMENT, f"{LAST_ARGUMENT[:-1]}, region={region!r})")
    return program


def replaced(program: str, old: str, new: str) -> str:
    assert old in program
    return program.replace(old, new)


@pytest.fixture(params=["with region", "without region"])
def run(request: pytest.FixtureRequest, oss: Any, tmp_path: Path) -> Any:
    """Return a function that runs a program of the README in an empty folder and returns the lines it prints."""
    assert CONFIG
    config = CONFIG.group(1).replace("/var/log/oss-connector", str(tmp_path))
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    (tmp_path / "manifest_file").write_text(manifest(), encoding="utf-8")
    settings = {
        "http://oss-cn-beijing-internal.aliyuncs.com": oss.endpoint,
        "/etc/oss-connector/config.json": str(tmp_path / "config.json"),
        "/root/.alibabacloud/credentials": oss.credentials_file(tmp_path),
    }
    region = oss.region if request.param == "with region" else ""

    def run(name: str) -> list[str]:
        script = tmp_path / "program.py"
        script.write_text(repaired(name, settings, region=region), encoding="utf-8")
        printed, complained = run_python(script, folder=tmp_path, path=[STAND_IN])
        assert complained == ""
        assert (tmp_path / "audit.log").stat().st_size > 0
        return printed.splitlines()

    return run


def printed(numbers: list[int], *, label: str | None = None) -> list[str]:
    """Return what the README's loops print of these objects: key, size, (label,) length of the content."""
    lines = []
    for number in numbers:
        size = str(len(picture(number)))
        labels = [] if label is None else [f"{label}{number + 1}"]
        lines += [f"/{BUCKET}/{KEYS[number]}", size, *labels, size]
    return lines


EVERY = list(range(len(KEYS)))
NAMED = [0, 1, 2]


def test_the_readme_is_as_it_was_written() -> None:
    assert (
        hashlib.sha256(TEXT.encode()).hexdigest() == "af3d01517ef697f9e1341fd7c3e8052213d2af3b56ad2cc940b25c57bf81888d"
    )


def test_the_readme_has_the_programs_that_are_run_here() -> None:
    assert list(PROGRAMS) == [
        "IterableDataset",
        "MapDataset",
        "Manifest file",
        "Dataset and transform",
        "Pytorch dataloader",
        "Checkpoint",
    ]
    assert set(REPAIRS) <= set(PROGRAMS)


def test_iterable_dataset(run: Any) -> None:
    assert run("IterableDataset") == printed(EVERY) + printed(NAMED)


def test_map_dataset(run: Any) -> None:
    assert run("MapDataset") == printed([0, 5]) + printed(EVERY) + printed([1]) + printed(NAMED)


def test_manifest_file(run: Any) -> None:
    assert run("Manifest file") == printed(NAMED, label="label")


def test_dataset_and_transform(run: Any) -> None:
    lines = "\n".join(run("Dataset and transform"))
    assert lines.count("tensor(") == len(KEYS)


def test_pytorch_dataloader(run: Any) -> None:
    lines = "\n".join(run("Pytorch dataloader"))
    found = re.findall(r"/ossconnectorbucket/[^']+", lines)
    iterated, shuffled = found[: len(KEYS)], found[len(KEYS) :]
    expected = [f"/{BUCKET}/{key}" for key in KEYS]
    assert (sorted(iterated), sorted(shuffled)) == (expected, expected)


@needs_torch(2, 6)  # before, torch.load warns of its default for weights_only
def test_checkpoint(run: Any, oss: Any) -> None:
    state = {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}
    file = io.BytesIO()
    torch.save(state, file)
    oss.put(BUCKET, "checkpoint/epoch.0", file.getvalue())
    assert run("Checkpoint") == []
    stored = torch.load(io.BytesIO(oss.get(BUCKET, "checkpoint/epoch.1")))
    assert stored["step"] == 7
    assert torch.equal(stored["weight"], state["weight"])


def test_the_config_of_the_readme_is_whole() -> None:
    assert CONFIG
    assert set(json.loads(CONFIG.group(1))) == {"logLevel", "logPath", "auditPath", "datasetConfig", "checkpointConfig"}
