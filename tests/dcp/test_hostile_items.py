"""Items of a checkpoint that lie about themselves: an error of ours, no memory out of proportion, no foreign bytes."""

from __future__ import annotations

import collections
import fractions
import io
import pickle
import zipfile
from typing import Any

import pytest
import torch

from osstorchconnector.dcp.archive import NotAnArchiveError, read_directory
from osstorchconnector.dcp.decoding import check_records, decode_tensor
from osstorchconnector.dcp.metadata import UnsafePickleError, load_metadata
from osstorchconnector.dcp.vetting import vet_object
from osstorchconnector.errors import OssIntegrityError


class TensorPickle(pickle.Pickler):
    """Writes the pickle of a tensor as torch does, whatever shape is claimed."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.value if isinstance(obj, Storage) else None


class Storage:
    value = ("storage", torch.FloatStorage, "0", "cpu", 4)


class Claim:
    def __init__(self, *layout: Any) -> None:
        self.layout = layout

    def __reduce__(self) -> Any:
        offset, shape, stride = self.layout
        return torch._utils._rebuild_tensor_v2, (
            Storage(),
            offset,
            shape,
            stride,
            False,
            collections.OrderedDict(),
        )


def item(
    *, shape: Any, stride: Any = (1,), offset: int = 0, data: bytes = bytes(16), compression: int = zipfile.ZIP_STORED
) -> memoryview:
    file, archive = io.BytesIO(), io.BytesIO()
    TensorPickle(file, 2).dump(Claim(offset, shape, stride))
    with zipfile.ZipFile(archive, "w", compression) as writer:
        records = {"data.pkl": file.getvalue(), "byteorder": b"little", "data/0": data, "version": b"3\n"}
        for name, content in records.items():
            writer.writestr(f"archive/{name}", content)
    return memoryview(bytearray(archive.getvalue()))


def test_a_tensor_as_it_should_be_is_read() -> None:
    data = torch.arange(4.0).numpy().tobytes()
    assert torch.equal(decode_tensor(item(shape=(4,), data=data), "here"), torch.arange(4.0))
    assert decode_tensor(item(shape=(0,), data=b""), "here").shape == (0,)


@pytest.mark.parametrize(
    "claim",
    [
        {"shape": (1000,), "data": b""},  # would be memory as it was left by others
        {"shape": (1000,)},
        {"shape": (1 << 40,)},
        {"shape": (4,), "offset": 1},
        {"shape": (4,), "offset": -1},
        {"shape": (4,), "offset": 1 << 62},
        {"shape": (-1,)},
        {"shape": (2,), "stride": (-1,)},
        {"shape": (2,), "stride": (1, 1)},
        {"shape": ("a",)},
        {"shape": (2, [3]), "stride": (1, 1)},
        {"shape": (0, "a"), "stride": (1, 1)},
        {"shape": (4,), "data": bytes(15)},
        {"shape": (1,), "data": bytes(1 << 20), "compression": zipfile.ZIP_DEFLATED},
    ],
    ids=str,
)
def test_a_tensor_that_is_not_what_it_claims_is_an_error(claim: dict[str, Any]) -> None:
    with pytest.raises(OssIntegrityError, match="^here: "):
        decode_tensor(item(**claim), "here")


def test_records_on_top_of_each_other_are_an_error() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("archive/data/0", bytes(1000))
        for number in range(5):
            twin = zipfile.ZipInfo(f"archive/twin{number}")
            twin.file_size = twin.compress_size = 1000
            twin.header_offset, twin.CRC = 0, writer.filelist[0].CRC
            writer.filelist.append(twin)
    with pytest.raises(OssIntegrityError, match="here: the item's records overlap"):
        check_records(memoryview(archive.getvalue()), "here")


def saved(value: object) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return file


class Call:
    def __init__(self, what: Any, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> Any:
        return self.what, self.arguments


def test_a_directory_beyond_all_numbers_is_an_error() -> None:
    archive = bytearray(saved(torch.ones(4)).getvalue())
    at = archive.rindex(b"PK\x06\x06") + 48
    archive[at : at + 8] = b"\xff" * 8
    with pytest.raises(NotAnArchiveError):
        read_directory(archive)


class Many:
    """A pickle that makes a thousand containers of one list."""

    def __reduce__(self) -> Any:
        numbers = list(range(1000))
        return tuple, ([Call(set, numbers) for _ in range(1000)],)


@pytest.mark.parametrize(
    "bomb",
    [
        Call(list, range(10**10)),
        Call(tuple, range(10**10)),
        Call(set, range(10**10)),
        Call(frozenset, range(10**10)),
        Call(bytes, 10**11),
        Call(bytearray, 10**11),
        Call(collections.Counter, range(10**10)),
        Call(collections.Counter, {"a": Call(list, range(10**10))}),
        Call(collections.deque, range(10**10)),
        Call(collections.defaultdict, None, range(10**10)),
        Call(torch.Size, range(10**10)),
        Call(fractions.Fraction, "1e999999999"),
        Call(int, "9" * 4000),
        Call(str, b"\\" * 100),
        Many(),
    ],
    ids=lambda bomb: repr(getattr(bomb, "what", bomb))[:40],
)
def test_a_call_that_no_honest_pickle_makes_is_refused(bomb: object) -> None:
    with pytest.raises(UnsafePickleError, match="^here: the object is not made of harmless things only"):
        vet_object(saved(bomb), "here")


@pytest.mark.parametrize("kind", [set, frozenset, bytes, bytearray, collections.Counter, collections.deque, list])
def test_many_honest_containers_are_let_through(kind: Any) -> None:
    vet_object(saved([kind([number] * (number % 40)) for number in range(200)]), "here")


def test_a_bomb_in_the_place_of_a_tensor_is_refused() -> None:
    for bomb in (Call(bytearray, 10**11), Call(torch.Size, range(10**10)), {"a": Call(set, range(10**10))}):
        with pytest.raises(OssIntegrityError, match="^here: "):
            decode_tensor(memoryview(bytearray(saved(bomb).getvalue())), "here")


def test_metadata_of_a_thousand_sizes_made_of_one_list_is_refused() -> None:
    numbers = list(range(1000))
    with pytest.raises(OssIntegrityError, match="out of all proportion"):
        load_metadata(pickle.dumps([Call(torch.Size, numbers) for _ in range(1000)]), "here")


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02}q\x00."])
def test_what_is_no_object_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(OssIntegrityError, match="^here: "):
        vet_object(io.BytesIO(data), "here")
