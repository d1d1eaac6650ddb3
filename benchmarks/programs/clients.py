"""The same work by clients without torch, each in its fastest way.

Clients that only know S3 can't sign for OSS: they read from a public bucket, without signatures.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gauge import Done, Program, one_by_one, warm_memory
from benchmarks.values import Keys

IN_FLIGHT = 24
PART_BYTES = 8 << 20


def oss2_objects(keys: Keys, names: Sequence[str], reads: int, size: int) -> Program:
    """oss2 in threads; it checks CRC-64."""
    bucket = oss2_bucket(keys)
    return _objects_by_threads(lambda name: len(bucket.get_object(name).read()), names, reads, size)


def oss2_large(keys: Keys, name: str, size: int) -> Program:
    """oss2 in threads, by ranges."""
    bucket = oss2_bucket(keys)

    def read(start: int, stop: int) -> bytes:
        data: bytes = bucket.get_object(name, byte_range=(start, stop - 1)).read()
        return data

    return _large_by_threads(read, size)


def oss_v2_objects(keys: Keys, names: Sequence[str], reads: int, size: int) -> Program:
    """alibabacloud-oss-v2 in threads; it checks CRC-64."""
    import alibabacloud_oss_v2 as oss

    client = _oss_v2_client(keys)

    def read(name: str) -> int:
        with client.get_object(oss.GetObjectRequest(bucket=keys["bucket"], key=name)).body as body:
            return len(body.read())

    return _objects_by_threads(read, names, reads, size)


def oss_v2_large(keys: Keys, name: str, size: int) -> Program:
    """alibabacloud-oss-v2 in threads, by ranges."""
    import alibabacloud_oss_v2 as oss

    client = _oss_v2_client(keys)

    def read(start: int, stop: int) -> bytes:
        request = oss.GetObjectRequest(bucket=keys["bucket"], key=name, range_header=f"bytes={start}-{stop - 1}")
        with client.get_object(request).body as body:
            data: bytes = body.read()
            return data

    return _large_by_threads(read, size)


def obstore_objects(keys: Keys, names: Sequence[str], reads: int, size: int) -> Program:
    """obstore with asyncio."""
    import obstore

    store = _obstore(keys)

    async def read(name: str) -> int:
        answer = await obstore.get_async(store, name)
        return len(await answer.bytes_async())

    async def read_all(wanted: Iterator[str]) -> int:
        return sum([await read(name) for name in wanted])

    async def share_out(wanted: Iterable[str]) -> int:
        shared = iter(wanted)
        return sum(await asyncio.gather(*(read_all(shared) for _ in range(IN_FLIGHT))))

    asyncio.run(share_out(names[:IN_FLIGHT]))
    yield None
    total = asyncio.run(share_out(itertools.islice(itertools.cycle(names), reads)))
    yield Done(reads)
    assert total == reads * size


def obstore_get_one_by_one(keys: Keys, name: str, reads: int, size: int) -> Program:
    """obstore's blocking calls, one after the other."""
    import obstore

    store = _obstore(keys)
    return one_by_one(lambda: len(obstore.get(store, name).bytes()), reads, size)


def oss2_get_one_by_one(keys: Keys, name: str, reads: int, size: int) -> Program:
    """oss2's blocking calls, one after the other."""
    bucket = oss2_bucket(keys)
    return one_by_one(lambda: len(bucket.get_object(name).read()), reads, size)


def obstore_large(keys: Keys, name: str, size: int) -> Program:
    """obstore in threads, by ranges (with asyncio it is no faster here)."""
    import obstore

    store = _obstore(keys)
    return _large_by_threads(lambda start, stop: obstore.get_range(store, name, start=start, end=stop), size)


def s3torch_objects(keys: Keys, names: Sequence[str], reads: int, size: int) -> Program:
    """s3torchconnector's dataset."""
    from s3torchconnector import S3IterableDataset

    uris = [f"s3://{keys['bucket']}/{name}" for name in itertools.islice(itertools.cycle(names), reads)]

    def dataset(wanted: Sequence[str]) -> Any:
        return S3IterableDataset.from_objects(wanted, **_s3_access(keys), transform=lambda data: len(data.read()))

    assert sum(dataset(uris[:2])) == 2 * size
    yield None
    total = sum(dataset(uris))
    yield Done(reads)
    assert total == reads * size


def s3torch_large(keys: Keys, name: str, size: int) -> Program:
    """s3torchconnector's checkpoint reader, into a buffer."""
    from s3torchconnector import S3Checkpoint

    buffer = touched_buffer(size)
    checkpoint = S3Checkpoint(**_s3_access(keys))
    warm_memory(2 * size)
    yield None
    with checkpoint.reader(f"s3://{keys['bucket']}/{name}") as reader:
        fill(reader, buffer)
    yield Done(size)


def oss2_bucket(keys: Keys) -> Any:
    """Return oss2's client of the bucket, with one connection per request in flight."""
    import oss2

    _trust(keys)
    session = oss2.Session(pool_size=IN_FLIGHT)
    provider = oss2.credentials.StaticCredentialsProvider(keys["key_id"], keys["secret"])
    auth = oss2.ProviderAuthV4(provider)
    return oss2.Bucket(auth, keys["endpoint"], keys["bucket"], session=session, region=keys["region"])


def touched_buffer(size: int) -> bytearray:
    """Return a buffer whose pages are in memory already: the time to get pages from the kernel is not measured."""
    buffer = bytearray(size)
    buffer[::4096] = b"\1" * len(range(0, size, 4096))
    return buffer


def fill(reader: Any, buffer: bytearray) -> None:
    """Read into `buffer` until it is full."""
    view = memoryview(buffer)
    while view:
        count = reader.readinto(view)
        assert count, "the object ended early"
        view = view[count:]


def _objects_by_threads(read: Callable[[str], int], names: Sequence[str], reads: int, size: int) -> Program:
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(read, names[:IN_FLIGHT]))
        yield None
        total = sum(pool.map(read, itertools.islice(itertools.cycle(names), reads)))
        yield Done(reads)
    assert total == reads * size


def _large_by_threads(read: Callable[[int, int], Any], size: int) -> Program:
    view = memoryview(touched_buffer(size))

    def land(start: int) -> None:
        stop = min(start + PART_BYTES, size)
        view[start:stop] = memoryview(read(start, stop)).cast("B")

    with ThreadPoolExecutor(IN_FLIGHT // 3) as pool:
        land(0)
        warm_memory(2 * size)
        yield None
        list(pool.map(land, range(0, size, PART_BYTES)))
        yield Done(size)


def _oss_v2_client(keys: Keys) -> Any:
    import alibabacloud_oss_v2 as oss

    _trust(keys)
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(keys["key_id"], keys["secret"])
    config.region, config.endpoint = keys["region"], keys["endpoint"]
    config.use_path_style = "127.0.0.1" in keys["endpoint"]
    return oss.Client(config)


def _trust(keys: Keys) -> None:
    """Let `requests`, which both SDKs of OSS use, trust our certificate."""
    if keys["ca_file"]:
        os.environ["REQUESTS_CA_BUNDLE"] = keys["ca_file"]


def _obstore(keys: Keys) -> Any:
    from obstore.store import S3Store

    return S3Store(
        keys["bucket"],
        endpoint=keys["endpoint"],
        region=keys["region"],
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "allow_invalid_certificates": True},
    )


def _s3_access(keys: Keys) -> dict[str, Any]:
    from s3torchconnector import S3ClientConfig

    config = S3ClientConfig(unsigned=True, force_path_style=True)
    return {"region": keys["region"], "endpoint": keys["endpoint"], "s3client_config": config}
