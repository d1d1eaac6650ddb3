"""Programs written for 1.2.3, from its signatures: they run here, and on the C++ connector where it is installed.

They work on a local folder (`endpoint=""`), so both need no server. The C++ connector is that of `make bench`, in
`.venv-peers`. What it prints is compared, too: so the programs are what it really takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import ROOT

from osstorchconnector import generate_tar_archive

PEER = ROOT / ".venv-peers" / "bin" / "python"
NAMES = [f"{number}.txt" for number in range(5)]

HEAD = """
import io, json, sys
folder, config = sys.argv[1:]
bucket, _, inside = folder[1:].partition("/")
"""
CLIENT = """
from osstorchconnector import OssClient, new_data_object
client = OssClient("", "", config, "some-uuid", 0, 1, None, "")
"""

# The name of a row, the program, and what it prints: sorted, since 1.2.3 gives objects as they come.
PROGRAMS: dict[str, tuple[str, Any]] = {
    "iterable dataset of a prefix": (
        """
from osstorchconnector import OssIterableDataset
dataset = OssIterableDataset.from_prefix(folder + "/data/", "", cred_path="", config_path=config)
out = sorted([item.key[len(folder):], item.size, item.label, item.read().decode()] for item in dataset)
""",
        [[f"/data/{name}", 5, "", name] for name in NAMES],
    ),
    "iterable dataset of objects, with a transform and workers": (
        """
import torch
from osstorchconnector import OssIterableDataset
def transform(data):
    with data:
        return data.key[len(folder):] + " " + data.read().decode()
uris = [folder + "/data/%d.txt" % number for number in range(5)]
dataset = OssIterableDataset.from_objects(uris, "", transform=transform, config_path=config)
# Python 3.14 starts workers anew, and they import the program. This one does not expect that.
loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
out = sorted(loader)
""",
        [f"/data/{name} {name}" for name in NAMES],
    ),
    "map dataset of a manifest": (
        """
from osstorchconnector import OssMapDataset, imagenet_manifest_parser
dataset = OssMapDataset.from_manifest_file(
    folder + "/manifest", imagenet_manifest_parser, folder + "/data/", "", config_path=config)
out = [len(dataset), [[item.label, item.read().decode()] for item in dataset.__getitems__(indices=[3, 0])]]
""",
        [5, [["label 3", "3.txt"], ["label 0", "0.txt"]]],
    ),
    "one object of a map dataset": (
        """
from osstorchconnector.oss_map_dataset import OssMapDataset
dataset = OssMapDataset.from_objects([folder + "/data/2.txt"], endpoint="", config_path=config)
item = dataset.__getitem__(i=0)
out = [item.key[len(folder):], item.read(1).decode(), item.tell(), item.seek(0), item.read().decode(), item.size]
""",
        ["/data/2.txt", "2", 1, 0, "2.txt", 5],
    ),
    "get_object": (
        CLIENT
        + """
item = client.get_object(bucket, inside + "/data/1.txt", 0, 1, "label")
memory = bytearray(3)
out = [item.key[len(folder):], item.label, item.read(2).decode(), item.readinto(memory), memory.decode(), item.size,
       item.err(), item.error_msg()]
""",
        ["/data/1.txt", "label", "1.", 3, "txt", 5, 0, ""],
    ),
    "put_object": (
        CLIENT
        + """
with client.put_object(bucket, inside + "/new") as target:
    written = target.write(b"some bytes")
out = [target.key[len(folder):], written, target.err(), open(folder + "/new").read()]
""",
        ["/new", 10, 0, "some bytes"],
    ),
    "head_object": (
        CLIENT
        + """
item = client.head_object(bucket, inside + "/data/1.txt")
try:
    out = client.head_object(bucket, inside + "/none")
except RuntimeError:
    out = [item.size, item.key[len(folder):]]
""",
        [5, "/data/1.txt"],
    ),
    "list_objects": (
        CLIENT
        + """
out = sorted([item.key[len(folder):], item.size, item.read().decode()]
             for item in client.list_objects(bucket, inside + "/data/"))
""",
        [[f"/data/{name}", 5, name] for name in NAMES],
    ),
    "list_objects_with_preload": (
        CLIENT
        + """
out = sorted([item.key[len(folder):], item.size, item.read().decode()]
             for item in client.list_objects_with_preload(bucket, prefix=inside + "/data/", include_errors=True))
""",
        [[f"/data/{name}", 5, name] for name in NAMES],
    ),
    "list_objects_from_uris_with_preload": (
        CLIENT
        + """
