"""Items of a checkpoint that lie about themselves: an error of ours, no memory out of proportion, no foreign bytes."""

from __future__ import annotations

import array
import collections
import decimal
import fractions
import io
import pathlib
import pickle
import types
import warnings
import zipfile
from typing import Any

import pytest
import torch

from osstorchconnector.dcp.allowed import AllowList
from osstorchconnector.dcp.archive import NotAnArchiveError, read_directory
from osstorchconnector.dcp.decoding import check_records, decode_tensor, object_pickle, vet_object
from osstorchconnector.dcp.metadata import UnsafePickleError, load_metadata
from osstorchconnector.dcp.pickle_limits import DryRun
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


def saved(value: object, protocol: int = 2) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol)
    file.seek(0)
    return file


class Call:
    def __init__(self, what: Any, *arguments: Any, state: Any = None) -> None:
        self.what, self.arguments, self.state = what, arguments, state

    def __reduce__(self) -> Any:
        return self.what, self.arguments, self.state


def nested(depth: int) -> Any:
    """Return lists of ten lists each, which are the same."""
    found: Any = 1.0
    for _ in range(depth):
        found = [found] * 10
    return found


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
        Call(collections.UserList, range(10**10)),
        Call(collections.UserString, nested(10)),
        Call(collections.UserDict, {}),
        Call(torch._utils._rebuild_sparse_tensor, torch.sparse_coo, ([], nested(10), [], False)),
        Call(torch._utils._rebuild_qtensor, None, 0, (), (), (torch.per_channel_affine, nested(10), nested(10), 0)),
        Many(),
    ],
    ids=lambda bomb: getattr(getattr(bomb, "what", bomb), "__name__", "many"),  # no address: the same in all processes
)
def test_a_call_that_no_honest_pickle_makes_is_refused(bomb: object) -> None:
    with pytest.raises(UnsafePickleError, match="^here: the object is not made of harmless things only"):
        vet_object(saved(bomb), "here")


