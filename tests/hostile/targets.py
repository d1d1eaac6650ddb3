"""What takes bytes from elsewhere: each target takes any bytes, and may raise nothing but our errors.

`make test` runs them with hypothesis; `python chaos/fuzz.py TARGET` as long as one likes, with atheris.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from tar.cxx_connector.recipe import TARS
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from osstorchconnector.client.attempts import GetAttempt
from osstorchconnector.client.client import OssClient
from osstorchconnector.client.error_texts import printable
from osstorchconnector.config import parse_config
from osstorchconnector.credentials.values import read_credentials
from osstorchconnector.datapipes import saved as saved_format
from osstorchconnector.datapipes.manifest import imagenet_manifest_parser, jsonl_manifest_parser
from osstorchconnector.dcp.decoding import decode_tensor, read_tensor_pickle, vet_object
from osstorchconnector.dcp.metadata import dump_metadata, load_metadata
from osstorchconnector.dcp.torch_dcp import StorageMeta
from osstorchconnector.errors import OssError
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.layout import MAGIC, Batch, pack_block
from osstorchconnector.protocol import heads, xml
from osstorchconnector.protocol.answers import PageOrder
from osstorchconnector.protocol.endpoint import parse_endpoint
from osstorchconnector.protocol.requests import get_object
from osstorchconnector.protocol.signing import encode_key, parse_authorization
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.redaction import SecretBytes
from osstorchconnector.safetensors.header import LENGTH_BYTES, header_bytes, parse_header
from osstorchconnector.safetensors.loading import kind_of
from osstorchconnector.tar.headers import entries
from osstorchconnector.tar.index_file import MemberDetails, TarIndex, pack_index, unpack_index
from osstorchconnector.uri import OssUri, parse_object_uri, parse_uri

URI = OssUri("bucket", "key")
MOST_MEMORY_FOR_A_SPAN = MOST_STRIDED_BYTES = 1 << 20


def response_head(data: bytes) -> None:
    found = heads.parse_response_head(data, len(data))
    if found is None:
        return
    head, start = found
    assert start <= len(data)
    for read in (heads.object_stat, heads.content_range, heads.error_document, heads.retry_after_seconds):
        read(head)
    for name, value in head.headers.items():
        assert "\n" not in name + value


def request_head(data: bytes) -> None:
    heads.parse_request_head(data, len(data))


def download(data: bytes) -> None:
    """A head decides neither where bytes land nor how much memory is taken: the caller's span does."""
    found = heads.parse_response_head(data, len(data))
    if found is None or found[0].status not in (200, 206):
        return
    into = memoryview(bytearray(MOST_MEMORY_FOR_A_SPAN))
    attempt = GetAttempt(URI, ByteSpan(0, len(into)), into, "")
    view = attempt.buffer_for(found[0])
    assert len(view) <= len(into)


def list_page(data: bytes) -> None:
    PageOrder().accept(xml.parse_list_page(data))


