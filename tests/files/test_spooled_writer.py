from __future__ import annotations

import contextlib
import gc
import io
import multiprocessing
import os
import pickle
import resource
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from files.fake_client import URI, FakeClient
from files.small_parts import DATA, OLD, PART, TRANSFER, client_with_small_parts, stored
from hypothesis import given
from hypothesis import strategies as st
from loaders import needs_torch

from osstorchconnector import OssCheckpoint, OssSpooledWriter
from osstorchconnector.errors import OssError, OssUsageError
from osstorchconnector.files.spooled_writer import SPOOLED_BYTES
from osstorchconnector.testing import OssBucket


@pytest.fixture
def client() -> Iterator[FakeClient]:
    with client_with_small_parts() as fake:
        yield fake


@pytest.fixture(params=["memory", "file"])
def where(request: pytest.FixtureRequest) -> str:
    """Where the content is: what asks for a descriptor gets a file."""
    return str(request.param)


def writer_of(client: FakeClient, where: str = "memory") -> OssSpooledWriter:
    writer = OssSpooledWriter(client, URI, transfer=TRANSFER)  # type: ignore[arg-type]
    if where == "file":
        assert writer.fileno() > 0
    return writer


# as a local file


class Local(io.BytesIO):
    """What a local file is: longer by zeros where it is truncated beyond its end."""

    def truncate(self, size: int | None = None, /) -> int:
        size = self.tell() if size is None else size
        with self.getbuffer() as view:
            missing = size - view.nbytes
        if missing <= 0:
            return super().truncate(size)
        position = self.tell()
        self.seek(0, os.SEEK_END)
        self.write(bytes(missing))
        self.seek(position)
        return size


NUMBERS = st.integers(-3, 40)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.binary(max_size=20).map(lambda data: data.replace(b"\x01", b"\n"))),
    st.tuples(st.just("writelines"), st.lists(st.binary(max_size=4), max_size=3)),
    st.tuples(st.just("seek"), NUMBERS, st.integers(0, 2)),
    st.tuples(st.sampled_from(["read", "readline", "truncate"]), st.one_of(NUMBERS, st.none())),
    st.tuples(st.sampled_from(["read1", "readlines"]), NUMBERS),
    st.tuples(st.just("readinto"), st.integers(0, 30).map(bytearray)),
    st.tuples(st.sampled_from(["tell", "flush", "fileno", "readline", "read", "getvalue"])),
)


