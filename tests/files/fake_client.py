"""A client with a bucket in memory: real coroutines on a real loop thread, no sockets, every call recorded.

`before` is called, and awaited if it returns something to await, when a call begins: it raises to make the call
fail, or waits for a gate. `after` is the same when the server has done its part and only the answer is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from osstorchconnector.config import Config, TransferConfig
from osstorchconnector.errors import OssNotFoundError, OssObjectChangedError, OssServiceError, OssUsageError
from osstorchconnector.protocol.attributes import PLAIN, Attributes
from osstorchconnector.protocol.checksum import Sum, combine_crc64
from osstorchconnector.protocol.checksum import crc64 as crc64_of
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat, StoredObject, UploadedPart
from osstorchconnector.uri import OssUri

URI = OssUri("bucket", "folder/object.bin")
TRANSFER = TransferConfig(prefetch_concurrency=4, prefetch_worker=1, upload_concurrency=3)


class Call(NamedTuple):
    """One request as the server sees it: of a GET the bytes asked for, of a part its number and size."""

    operation: str
    uri: OssUri
    span: ByteSpan | None = None
    if_match: str = ""
    number: int = 0
    size: int = 0


class Stored(NamedTuple):
    data: bytes
    etag: str
    crc64: int | None


class Gate:
    """Closed until opened; what awaits `passed()`, on any loop, waits that long."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        self._opened.set_result(None)

    async def passed(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._opened))


class FakeReference(NamedTuple):
    """Finds the client of this process by its number."""

    number: int

    def resolve(self) -> FakeClient:
        return _living[self.number]


_living: weakref.WeakValueDictionary[int, FakeClient] = weakref.WeakValueDictionary()