def documents(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [
        functools.partial(xml.parse_upload_id, key="key"),
        functools.partial(xml.parse_complete, key="key"),
        functools.partial(xml.parse_deleted, asked=["key"]),
        functools.partial(xml.parse_parts, key="key", upload_id="ID", marker=0),
        functools.partial(xml.parse_uploads, prefix=""),
        xml.parse_copy,
    ]
    for parse in parsers:
        with contextlib.suppress(OssError):
            parse(data)


def error_document(data: bytes) -> None:
    fault = xml.parse_error(data)
    for text in fault:
        shown = printable(text)
        assert shown.isprintable() or not shown


def manifest(data: bytes) -> None:
    for key, _ in imagenet_manifest_parser(io.BytesIO(data)):
        assert "\n" not in key


def json_manifest(data: bytes) -> None:
    list(jsonl_manifest_parser(io.BytesIO(data)))


def saved_index(data: bytes) -> None:
    """A file that says it is an index, of this version or the first: what it names are objects, as many as it says."""
    with tempfile.NamedTemporaryFile(prefix="index-") as file:
        file.write((saved_format.MAGIC if data[:1] == b"2" else MAGIC) + data[1:])
        file.flush()
        for batch in saved_format.SavedListing(OFFLINE, file.name).batches(b""):
            assert len(batch.tails) == len(batch.sizes)
            if batch.places is not None:
                parse_object_uri(f"/{batch.places.tar}")
                continue
            for tail in batch.tails:
                parse_object_uri(f"/{batch.base}{tail}")


def tar_headers(data: bytes) -> None:
    """No header leads backwards, or takes memory for what is not there."""
    position = 0
    for entry in entries(lambda start, size: data[start : start + size]):
        assert entry.start == position
        assert entry.body > entry.start
        assert entry.size >= 0
        position = entry.stop


def tar_index(data: bytes) -> None:
    """Members lie in the tar, one behind the other."""
    index = unpack_index(data, TAR_BYTES)
    assert sorted(set(index.bounds)) == list(index.bounds)
    assert index.bounds[0] >= 0
    assert index.bounds[-1] <= TAR_BYTES
    if index.details is not None:
        assert {len(column) for column in index.details} == {index.members}


def saved_index_of(rows: Batch) -> bytes:
    """Return what `save_index` writes, without the magic that it begins with."""
    with tempfile.TemporaryDirectory() as folder:
        saved_format.save_index(FixedIndex([rows]), f"{folder}/index", OFFLINE)
        return Path(folder, "index").read_bytes()[len(saved_format.MAGIC) :]


def uri(data: bytes) -> None:
    found = parse_uri(data.decode("utf-8", "surrogateescape"))
    if found.key:
        head = heads.encode_head("GET", f"/{encode_key(found.key)}", [("Host", found.bucket)])
        assert head.count(b"\r\n") == 3
        assert b"\0" not in head
        get_object(found.bucket, found.key)


def endpoint(data: bytes) -> None:
    found = parse_endpoint(data.decode("utf-8", "surrogateescape"))
    assert found.is_exposed in (True, False)
    heads.encode_head("GET", "/", [("Host", found.route("bucket").host_header)])


def config(data: bytes) -> None:
    parse_config(data, "a.json")


def credentials(data: bytes) -> None:
    found = read_credentials(SecretBytes(data))
    assert isinstance(found, str) or found.access_key_id


def authorization(data: bytes) -> None:
    with contextlib.suppress(ValueError):  # what the emulator takes for "no"
        parse_authorization(data.decode("latin-1"))


def dcp_metadata(data: bytes) -> None:
    load_metadata(data, "here")


def tensor_pickle(data: bytes) -> None:
    read_tensor_pickle(data)


def tensor_item(data: bytes) -> None:
    tensor = decode_tensor(memoryview(bytearray(data)), "here")
    assert tensor.numel() * tensor.element_size() <= MOST_STRIDED_BYTES or 0 in tensor.stride()


def object_item(data: bytes) -> None:
    vet_object(io.BytesIO(data), "here")


def object_pickle(data: bytes) -> None:
    """A pickle in an archive that is as it should be."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, content in {"data.pkl": data, "byteorder": b"little", "version": b"3\n"}.items():
            writer.writestr(f"archive/{name}", content)
    archive.seek(0)
    vet_object(archive, "here")


def safetensors_header(data: bytes) -> None:
    length = header_bytes(data[:LENGTH_BYTES], len(data), "here")
    header = parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], len(data), "here")
    assert sum(found.stop - found.start for found in header.tensors.values()) == len(data) - header.data_start
    for name, found in header.tensors.items():
        kind_of(found, name, "here")


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def pickle_of(archive: bytes) -> bytes:
    return zipfile.ZipFile(io.BytesIO(archive)).read("archive/data.pkl")


LIST = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult><Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<NextContinuationToken>T</NextContinuationToken><Contents><Key>a%20b</Key><LastModified>2025-03-14T15:09:26.000Z
</LastModified><ETag>"AB"</ETag><Type>Normal</Type><Size>5</Size><StorageClass>Standard</StorageClass></Contents>
<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>"""
ERROR = b"<Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>1</RequestId><EC>1-2</EC></Error>"
HEAD = (
    b'HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/9\r\nETag: "A"\r\n'
    b"x-oss-hash-crc64ecma: 123\r\nDate: Fri, 14 Mar 2025 15:09:26 GMT\r\nRetry-After: 3\r\nx-oss-err: QUI=\r\n\r\n"
)
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + ERROR
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>ID</UploadId></InitiateMultipartUploadResult>"
KEYS = b'{"AccessKeyId": "a", "AccessKeySecret": "b", "Expiration": "2030-01-01T00:00:00Z"}'

TABLE = Metadata(
    {
        "weight": TensorStorageMetadata(
            TensorProperties(dtype=torch.bfloat16),
            torch.Size([4, 2]),
            [ChunkStorageMetadata(torch.Size([row, 0]), torch.Size([2, 2])) for row in (0, 2)],
        ),
        "step": BytesStorageMetadata(),
    },
    planner_data={"step": ("step",)},
    storage_data={
        MetadataIndex("weight", torch.Size([0, 0]), 0): _StorageInfo("__0_0.distcp", 0, 1000),
        MetadataIndex("step"): _StorageInfo("__0_1.distcp", 0, 500),
    },
    storage_meta=StorageMeta(checkpoint_id="oss://bucket/step-1"),
)
TENSOR = saved(torch.ones(3, 2))
VIEW = saved(torch.ones(3, 2).t()[1:])
PLAIN = {"lr": 0.1, "betas": (0.9, 0.99), "seen": {1, 2}, "rng": b"1", "dtype": torch.float32, "n": range(3)}
OBJECT = saved({**PLAIN, "weight": torch.ones(2)})

TENSORS = {"a": torch.ones(2, 3), "b": torch.ones(1, dtype=torch.bfloat16), "c": torch.zeros(0, 2)}

ROWS = Batch("bucket/", ["a", "b/ü"], [5, -1], ["cat", [1, {"x": None}]], b"")
OFFLINE = OssClient("http://127.0.0.1:9")
INDEX = b"2" + saved_index_of(ROWS)

TAR_BYTES = 4096
TAR_INDEX = TarIndex([0, 1024, 2048], MemberDetails(["a", "b"], [512, 1536], [5, 512]), TAR_BYTES, "E")

# By name: the target, and well-formed input from which to start.
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "response head": (response_head, [HEAD]),
    "request head": (request_head, [b"GET /b/k?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"]),
    "download": (download, [HEAD, HEAD.replace(b"206", b"200")]),
    "list page": (list_page, [LIST, BOMB]),
    "documents": (documents, [UPLOAD, LIST, BOMB]),
    "error document": (error_document, [ERROR, BOMB, b"<html>502</html>"]),
    "manifest": (manifest, [b"a/b.jpg\tcat\nc\n", b"\xff\t\n"]),
    "json manifest": (json_manifest, [b'{"key": "a", "label": 3}\n', b"[" * 5000]),
    "saved index": (saved_index, [b"1" + pack_block(ROWS), b"1" + pack_block(ROWS._replace(labels=None)) * 2, INDEX]),
    "tar": (tar_headers, [TARS[name]() for name in ("pax", "gnu", "global")]),
    "tar index": (tar_index, [pack_index(TAR_INDEX), pack_index(TarIndex([0, 1024]))]),
    "uri": (uri, [b"oss://bucket/a/../b\r\n\x1b[31m", b"/bucket/key"]),
    "endpoint": (endpoint, [b"https://oss-cn-hangzhou.aliyuncs.com:443", b"http://[::1]:80"]),
    "config": (config, [b'{"logLevel": 1, "datasetConfig": {"prefetchWorker": 2}}', b"[" * 5000]),
    "credentials": (
        credentials,
        [KEYS],
    ),
    "authorization": (authorization, [b"OSS4-HMAC-SHA256 Credential=a/b/c/oss/aliyun_v4_request,Signature=0a"]),
    "DCP metadata": (dcp_metadata, [dump_metadata(TABLE), pickle.dumps({"a": 1}), b"cos\nsystem\n(S'true'\ntR."]),
    "tensor pickle": (tensor_pickle, [pickle_of(TENSOR), pickle_of(VIEW), b"\x80\x02Nr\xff\xff\xff\x7f."]),
    "tensor item": (tensor_item, [TENSOR, VIEW, saved(torch.ones(2).bool()), saved(torch.nn.Parameter(torch.ones(2)))]),
    "object pickle": (object_pickle, [pickle.dumps(PLAIN, protocol) for protocol in (0, 2, 5)]),
    "safetensors": (safetensors_header, [safetensors.torch.save(TENSORS, {"a": "b"}), safetensors.torch.save({})]),
    "object item": (object_item, [OBJECT, saved(None), saved([torch.ones(2), torch.Size([1])])]),
}


def run(name: str, data: bytes) -> None:
    """Run a target; any exception but ours is a finding."""
    try:
        TARGETS[name][0](data)
    except OssError:
        return