named = [new_data_object(folder + "/data/1.txt", 0, "one"), new_data_object(folder + "/none", 0, "none")]
found = list(client.list_objects_from_uris_with_preload(named, include_errors=True))
out = sorted([item.key[len(folder):], item.err(), item.read().decode() if item.err() == 0 else ""] for item in found)
""",
        [["/data/1.txt", 0, "1.txt"], ["/none", 2, ""]],
    ),
    "gen_tar_archive, list_objects_from_tar, and a member by its number": (
        CLIENT
        + """
tar, index = inside + "/a.tar", inside + "/a.idx"
out = [client.gen_tar_archive(folder + "/a.tar", folder + "/a.idx", folder + "/data"),
       client.gen_tar_archive(folder + "/a.tar", folder + "/b.idx", "", True)]
found = list(client.list_objects_from_tar(bucket, tar, index, [], [], True))
out.append(sorted([item.key[len(folder):], item.size, item.err(), item.read().decode()] for item in found))
names = [item.key for item in sorted(found, key=lambda item: int(item.label))]
out.append([item.key == names[3 - 3 * number] for number, item in enumerate(
    client.list_objects_from_tar(bucket, tar, inside + "/b.idx", [3, 0], prefetch=True))])
out.append(sorted(item.label for item in client.list_objects_from_tar(bucket, tar, index, [1], [3])))
item = client.get_object(bucket, tar, 2, 3, index)
out.append([item.key == names[2], item.label, item.size, len(item.read())])
""",
        [
            *(0, 0),
            [[f"/data/{name}", 5, 0, name] for name in NAMES],
            [True, True],
            ["1", "2", "3"],
            [True, "2", 5, 5],
        ],
    ),
    "new_data_object": (
        """
from osstorchconnector import new_data_object
from osstorchconnector._oss_client import DataObject
item = new_data_object("oss://bucket/key", 7, "label")
out = [item.size, item.label, item.err(), item.error_msg(), isinstance(item, DataObject)]
""",
        [7, "label", 0, "", True],
    ),
    "modules": (
        """
from osstorchconnector.oss_checkpoint import OssCheckpoint
from osstorchconnector.oss_iterable_dataset import OssIterableDataset
from osstorchconnector.oss_map_dataset import OssMapDataset
from osstorchconnector.oss_dcp_filesystem import OssDCPFileSystem, OssStorageReader, OssStorageWriter
from osstorchconnector.oss_safetensor import OssSafetensor
from osstorchconnector._oss_connector import new_data_object
from osstorchconnector._oss_bucket_iterable import parse_oss_uri
out = list(parse_oss_uri("oss://bucket/some/key"))
""",
        ["bucket", "some/key"],
    ),
}

# What 1.2.3 takes only with OSS, or does otherwise.
OURS: dict[str, tuple[str, Any]] = {
    "checkpoint": (
        """
from osstorchconnector import OssCheckpoint
checkpoint = OssCheckpoint("", "", config)
with checkpoint.writer(folder + "/checkpoint") as writer:
    writer.write(b"weights")
    out = [writer.size, writer.label]
with checkpoint.reader(folder + "/checkpoint") as reader:
    out += [reader.read().decode(), reader.label]
""",
        [7, "", "weights", ""],
    ),
    "tars of local files": (
        """
from osstorchconnector import OssIterableDataset, OssMapDataset, generate_tar_archive
tar, index = folder + "/a.tar", folder + "/a.idx"
out = [generate_tar_archive("", "", config, tar, index, folder + "/data")]
dataset = OssIterableDataset.from_tar(tar, index, "", config_path=config)
out.append([[item.key[len(folder):], item.label, item.size, item.read().decode()] for item in dataset])
dataset = OssMapDataset.from_tar(tar, index, endpoint="", config_path=config)
out.append([len(dataset), [item.read().decode() for item in dataset.__getitems__(indices=[3, 0])]])
""",
        [0, [[f"/data/{name}", name[0], 5, name] for name in NAMES], [5, ["3.txt", "0.txt"]]],
    ),
    "safetensors": (
        """
import torch
from osstorchconnector import OssSafetensor
files = OssSafetensor("", "", config)
files.save_file({"a": torch.arange(3), "b": torch.ones(2, 2)}, folder + "/model.safetensors")
out = {name: tensor.tolist() for name, tensor in files.load_file(folder + "/model.safetensors").items()}
""",
        {"a": [0, 1, 2], "b": [[1.0, 1.0], [1.0, 1.0]]},
    ),
    "rename_object and remove_object": (
        CLIENT
        + """
