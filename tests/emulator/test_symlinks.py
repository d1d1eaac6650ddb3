from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.service import Service

SYMLINK = [("symlink", "")]


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def link(send: Driver, key: str, target: str, *headers: tuple[str, str]) -> Answer:
    return send("PUT", "photos", key, SYMLINK, headers=[("x-oss-symlink-target", target), *headers])


def test_a_symlink_gives_its_targets_bytes_under_its_own_headers(send: Driver) -> None:
    stored = send("PUT", "photos", "a/b é", body=b"0123456789", headers=[("content-type", "text/plain")])
    assert link(send, "link", "a%2Fb%20%C3%A9", ("x-oss-meta-of", "the link")).status == 200
    for method in ("GET", "HEAD"):
        answer = send(method, "photos", "link")
        assert answer.status == 200
        assert answer.headers["x-oss-object-type"] == "Symlink"
        assert answer.headers["etag"] == stored.headers["etag"]
        assert answer.headers["x-oss-hash-crc64ecma"] == stored.headers["x-oss-hash-crc64ecma"]
        assert answer.headers["content-length"] == "10"
        assert answer.headers["x-oss-meta-of"] == "the link"
        assert answer.headers["content-type"] == "application/octet-stream"
    assert send("GET", "photos", "link").body == b"0123456789"
    assert send("GET", "photos", "link", headers=[("range", "bytes=2-3")]).body == b"23"


def test_a_symlink_tells_its_target(send: Driver) -> None:
    link(send, "link", "a%2Fb%20%C3%A9")
    answer = send("GET", "photos", "link", SYMLINK)
    assert answer.headers["x-oss-symlink-target"] == "a/b%20%C3%A9"
    assert answer.body == b""


def test_a_symlink_to_nothing_is_made_and_read_when_its_target_is_there(send: Driver) -> None:
    assert link(send, "link", "later").status == 200
    assert refused(send("GET", "photos", "link"), 404, "SymlinkTargetNotExist")
    send("PUT", "photos", "later", body=b"x")
    assert send("GET", "photos", "link").body == b"x"


def test_a_symlink_to_a_symlink_is_not_followed(send: Driver) -> None:
    link(send, "first", "second")
    link(send, "second", "third")
    assert refused(send("GET", "photos", "first"), 400, "InvalidTargetType")


def test_only_symlinks_have_targets(send: Driver) -> None:
    send("PUT", "photos", "k")
    assert refused(send("GET", "photos", "k", SYMLINK), 400, "NotSymlink")
    assert refused(send("GET", "photos", "missing", SYMLINK), 404, "NoSuchKey")


def test_a_symlink_needs_a_target_that_could_be_a_key(send: Driver) -> None:
    assert refused(send("PUT", "photos", "link", SYMLINK), 400, "MissingArgument")
    assert refused(link(send, "link", "/k"), 400, "InvalidObjectName")
    assert refused(link(send, "link", "k" * 1024), 400, "InvalidObjectName")


def test_a_symlink_spares_an_object_when_told(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    answer = link(send, "k", "other", ("x-oss-forbid-overwrite", "true"))
    assert refused(answer, 409, "FileAlreadyExists")
    assert send("GET", "photos", "k").body == b"x"


def test_a_symlink_is_listed_copied_and_deleted_as_itself(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    link(send, "link", "k")
    send("PUT", "photos", "copy", headers=[("x-oss-copy-source", "/photos/link")])
    assert send("GET", "photos", "copy", SYMLINK).headers["x-oss-symlink-target"] == "k"
    page = send("GET", "photos", query=[("list-type", "2")])
    assert dict(zip(page.texts("Contents/Key"), page.texts("Contents/Type"), strict=True)) == {
        "copy": "Symlink",
        "k": "Normal",
        "link": "Symlink",
    }
    send("DELETE", "photos", "link")
    assert send("GET", "photos", "k").body == b"x"


def test_who_is_not_signed_needs_link_and_target(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    link(send, "link", "k", ("x-oss-object-acl", "public-read"))
    assert refused(send("GET", "photos", "link", is_signed=False), 403, "AccessDenied")
    send("PUT", "photos", "k", [("acl", "")], headers=[("x-oss-object-acl", "public-read")])
    assert send("GET", "photos", "link", is_signed=False).body == b"x"


def test_a_link_to_an_archived_object_is_not_read(send: Driver) -> None:
    send("PUT", "photos", "cold", body=b"x", headers=[("x-oss-storage-class", "Archive")])
    link(send, "link", "cold")
    assert refused(send("GET", "photos", "link"), 403, "InvalidObjectState")


@pytest.mark.parametrize("key", ["k", "dir/ü"])
def test_a_symlink_lasts(send: Driver, service: Service, key: str) -> None:
    link(send, "link", key)
    service.close()
    later = Service.open(service.storage.root, send.credentials)
    assert later.bucket("photos").objects["link"].traits.target == key
    later.close()