def done(file: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what an action returns or the kind of error it raises, and what it read into memory."""
    if name == "getvalue":
        position = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(position)
        return data
    if name == "seek" and isinstance(file, Local) and arguments[1]:  # BytesIO stops at its beginning, a file refuses
        base = file.tell() if arguments[1] == 1 else file.getbuffer().nbytes
        arguments = (base + arguments[0],)
    try:
        return getattr(file, name)(*arguments), [bytes(given) for given in arguments if isinstance(given, bytearray)]
    except (ValueError, TypeError) as error:  # ours may be an OSError besides, as a file's is
        return ValueError if isinstance(error, ValueError) else TypeError


@given(st.lists(ACTIONS, max_size=25))
def test_it_does_what_a_local_file_does_and_stores_what_that_would_hold(actions: list[tuple[Any, ...]]) -> None:
    with client_with_small_parts() as client, Local() as local:
        writer = writer_of(client)
        for name, *arguments in actions:
            if name == "fileno":
                writer.fileno()
                continue
            copied = pickle.loads(pickle.dumps(arguments))
            assert done(writer, name, tuple(arguments)) == done(local, name, tuple(copied))
        writer.close()
        assert stored(client) == local.getvalue()


@pytest.mark.parametrize(
    "call",
    [
        lambda writer: writer.write("text"),
        lambda writer: writer.seek("0"),
        lambda writer: writer.seek(1.0),
        lambda writer: writer.seek(0, "1"),
        lambda writer: writer.read(1.0),
        lambda writer: writer.truncate("1"),
        lambda writer: writer.readline("1"),
        lambda writer: writer.readinto(b"constant"),
    ],
)
def test_arguments_of_another_kind_are_refused_and_harm_nothing(client: FakeClient, where: str, call: Any) -> None:
    with writer_of(client, where) as writer:
        writer.write(b"data")
        with pytest.raises(TypeError):
            call(writer)
    assert stored(client) == b"data"


def test_it_says_what_it_is(client: FakeClient, where: str) -> None:
    writer = writer_of(client, where)
    assert (writer.readable(), writer.writable(), writer.seekable(), writer.isatty()) == (True, True, True, False)
    assert (writer.mode, writer.uri, writer.closed) == ("w+b", str(URI), False)
    assert repr(writer) == f"<OssSpooledWriter {str(URI)!r}, open: nothing is stored before it is closed>"
    writer.discard()
    assert repr(writer) == f"<OssSpooledWriter {str(URI)!r}, closed>"
    for call in (writer.read, writer.tell, writer.readable, writer.flush, writer.fileno, lambda: writer.write(b"x")):
        with pytest.raises(ValueError, match="closed file"):
            call()  # type: ignore[operator]
    writer.close()
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(writer)


# what is stored, and when


def test_nothing_is_sent_before_it_is_closed_and_then_parts_are(client: FakeClient, where: str) -> None:
    with writer_of(client, where) as writer:
        writer.write(DATA)
        writer.seek(5)
        writer.write(b"changed")
        assert client.operations() == []
        assert stored(client) == OLD
    assert stored(client) == DATA[:5] + b"changed" + DATA[12:]
    assert client.operations().count("part") == 11
    writer.close()
    assert client.operations().count("complete") == 1


def test_what_is_short_goes_in_one_request(client: FakeClient, where: str) -> None:
    with writer_of(client, where) as writer:
        writer.write(b"short")
    assert client.operations() == ["put"]
    assert stored(client) == b"short"


def test_what_is_long_lies_in_a_file_without_a_name(client: FakeClient, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with writer_of(client) as writer:
        writer.write(b"begin")
        writer.seek(SPOOLED_BYTES)
        writer.write(b"end")
        assert list(tmp_path.iterdir()) == []
        writer.seek(0)
        assert writer.read(7) == b"begin\0\0"
    data = stored(client)
    assert (len(data), data[:5], data[-3:]) == (SPOOLED_BYTES + 3, b"begin", b"end")
    assert not data[5:-3].strip(b"\0")


def test_a_hole_of_any_size_takes_no_memory(client: FakeClient) -> None:
    writer = writer_of(client)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer.truncate(50 << 30)
    writer.seek(40 << 30)
    writer.write(b"data")
    writer.seek(-10, os.SEEK_END)
    assert writer.read() == bytes(10)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    writer.discard()
    assert stored(client) == OLD


@pytest.mark.parametrize("end", ["exception", "discard", "garbage"])
def test_what_does_not_end_well_leaves_the_old_object(
    client: FakeClient, where: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    writer = writer_of(client, where)
    writer.write(DATA)
    if end == "exception":
        with pytest.raises(KeyError), writer:
            raise KeyError
    elif end == "discard":
        writer.discard()
    del writer
    gc.collect()
    assert client.operations() == []
    assert stored(client) == OLD
    assert caplog.text.count("was never closed, so nothing was stored") == (end == "garbage")


def test_an_upload_that_fails_is_aborted_and_raised(client: FakeClient, where: str) -> None:
    def refuse(call: Any) -> None:
        if call.operation == "part" and call.number == 3:
            raise OssError("no more")

    client.before = refuse
    writer = writer_of(client, where)
    writer.write(DATA)
    with pytest.raises(OssError, match="no more"):
        writer.close()
    assert writer.closed
    assert "abort" in client.operations()
    assert stored(client) == OLD


def test_a_disk_that_is_full_publishes_nothing(client: FakeClient) -> None:
    writer = writer_of(client, "file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART, hard))
    try:
        with pytest.raises(OSError, match="large"):
            writer.write(DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for call in (lambda: writer.write(b"more"), writer.close):
        with pytest.raises(OssError, match="an earlier write to .* failed, nothing is stored"):
            call()
    assert writer.closed
    assert client.operations() == []


def test_a_folder_for_temporary_files_that_is_not_there_publishes_nothing(
    client: FakeClient, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    writer = writer_of(client)
    writer.write(b"data")
    with pytest.raises(FileNotFoundError):
        writer.fileno()
    with pytest.raises(OssError, match="nothing is stored"):
        writer.close()
    assert stored(client) == OLD


def _use(writer: OssSpooledWriter, queue: Any) -> None:
    errors = []
    for call in (lambda: writer.seek(0), lambda: writer.write(b"child"), writer.read, writer.close):
        try:
            call()
        except OssUsageError as error:
            errors.append(str(error))
    queue.put(errors)


def test_a_forked_child_can_do_it_no_harm(client: FakeClient, where: str) -> None:
    writer, context = writer_of(client, where), multiprocessing.get_context("fork")
    writer.write(b"parent")
    queue = context.SimpleQueue()
    child = context.Process(target=_use, args=(writer, queue))
    child.start()
    errors = queue.get()
    child.join()
    assert [error for error in errors if "belongs to another process" in error] == errors
    assert len(errors) == 4
    writer.write(b" goes on")
    writer.close()
    assert stored(client) == b"parent goes on"


# whatever writes a local file


@pytest.fixture
def checkpoint(oss_bucket: OssBucket) -> OssCheckpoint:
    return OssCheckpoint(**oss_bucket.options)


def test_zip_files_are_written_and_added_to(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    with checkpoint.writer(oss_bucket.uri + "zip", seekable=True) as writer:
        with zipfile.ZipFile(writer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", b"a" * 1000)
        with zipfile.ZipFile(writer, "a") as archive:
            archive.writestr("b", b"b")
    with checkpoint.reader(oss_bucket.uri + "zip") as reader, zipfile.ZipFile(reader) as archive:
        assert archive.testzip() is None
        assert (archive.read("a"), archive.read("b")) == (b"a" * 1000, b"b")


@pytest.mark.parametrize("form", ["TIFF", "GIF", "JPEG", "BMP", "PNG", "WEBP", "PPM"])
@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=str)
def test_pillow_saves_every_format(
    oss_bucket: OssBucket, checkpoint: OssCheckpoint, form: str, options: dict[str, str]
) -> None:
    image = PIL.Image.linear_gradient("L").resize((300, 200))
    with checkpoint.writer(oss_bucket.uri + "image", seekable=True) as writer:
        image.save(writer, form, **options)
    expected = io.BytesIO()
    image.save(expected, form, **options)
    with PIL.Image.open(io.BytesIO(oss_bucket.get("image"))) as found, PIL.Image.open(expected) as wanted:
        assert found.format == form
        assert found.tobytes() == wanted.tobytes()


def test_numpy_writes_by_way_of_the_descriptor(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    numbers = np.arange(100_000)
    with checkpoint.writer(oss_bucket.uri + "npy", seekable=True) as writer:
        np.save(writer, numbers)  # which uses `tofile`
        np.save(writer, numbers[:3])
    with io.BytesIO(oss_bucket.get("npy")) as file:
        assert (np.load(file) == numbers).all()
        assert (np.load(file) == numbers[:3]).all()
    with checkpoint.writer(oss_bucket.uri + "memmap", seekable=True) as writer:
        mapped = np.memmap(writer, np.int64, "w+", shape=(1000,))  # type: ignore[call-overload]
        mapped[:] = numbers[:1000]
        del mapped
    assert oss_bucket.get("memmap") == numbers[:1000].tobytes()


@needs_torch(2, 6)  # torch.serialization.skip_data
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")  # torch.export.load of torch 2.10
def test_torch_saves_what_it_seeks_in(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    model = torch.nn.Linear(3, 2)
    with checkpoint.writer(oss_bucket.uri + "state", seekable=True) as writer, torch.serialization.skip_data():
        torch.save(model.state_dict(), writer)
    assert zipfile.ZipFile(io.BytesIO(oss_bucket.get("state"))).testzip() is not None  # nobody has written the data
    with checkpoint.writer(oss_bucket.uri + "program", seekable=True) as writer:
        torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), writer)
    with checkpoint.reader(oss_bucket.uri + "program") as reader:
        program = torch.export.load(reader)
    assert torch.equal(program.module()(torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_what_was_written_is_read_and_written_again(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    """As h5py does with a file object: it reads its own tables while it writes, flushes, truncates."""
    with checkpoint.writer(oss_bucket.uri + "h5", seekable=True) as writer:
        writer.write(bytes(96))
        for number in range(50):
            writer.seek(0, os.SEEK_END)
            writer.write(bytes([number]) * 1000)
            writer.seek(0)
            table = bytearray(96)
            assert writer.readinto(table) == 96
            table[number] = number
            writer.seek(0)
            writer.write(table)
            writer.flush()
        writer.truncate(96 + 49_000)
    data = oss_bucket.get("h5")
    assert len(data) == 49_096
    assert data[:50] == bytes(range(50))


def test_the_writer_that_was_asked_for_is_the_one_that_comes(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    for seekable in (False, True):
        with contextlib.closing(checkpoint.writer(oss_bucket.uri + "any", seekable=seekable)) as writer:
            assert writer.seekable() is seekable
