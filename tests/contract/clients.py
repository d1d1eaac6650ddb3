"""Two clients with one face, so that one test drives both: oss2, Alibaba's SDK, and ours over either transport."""

from __future__ import annotations

import abc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import oss2
from oracle.messages import Account
from oracle.signed_http import SignedHttp

from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssServiceError
from osstorchconnector.protocol.values import ByteSpan, UploadedPart
from osstorchconnector.uri import OssUri

CLIENTS = ("oss2", "ours over direct", "ours over aiohttp")
STANDARD_RANGES = {"x-oss-range-behavior": "standard"}


class Credentials(Protocol):
    """What both servers say of their credentials."""

    @property
    def access_key_id(self) -> str: ...
    @property
    def access_key_secret(self) -> str: ...
    @property
    def security_token(self) -> str: ...


class Server(Protocol):
    """What both servers say of themselves."""

    @property
    def endpoint(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def credentials(self) -> Credentials: ...

    def create_bucket(self, name: str) -> None: ...


class Refused(Exception):
    """The server refused; what the client made of it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


class Seen(NamedTuple):
    """What a client says of an object: ETag bare and in upper case, CRC-64 as a number."""

    size: int
    etag: str
    crc64: int | None


class Listed(NamedTuple):
    keys: list[str]
    prefixes: list[str]
    token: str


class Part(NamedTuple):
    number: int
    etag: str
    size: int
    crc64: int


class Client(abc.ABC):
    """One client on one bucket. Everything a server refuses is raised as `Refused`."""

    bucket: str

    def can_put_in_xml(self, key: str) -> bool:
        """Whether the client knows how to get this key through documents that are not url-encoded."""
        return True

    @abc.abstractmethod
    def put(self, key: str, body: bytes, *, forbid_overwrite: bool = False) -> Seen: ...
    @abc.abstractmethod
    def get(self, key: str, *, if_match: str = "") -> bytes: ...
    @abc.abstractmethod
    def get_range(self, key: str, start: int, stop: int) -> bytes: ...
    @abc.abstractmethod
    def head(self, key: str) -> Seen: ...
    @abc.abstractmethod
    def list_page(
        self, prefix: str = "", *, delimiter: str = "", start_after: str = "", token: str = "", max_keys: int = 1000
    ) -> Listed: ...
    @abc.abstractmethod
    def sizes_and_etags(self, prefix: str = "") -> dict[str, tuple[int, str]]: ...
    @abc.abstractmethod
    def delete(self, key: str) -> None: ...
    @abc.abstractmethod
    def delete_many(self, keys: Sequence[str]) -> None: ...
    @abc.abstractmethod
    def copy(self, source: str, target: str, *, source_bucket: str = "", if_match: str = "") -> str: ...
    @abc.abstractmethod
    def create_upload(self, key: str) -> str: ...
    @abc.abstractmethod
    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part: ...
    @abc.abstractmethod
    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> Seen: ...
    @abc.abstractmethod
    def abort_upload(self, key: str, upload_id: str) -> None: ...
    @abc.abstractmethod
    def list_parts(self, key: str, upload_id: str) -> list[tuple[int, str, int]]: ...
    @abc.abstractmethod
    def list_uploads(self, prefix: str = "") -> list[tuple[str, str]]: ...

    def put_in_parts(self, key: str, *bodies: bytes) -> Seen:
        """Store an object as one multipart upload with these parts."""
        upload_id = self.create_upload(key)
        parts = [self.upload_part(key, upload_id, number, body) for number, body in enumerate(bodies, 1)]
        return self.complete_upload(key, upload_id, parts)

    def list_all(self, prefix: str = "", *, delimiter: str = "", max_keys: int = 1000) -> list[Listed]:
        """Return all pages of a listing."""
        pages = [self.list_page(prefix, delimiter=delimiter, max_keys=max_keys)]
        while pages[-1].token:
            pages.append(self.list_page(prefix, delimiter=delimiter, max_keys=max_keys, token=pages[-1].token))
        return pages

    def keys(self, prefix: str = "") -> list[str]:
        return [key for page in self.list_all(prefix) for key in page.keys]


class Oss2(Client):
    """Alibaba's SDK."""

    def __init__(self, server: Server, session: oss2.Session, bucket: str) -> None:
        self.bucket = bucket
        auth = oss2.AuthV4(server.credentials.access_key_id, server.credentials.access_key_secret)
        self._sdk = oss2.Bucket(
            auth, server.endpoint, bucket, session=session, region=server.region, is_verify_object_strict=False
        )

    def can_put_in_xml(self, key: str) -> bool:
        return all(letter >= " " or letter in "\t\n" for letter in key)

    def put(self, key: str, body: bytes, *, forbid_overwrite: bool = False) -> Seen:
        headers = {"x-oss-forbid-overwrite": "true"} if forbid_overwrite else None
        with _oss2_errors():
            result = self._sdk.put_object(key, body, headers=headers)
        return Seen(len(body), result.etag, result.crc)

    def get(self, key: str, *, if_match: str = "") -> bytes:
        headers = {"If-Match": if_match} if if_match else None
        with _oss2_errors():
            return bytes(self._sdk.get_object(key, headers=headers).read())

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        with _oss2_errors():
            return bytes(self._sdk.get_object(key, byte_range=(start, stop - 1), headers=STANDARD_RANGES).read())

    def head(self, key: str) -> Seen:
        with _oss2_errors():
            result = self._sdk.head_object(key)
        return Seen(result.content_length, result.etag, int(result.headers["x-oss-hash-crc64ecma"]))

    def list_page(
        self, prefix: str = "", *, delimiter: str = "", start_after: str = "", token: str = "", max_keys: int = 1000
    ) -> Listed:
        with _oss2_errors():
            page = self._sdk.list_objects_v2(
                prefix, delimiter, continuation_token=token, start_after=start_after, max_keys=max_keys
            )
        return Listed([entry.key for entry in page.object_list], page.prefix_list, page.next_continuation_token)

    def sizes_and_etags(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        found = oss2.ObjectIteratorV2(self._sdk, prefix=prefix)
        return {entry.key: (entry.size, entry.etag) for entry in found}

    def delete(self, key: str) -> None:
        with _oss2_errors():
            self._sdk.delete_object(key)

    def delete_many(self, keys: Sequence[str]) -> None:
        with _oss2_errors():
            result = self._sdk.batch_delete_objects(list(keys))
        assert sorted(result.deleted_keys) == sorted(keys)

    def copy(self, source: str, target: str, *, source_bucket: str = "", if_match: str = "") -> str:
        headers = {"x-oss-copy-source-if-match": if_match} if if_match else None
        with _oss2_errors():
            self._sdk.copy_object(source_bucket or self.bucket, source, target, headers=headers)
        return self.head(target).etag

    def create_upload(self, key: str) -> str:
        with _oss2_errors():
            # without the parameter a control character in the key makes an answer that is no XML
            return str(self._sdk.init_multipart_upload(key, params={"encoding-type": "url"}).upload_id)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        with _oss2_errors():
            result = self._sdk.upload_part(key, upload_id, number, body)
        return Part(number, result.etag, len(body), result.crc)

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> Seen:
        sent = [oss2.models.PartInfo(part.number, part.etag, part.size, part_crc=part.crc64) for part in parts]
        with _oss2_errors():
            result = self._sdk.complete_multipart_upload(key, upload_id, sent)
        return Seen(sum(part.size for part in parts), result.etag, result.crc)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with _oss2_errors():
            self._sdk.abort_multipart_upload(key, upload_id)

    def list_parts(self, key: str, upload_id: str) -> list[tuple[int, str, int]]:
        with _oss2_errors():
            return [(part.part_number, part.etag, part.size) for part in oss2.PartIterator(self._sdk, key, upload_id)]

    def list_uploads(self, prefix: str = "") -> list[tuple[str, str]]:
        with _oss2_errors():
            found = oss2.MultipartUploadIterator(self._sdk, prefix=prefix)
            return [(upload.key, upload.upload_id) for upload in found]


class Ours(Client):
    """The client of this library."""

    def __init__(self, client: OssClient, bucket: str) -> None:
        self.bucket, self._client = bucket, client

    def put(self, key: str, body: bytes, *, forbid_overwrite: bool = False) -> Seen:
        with _our_errors():
            stored = self._client.put(self._uri(key), body, forbid_overwrite=forbid_overwrite)
        return Seen(len(body), stored.etag, stored.crc64)

    def get(self, key: str, *, if_match: str = "") -> bytes:
        with _our_errors():
            return bytes(self._client.get(self._uri(key), if_match=if_match).body)

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        with _our_errors():
            download = self._client.get(self._uri(key), ByteSpan(start, stop))
        assert download.span.size == len(download.body)
        return bytes(download.body)

    def head(self, key: str) -> Seen:
        with _our_errors():
            stat = self._client.head(self._uri(key))
        return Seen(stat.size, stat.etag, stat.crc64)

    def list_page(
        self, prefix: str = "", *, delimiter: str = "", start_after: str = "", token: str = "", max_keys: int = 1000
    ) -> Listed:
        with _our_errors():
            page = self._client.list_page(
                self._uri(prefix), delimiter=delimiter, start_after=start_after, token=token, max_keys=max_keys
            )
        return Listed([entry.key for entry in page.objects], page.prefixes, page.next_token)

    def sizes_and_etags(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        with _our_errors():
            return {entry.key: (entry.size, entry.etag) for entry in self._client.list(self._uri(prefix))}

    def delete(self, key: str) -> None:
        with _our_errors():
            self._client.delete(self._uri(key))

    def delete_many(self, keys: Sequence[str]) -> None:
        with _our_errors():
            self._client.delete_many(self.bucket, keys)

    def copy(self, source: str, target: str, *, source_bucket: str = "", if_match: str = "") -> str:
        with _our_errors():
            stored = self._client.copy(
                OssUri(source_bucket or self.bucket, source), self._uri(target), if_match=if_match
            )
        return stored.etag

    def create_upload(self, key: str) -> str:
        with _our_errors():
            return self._client.create_upload(self._uri(key))

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Part:
        with _our_errors():
            uploaded = self._client.upload_part(self._uri(key), upload_id, number, body)
        return Part(uploaded.number, uploaded.etag, uploaded.size, uploaded.crc64)

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> Seen:
        with _our_errors():
            stored = self._client.complete_upload(self._uri(key), upload_id, [UploadedPart(*part) for part in parts])
        return Seen(sum(part.size for part in parts), stored.etag, stored.crc64)

    def abort_upload(self, key: str, upload_id: str) -> None:
        with _our_errors():
            self._client.abort_upload(self._uri(key), upload_id)

    def list_parts(self, key: str, upload_id: str) -> list[tuple[int, str, int]]:
        with _our_errors():
            return [(part.number, part.etag, part.size) for part in self._client.list_parts(self._uri(key), upload_id)]

    def list_uploads(self, prefix: str = "") -> list[tuple[str, str]]:
        with _our_errors():
            return [(upload.key, upload.upload_id) for upload in self._client.list_uploads(self._uri(prefix))]

    def _uri(self, key: str) -> OssUri:
        return OssUri(self.bucket, key)


def our_client(
    server: Server, account: Credentials, folder: Path, transport: str = "direct", **settings: object
) -> OssClient:
    """Return a client of ours with settings of the config file, which keeps its logs in `folder`."""
    config = folder / f"{'-'.join([transport, *settings])}.json"
    logs = {"logPath": str(folder / "connector.log"), "auditPath": str(folder / "audit.log")}
    config.write_text(json.dumps({"transport": transport, **logs, **settings}))
    provider = oss2.credentials.StaticCredentialsProvider(
        account.access_key_id, account.access_key_secret, account.security_token
    )
    return OssClient(server.endpoint, cred_provider=provider, config_path=str(config), region=server.region)


def wire_to(server: Server) -> SignedHttp:
    """Return a client that shows requests and answers as they are."""
    keys = server.credentials
    account = Account(keys.access_key_id, keys.access_key_secret, keys.security_token)
    return SignedHttp(server.endpoint, server.region, account)


@contextmanager
def _oss2_errors() -> Iterator[None]:
    try:
        yield
    except oss2.exceptions.ServerError as error:
        raise Refused(error.status, error.code) from error


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except OssServiceError as error:
        raise Refused(error.status, error.code) from error