client.rename_object(bucket, inside + "/data/1.txt", bucket, inside + "/data/moved.txt")
client.remove_object(bucket, inside + "/data/2.txt")
out = sorted(item.key[len(folder) + 6:] for item in client.list_objects(bucket, inside + "/data/"))
""",
        ["0.txt", "3.txt", "4.txt", "moved.txt"],
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for number, name in enumerate(NAMES):
        (tmp_path / "data" / name).write_text(name)
        with (tmp_path / "manifest").open("a") as file:
            file.write(f"{name}\tlabel {number}\n")
    return tmp_path


# Reads a tar and an index that we made: by the calls that `from_tar` of both datasets makes of 1.2.3's client.
READS_A_TAR = (
    CLIENT
    + """
where = (bucket, inside + "/ours.tar", inside + "/ours.idx")
out = [sorted([item.label, item.key[len(folder):], item.size, item.read().decode()]
              for item in client.list_objects_from_tar(*where, [], [], True))]
out.append([item.label for item in client.list_objects_from_tar(*where, [6, 0], prefetch=True)])
out.append([client.get_object(where[0], where[1], number, 3, where[2]).read().decode() for number in (6, 0, 3)])
"""
)


# Importing torch takes longer than any program: an interpreter does it once, and forks for each of them.
INTERPRETER = """
import io, json, os, signal, sys, traceback
import torch
for line in sys.stdin:
    program, *arguments = json.loads(line)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(100)
        answers = os.fdopen(writing, "w")
        try:
            os.chdir(arguments[0])
            sys.argv[1:] = arguments
            exec(compile(program, "<program>", "exec"), globals())
            answer = json.dumps([out, ""])
        except BaseException:
            answer = json.dumps([None, traceback.format_exc()])
        answers.write(answer)
        answers.close()
        os._exit(0)  # the C++ connector's threads may crash when the interpreter ends
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    print("printed:" + (answer or json.dumps([None, f"it ended with status {status}"])), flush=True)
"""


class Interpreter:
    """An interpreter in which programs run, each in a process of its own."""

    def __init__(self, python: str | Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", "-c", INTERPRETER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),  # none in which either package lies
            text=True,
        )

    def result(self, program: str, folder: Path, config: Path) -> Any:
        """Return what a program leaves as `out`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([HEAD + program, str(folder), str(config)]) + "\n")
        self._process.stdin.flush()
        answer = next(line for line in self._process.stdout if line.startswith("printed:"))
        out, error = json.loads(answer.removeprefix("printed:"))
        assert not error, error
        return out

    def close(self) -> None:
        self._process.communicate(timeout=100)


Interpreters = Callable[[str | Path], Interpreter]


@pytest.fixture(scope="module")
def interpreters() -> Iterator[Interpreters]:
    """Return the interpreter of a name, which all tests share."""
    opened: dict[str, Interpreter] = {}

    def interpreter(python: str | Path) -> Interpreter:
        if str(python) not in opened:
            opened[str(python)] = Interpreter(python)
        return opened[str(python)]

    yield interpreter
    for each in opened.values():
        each.close()


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.json"
    logs = {"logLevel": 1, "logPath": f"{path.parent}/log", "auditPath": f"{path.parent}/audit"}
    path.write_text(json.dumps(logs))
    return path


@pytest.mark.parametrize("name", [*PROGRAMS, *OURS])
def test_a_program_for_1_2_3_runs_here(name: str, folder: Path, config: Path, interpreters: Interpreters) -> None:
    program, expected = (PROGRAMS | OURS)[name]
    assert interpreters(sys.executable).result(program, folder, config) == expected


with_1_2_3 = pytest.mark.skipif(not PEER.exists(), reason="the C++ connector is not installed: make bench installs it")


@with_1_2_3
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_does_the_same_on_1_2_3(name: str, folder: Path, config: Path, interpreters: Interpreters) -> None:
    program, expected = PROGRAMS[name]
    assert interpreters(PEER).result(program, folder, config) == expected


@pytest.mark.parametrize("python", [sys.executable, pytest.param(PEER, marks=with_1_2_3)])
def test_a_tar_and_an_index_that_we_made_are_read(
    folder: Path, config: Path, interpreters: Interpreters, python: str | Path
) -> None:
    files = {f"/in/{number}" + "n" * (number * 40): f"{number}" * number for number in range(7)}
    (folder / "in").mkdir()
    for name, text in files.items():
        Path(f"{folder}{name}").write_text(text)
    assert generate_tar_archive("", "", "", f"{folder}/ours.tar", f"{folder}/ours.idx", f"{folder}/in") == 0
    members = [[str(number), name, len(text), text] for number, (name, text) in enumerate(files.items())]
    want = [members, ["6", "0"], ["666666", "", "333"]]
    assert interpreters(python).result(READS_A_TAR, folder, config) == want