TEXT, BYTES = "1" * 100_000, b"1" * 100_000
COPYING: dict[str, Call] = {
    "numbers of one text": Call(decimal.Decimal, TEXT),
    "paths of one text": Call(pathlib.PurePosixPath, TEXT, TEXT),
    "arrays of the same bytes": Call(array._array_reconstructor, array.array, "d", 0, BYTES),
    "files of the same bytes": Call(io.BytesIO, state=(BYTES, 0, None)),
    "dicts of the same entries": Call(types.SimpleNamespace, state=dict.fromkeys(range(20_000))),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", COPYING)
def test_many_copies_of_one_thing_are_refused(name: str, protocol: int) -> None:
    call = COPYING[name]
    vet_object(saved(call, protocol), "here")
    twins = [Call(call.what, *call.arguments, state=call.state) for _ in range(200)]
    with pytest.raises(UnsafePickleError, match="containers out of all proportion"):
        vet_object(saved(twins, protocol), "here")


def test_a_tensor_of_few_elements_is_not_copied_as_one_of_many() -> None:
    def copied(shape: Any, stride: Any, count: int = 1) -> io.BytesIO:
        file, source = io.BytesIO(), Claim(0, shape, stride)
        make = torch._utils._rebuild_device_tensor_from_cpu_tensor
        TensorPickle(file, 2).dump([Call(make, source, torch.float32, "cpu", False) for _ in range(count)])
        return archive_of(file.getvalue(), **{"data/0": bytes(16)})

    vet_object(copied((4,), (1,)), "here")
    assert decode_tensor(item(shape=torch.Size((2, 2)), stride=(2, 1)), "here").shape == (2, 2)
    as_a_size = io.BytesIO()
    TensorPickle(as_a_size, 2).dump([Claim(0, torch.Size((2, 2)), (2, 1))])
    vet_object(archive_of(as_a_size.getvalue(), **{"data/0": bytes(16)}), "here")
    for hostile in (copied((10**9,), (0,)), copied((4,), (1,), count=2)):
        with pytest.raises(UnsafePickleError, match="tensors out of all proportion"):
            vet_object(hostile, "here")


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


def archive_of(pickled: bytes, **others: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", **others}.items():
            writer.writestr(f"archive/{name}", content)
    return file


class Owner:
    """A class of the user's."""

    allowed = classmethod(lambda cls: cls())

    class Inner:
        pass


OWNER = f"c{__name__}\nOwner\n".encode()
GETATTR = b"c__builtin__\ngetattr\n"
LENT = [Owner.Inner]

# Written by hand: Python's pickler makes none of these.
CRAFTED = {
    # the opcode for state sets attributes, of classes just as well
    "state of a class": b"cargparse\nNamespace\n(N(X\x01\0\0\0aX\x01\0\0\0bdtb.",
    "attributes of a class": b"cargparse\nNamespace\n(X\x01\0\0\0aX\x01\0\0\0bdb.",
    "state of a function": b"c_codecs\nencode\n(X\x0c\0\0\0__defaults__)db.",
    "state of a value": b"cdatetime\ndate\n(K\x01K\x01K\x01tR}b.",
    "items of a class": b"ccollections\nOrderedDict\nK\x01K\x02s.",
    "elements of a class": b"ccollections\ndeque\nK\x01a.",
    # what is called has a name that is allowed
    "call of what was made": b"cargparse\nNamespace\n)R)R.",
    "call of a constant": b"ctorch\nfloat32\n)R.",
    "another's method": b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.",
    "another's method by getattr": GETATTR + b"(c__builtin__\ndict\nX\x08\0\0\0fromkeystR.",
    "a module's": b"cos\nsystem\nX\x02\0\0\0ls\x85R.",
    "a module's by getattr": GETATTR + b"(cos\npath\nX\x06\0\0\0existstR.",
    "of an instance by getattr": GETATTR + b"(cargparse\nNamespace\n)RX\x01\0\0\0atR.",
    "the owner is called before": OWNER + b"q\x00)R0" + GETATTR + b"(h\x00X\x05\0\0\0InnertR.",
    "the owner is called after": OWNER + b"q\x000" + GETATTR + b"(h\x00X\x05\0\0\0InnertR0h\x00)R.",
    "the owner's other": GETATTR + b"(" + OWNER + b"X\x08\0\0\0__init__tR.",
    "by its number": b"\x80\x02\x82\x01.",
    # what calls something else
    "a tensor by something else": b"ctorch._tensor\n_rebuild_from_type_v2\n"
    b"(c__builtin__\nbytearray\nctorch\nTensor\nJ\xff\xff\xff\x7f\x85}tR.",
    "a generator by something else": b"cnumpy.random._pickle\n__generator_ctor\n(J\xff\xff\xff\x7f"
    b"c__builtin__\nbytearray\ntR.",
    # memory
    "an array": b"cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    "an array that is not filled": b"cnumpy._core.multiarray\n_reconstruct\n"
    b"(cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01btR.",
    "an array of few objects": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
    b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nX\x02\0\0\0O8\x85R\x89]tb.",
    "a tensor": b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
    "a storage": b"ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.",
    "a seed": b"cnumpy.random.bit_generator\nSeedSequence\n(K\x01)J\xff\xff\xff\x7ftR.",
    "a file that goes on behind its end": b"c_io\nBytesIO\n)\x81(C\x01aJ\xff\xff\xff\x7fNtb.",
    "bytes by another encoding": b"c_codecs\nencode\n(X\x01\0\0\0aX\x04\0\0\0idnatR.",
    "something outside": b"X\x01\0\0\0aQ.",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_pickle_that_python_does_not_write_is_refused(name: str) -> None:
    with pytest.raises(OssIntegrityError, match="^here: "):
        vet_object(archive_of(CRAFTED[name]), "here", AllowList(LENT))


def test_what_is_inside_an_allowed_class_is_allowed_by_its_own_name_only() -> None:
    inner = GETATTR + b"(" + OWNER + b"X\x05\0\0\0InnertR)R."
    vet_object(archive_of(inner), "here", AllowList(LENT))
    with pytest.raises(UnsafePickleError, match=r"names .*Owner\.Inner\."):
        vet_object(archive_of(inner), "here")


def test_an_archive_that_torch_reads_as_something_else_is_refused() -> None:
    harmless = pickle.dumps([1], 2)
    vet_object(archive_of(harmless), "here")
    program = archive_of(harmless, **{"constants.pkl": b"program"})
    with pytest.raises(OssIntegrityError, match="TorchScript"):
        vet_object(program, "here")
    older = io.BytesIO()
    torch.save(Call(exec, "raise SystemExit"), older, _use_new_zipfile_serialization=False)
    with pytest.raises(OssIntegrityError, match="older format"):
        vet_object(io.BytesIO(older.getvalue() + archive_of(harmless).getvalue()), "here")


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", ["data.pkl", "DATA.PKL", "data.PKL"])
def test_of_two_pickles_in_an_archive_that_is_looked_through_which_torch_loads(name: str, order: int) -> None:
    made: list[str] = []
    file = io.BytesIO()
    records = [("data.pkl", pickle.dumps([1], 2)), (name, pickle.dumps(Call(collections.Counter, "attack"), 2))]
    others = [("version", b"3\n"), ("byteorder", b"little")]
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as writer:
        warnings.simplefilter("ignore")  # a doubled name
        for record, content in (*records[:: -1 if order else 1], *others):
            writer.writestr(f"archive/{record}", content)
    allowed = AllowList()
    seen = DryRun(object_pickle(file), lambda found: made.append(found[1]) or allowed(found))
    seen.load()
    file.seek(0)
    assert (torch.load(file, weights_only=False) == [1]) == (made == [])


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02}q\x00."])
def test_what_is_no_object_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(OssIntegrityError, match="^here: "):
        vet_object(io.BytesIO(data), "here")