class FakeClient:
    """Has what readers and writers use of `OssClient`."""

    endpoint = "http://fake"

    def __init__(self, config: Config | None = None) -> None:
        _living[id(self)] = self
        self.config = config if config is not None else Config(checkpoint=TRANSFER, dataset=TRANSFER)
        self.objects: dict[OssUri, Stored] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.calls: list[Call] = []
        self.opened_ahead: list[tuple[str, int]] = []
        self.before: Callable[[Call], Any] = lambda call: None
        self.after: Callable[[Call], Any] = lambda call: None
        self.most_under_way: Counter[str] = Counter()
        self.filled: list[tuple[object, int]] = []  # whose memory bytes came to, and how many
        self._operations = FakeOperations(self)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-loop", daemon=True)
        self._thread.start()

    def store(self, uri: OssUri, data: bytes, *, crc: int | None = -1) -> None:
        """Put an object there; `crc` is what the server says its CRC-64 is: None for nothing, -1 for the truth."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest().upper()
        self.objects[uri] = Stored(data, etag, crc64_of(data) if crc == -1 else crc)

    def spans(self) -> list[tuple[int, int]]:
        """What each GET asked for, in the order of the requests."""
        self.settle()
        return [(call.span.start, call.span.stop) for call in self.calls if call.span is not None]

    def operations(self) -> list[str]:
        """The requests' names, in their order."""
        self.settle()
        return [call.operation for call in self.calls]

    def settle(self) -> None:
        """Let the loop come to all that was given to it so far."""
        self._run(asyncio.sleep(0))

    def submit(self, work: Callable[[Any], Coroutine[Any, Any, Any]], *, workers: int = 1) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work(self._operations), self._loop)

    def open_ahead(self, bucket: str, count: int, *, workers: int) -> None:
        self.opened_ahead.append((bucket, count))

    def get(self, uri: OssUri, span: ByteSpan | None = None, **options: Any) -> Download:
        return self._run(self._operations.get(uri, span, **options))

    def put(
        self,
        uri: OssUri,
        body: Any,
        *,
        forbid_overwrite: bool = False,
        content_type: str = "",
        metadata: dict[str, str] | None = None,
        storage_class: str = "",
    ) -> StoredObject:
        assert not forbid_overwrite
        return self._run(self._operations.put(uri, body))

    def reference(self) -> FakeReference:
        """What stands for this client in a pickle: it is found again while it lives."""
        return FakeReference(id(self))

    def close(self) -> None:
        """End the loop; what still runs on it is abandoned."""
        self._run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise OssUsageError("a blocking call on the loop's own thread")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class FakeOperations:
    """The server's side of a `FakeClient`, one coroutine per operation, as `Operations` has them."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._under_way: Counter[str] = Counter()
        self._numbers = itertools.count(1)

    async def get(
        self,
        uri: OssUri,
        span: ByteSpan | None = None,
        *,
        into: memoryview | None = None,
        if_match: str = "",
        checksum: Sum | None = None,
    ) -> Download:
        async with self._call(Call("get", uri, span, if_match)):
            stored = self._client.objects.get(uri)
            if stored is None:
                raise OssNotFoundError(f"GetObject {uri}: NoSuchKey", status=404, code="NoSuchKey")
            if if_match and if_match != stored.etag:
                raise OssObjectChangedError(f"GetObject {uri}: PreconditionFailed", status=412)
            size = len(stored.data)
            start, stop = span if span is not None else (0, size)
            if start >= size and start:
                raise OssServiceError(f"GetObject {uri}: InvalidRange", status=416, code="InvalidRange")
            found = ByteSpan(start, min(stop, size))
            body = stored.data[found.start : found.stop]
            if checksum is not None:
                checksum.add(memoryview(body))
            if into is not None:
                into[: len(body)] = body
                self._client.filled.append((into.obj, len(body)))
            return Download(
                ObjectStat(size, stored.etag, stored.crc64), found, b"" if into is not None else body, crc64_of(body)
            )

    async def put(self, uri: OssUri, body: Any, *, crc64: int | None = None) -> StoredObject:
        data = joined(body)
        assert crc64 in (None, crc64_of(data))
        async with self._call(Call("put", uri, size=len(data))):
            return self._publish(uri, data)

    async def create_upload(self, uri: OssUri, *, attributes: Attributes = PLAIN) -> str:
        async with self._call(Call("create", uri)):
            upload_id = f"upload-{next(self._numbers)}"
            self._client.uploads[upload_id] = {}
            return upload_id

    async def upload_part(
        self, uri: OssUri, upload_id: str, number: int, body: Any, *, crc64: int | None = None
    ) -> UploadedPart:
        async with self._call(Call("part", uri, number=number, size=len(joined(body)))):
            data = joined(body)
            assert crc64 in (None, crc64_of(data))
            self._upload(upload_id)[number] = data
            return UploadedPart(number, f"etag-{number}", len(data), crc64_of(data))

    async def complete_upload(
        self, uri: OssUri, upload_id: str, parts: Sequence[UploadedPart], *, forbid_overwrite: bool = False
    ) -> StoredObject:
        assert not forbid_overwrite
        async with self._call(Call("complete", uri, number=len(parts))):
            held = self._upload(upload_id)
            assert [part.number for part in parts] == sorted(held), "complete without every part"
            stored = self._publish(uri, b"".join(held[number] for number in sorted(held)))
            crc = 0
            for part in parts:
                crc = combine_crc64(crc, part.crc64, part.size)
            assert stored.crc64 == crc
            del self._client.uploads[upload_id]
            return stored

    async def abort_upload(self, uri: OssUri, upload_id: str) -> None:
        async with self._call(Call("abort", uri)):
            self._client.uploads.pop(upload_id, None)

    def _publish(self, uri: OssUri, data: bytes) -> StoredObject:
        self._client.store(uri, data)
        return StoredObject(self._client.objects[uri].etag, self._client.objects[uri].crc64)

    def _upload(self, upload_id: str) -> dict[int, bytes]:
        if upload_id not in self._client.uploads:
            raise OssNotFoundError("NoSuchUpload", status=404, code="NoSuchUpload")
        return self._client.uploads[upload_id]

    @asynccontextmanager
    async def _call(self, call: Call) -> AsyncIterator[None]:
        client = self._client
        client.calls.append(call)
        self._under_way[call.operation] += 1
        client.most_under_way[call.operation] = max(
            client.most_under_way[call.operation], self._under_way[call.operation]
        )
        try:
            await _maybe(client.before(call))
            yield
            await _maybe(client.after(call))
        finally:
            self._under_way[call.operation] -= 1


def joined(body: Any) -> bytes:
    """The bytes of a body, which is a buffer or several."""
    return bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else b"".join(body)


async def _maybe(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
    else:
        await asyncio.sleep(0)


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
