"""The client's behaviour against servers that follow a script: retries, resuming, checking, refusing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import os
import pickle
import re
import threading
import weakref

import pytest
from client.scripted_server import (
    BODY,
    URI,
    ScriptedServer,
    answer,
    close,
    first,
    hang,
    part,
    refused,
    reset,
    whole,
)
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.composing import user_agent
from osstorchconnector.client.engine import engine
from osstorchconnector.credentials import Credentials
from osstorchconnector.errors import (
    OssConfigError,
    OssConnectionError,
    OssCredentialsError,
    OssIntegrityError,
    OssNotFoundError,
    OssObjectChangedError,
    OssPermissionError,
    OssProtocolError,
    OssServiceError,
    OssTimeoutError,
    OssUriError,
    OssUsageError,
)
from osstorchconnector.logs import audit_log
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.heads import ResponseHead, retry_after_seconds
from osstorchconnector.protocol.values import ByteSpan, UploadedPart
from osstorchconnector.uri import OssUri, parse_object_uri


def rest_of(visit, body):
    """Return the answer to a request for the rest of an object, or for all of it."""
    found = re.search(rb"range: bytes=(\d+)-", visit.head)
    return part(int(found[1]), len(body), body) if found else whole(body)


def ranges(server):
    lines = [line for head in server.heads for line in head.decode().split("\r\n")]
    return [line.split(": ")[1] for line in lines if line.lower().startswith("range:")]


def test_a_whole_object_comes_with_what_oss_says_of_it(connect):
    with ScriptedServer.in_turn(whole()) as server:
        download = connect(server).get(URI)
    assert download.body == BODY
    assert download.span == ByteSpan(0, 200)
    assert (download.stat.size, download.stat.etag, download.stat.crc64) == (200, "E1", crc64(BODY))
    assert server.heads[0].startswith(b"GET /bucket/dir/key HTTP/1.1\r\n")
    assert user_agent().encode() in server.heads[0]


def test_the_audit_log_tells_what_was_sent_and_what_came(tmp_path, oss_bucket):
    config, log = tmp_path / "config.json", tmp_path / "audit.log"
    config.write_text(json.dumps({**NO_LOGS, "auditPath": str(log)}))
    client = OssClient(**oss_bucket.options, config_path=config)
    client.put(oss_bucket.uri + "key", b"four")
    client.get(oss_bucket.uri + "key")
    client.close()
    audit_log(client.config).flush()
    put, get = map(json.loads, log.read_text().splitlines())
    assert (put["operation"], put["key"], put["sent"], put["bytes"], put["status"]) == ("PutObject", "key", 4, 0, 200)
    assert (get["operation"], get["bytes"], get["attempt"]) == ("GetObject", 4, 1)
    assert "sent" not in get


def test_one_key_is_not_taken_for_many(connect):
    with ScriptedServer() as server:
        with pytest.raises(OssUsageError, match="several keys"):
            connect(server).delete_many("bucket", "dir/key")
    assert server.heads == []


@pytest.mark.parametrize("bucket", ["", "oss://bucket", "bucket/dir", "Bucket", "b@c", "b\r\nX: y"])
def test_many_are_deleted_from_a_bucket_only(connect, bucket):
    with ScriptedServer() as server:
        with pytest.raises(OssUriError):
            connect(server).delete_many(bucket, ["key"])
    assert server.heads == []


@pytest.mark.parametrize("span", [ByteSpan(3, 3), ByteSpan(3, 2), ByteSpan(-3, 3)])
def test_a_span_has_a_byte_at_least_and_does_not_count_from_the_end(connect, span):
    with ScriptedServer() as server:
        with pytest.raises(OssUsageError, match="span"):
            connect(server).get(URI, span)
    assert server.heads == []


def test_a_client_that_is_closed_while_it_waits_for_credentials_asks_nobody_any_more(settings, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(NO_LOGS | settings))

    def close_first():
        client.close()
        return Credentials(access_key_id="AK", access_key_secret="SK")

    with ScriptedServer.in_turn(whole()) as server:
        paths = {"cred_provider": close_first, "config_path": str(tmp_path / "config.json")}
        client = OssClient(server.endpoint, region="cn-test", **paths)
        with pytest.raises(OssConnectionError, match="the client was closed meanwhile"):
            client.get(URI)
    assert server.heads == []


def test_the_audit_log_tells_how_a_request_broke(tmp_path, connect):
    with ScriptedServer.in_turn(hang, close, whole()) as server:
        client = connect(server, auditPath=str(tmp_path / "audit.log"), readTimeout=1)
        assert client.get(URI).body == BODY
    audit_log(client.config).flush()
    entries = list(map(json.loads, (tmp_path / "audit.log").read_text().splitlines()))
    assert [entry.get("error", entry.get("status")) for entry in entries] == ["timeout", "reset", 200]


def test_the_audit_log_has_requests_that_were_given_up(tmp_path, connect):
    asked = threading.Event()

    def hang_and_tell(visit):
        asked.set()
        hang(visit)

    with ScriptedServer.in_turn(hang_and_tell) as server:
        client = connect(server, auditPath=str(tmp_path / "audit.log"))
        given_up = client.submit(lambda operations: operations.get(parse_object_uri(URI)))
        assert asked.wait(100)
        given_up.cancel()
        client.submit(nothing).result()  # on the same loop, behind what was given up
    audit_log(client.config).flush()
    (entry,) = map(json.loads, (tmp_path / "audit.log").read_text().splitlines())
    assert (entry["operation"], entry["error"]) == ("GetObject", "cancelled")


async def nothing(_operations):
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_user_agent_names_library_torch_and_python():
    assert re.fullmatch(r"osstorchconnector/2[\w.]+ torch/\d+\.\d+\.\d+ python/3\.\d+\.\d+ \w+", user_agent())


def test_a_span_lands_in_the_callers_memory(connect):
    target = bytearray(50)
    with ScriptedServer.in_turn(part(100, 150)) as server:
        download = connect(server).get(URI, ByteSpan(100, 150), into=memoryview(target), if_match="E1")
    assert (bytes(target), download.body, download.crc64) == (BODY[100:150], b"", crc64(BODY[100:150]))
    assert b'"E1"' in server.heads[0]


def test_a_span_past_the_end_brings_what_exists(connect):
    with ScriptedServer.in_turn(part(150, 200)) as server:
        download = connect(server).get(URI, ByteSpan(150, 1000))
    assert (download.span, download.body) == (ByteSpan(150, 200), BODY[150:])


def test_an_empty_object_has_no_range_and_is_found_empty(connect):
    with ScriptedServer.in_turn(refused("416 Range", "InvalidRange"), answer(ETag='"E0"')) as server:
        download = connect(server).get(URI, ByteSpan(0, 65536))
    assert (download.body, download.span, download.stat.etag) == (b"", ByteSpan(0, 0), "E0")


def test_a_broken_body_is_resumed_at_the_missing_byte_of_the_same_object(connect):
    with ScriptedServer.in_turn(
        first(whole()[:-150], close), first(part(50, 200)[:-100], close), part(100, 200)
    ) as server:
        download = connect(server).get(URI)
    assert download.body == BODY
    assert ranges(server) == ["bytes=50-199", "bytes=100-199"]
    assert all(b'"E1"' in head for head in server.heads[1:])


def test_an_object_replaced_before_the_body_is_resumed_is_an_error(connect):
    with ScriptedServer.in_turn(first(whole()[:-150], close), refused("412 Changed", "PreconditionFailed")) as server:
        with pytest.raises(OssObjectChangedError, match="oss://bucket/dir/key"):
            connect(server).get(URI)


def test_an_answer_with_another_etag_is_an_error_even_if_the_server_let_it_pass(connect):
    with ScriptedServer.in_turn(part(0, 100, ETag='"E2"')) as server:
        with pytest.raises(OssObjectChangedError, match="E1.*E2"):
            connect(server).get(URI, ByteSpan(0, 100), if_match="E1")


@pytest.mark.parametrize(
    "wrong",
    [
        part(1, 101),
        part(0, 99),
        whole(),
        answer(BODY[:100], status="206 Partial Content", ETag='"E1"'),
        part(0, 100, Content_Range="bytes 0-99/50"),
        part(0, 100, Content_Range="bytes 0-200/300"),
    ],
)
def test_another_range_than_asked_for_is_never_taken(connect, wrong):
    with ScriptedServer.in_turn(wrong, part(0, 100)) as server:
        download = connect(server).get(URI, ByteSpan(0, 100))
    assert download.body == BODY[:100]
    assert len(server.heads) == 2


def test_a_flipped_byte_is_fetched_again_and_in_the_end_an_error(connect):
    head, end, body = whole().partition(b"\r\n\r\n")
    flipped = head + end + body.replace(b"\x64", b"\x65")
    with ScriptedServer.in_turn(flipped, whole()) as server:
        assert connect(server).get(URI).body == BODY
    with ScriptedServer.in_turn(*[flipped] * 4) as server:
        with pytest.raises(OssIntegrityError, match=r"GetObject oss://bucket/dir/key.*4 attempts"):
            connect(server).get(URI)


def test_resets_and_silence_are_retried_then_told_by_type(connect):
    with ScriptedServer.in_turn(reset, hang, whole()) as server:
        assert connect(server, readTimeout=1).get(URI).body == BODY
    with ScriptedServer.in_turn(*[close] * 4) as server:
        with pytest.raises(OssConnectionError, match="GetObject oss://bucket/dir/key.*4 attempts"):
            connect(server).get(URI)
    with ScriptedServer.in_turn(*[hang] * 4) as server:
        with pytest.raises(OssTimeoutError, match="GetObject"):
            connect(server, readTimeout=0.1).get(URI)


def test_what_a_whole_object_turns_out_to_be_has_a_second_for_each_mib(connect):
    """The first answer breaks off when the time is over that is allowed for no bytes at all."""
    body = bytes(4 * 1024 * 1024)
    late = threading.Event()

    def break_off_late(visit):
        visit.send(whole(body)[:1_000_000])
        late.wait(0.5)
        reset(visit)

    with ScriptedServer.in_turn(break_off_late, lambda visit: visit.send(rest_of(visit, body))) as server:
        assert connect(server, operationTimeout=0.3, readTimeout=5).get(URI).body == body
    assert len(server.heads) == 2


def test_an_operation_ends_within_its_time(connect):
    with ScriptedServer.in_turn(*[hang] * 9) as server:
        with pytest.raises(OssTimeoutError):
            connect(server, operationTimeout=0.3, readTimeout=5).get(URI)


def test_what_was_stored_is_held_against_what_was_sent(connect):
    def store(crc):
        def step(visit):
            visit.read_body()
            visit.send(answer(ETag='"N"', x_oss_hash_crc64ecma=str(crc)))

        return step

    with ScriptedServer.in_turn(store(1), store(crc64(BODY))) as server:
        stored = connect(server).put(URI, [BODY[:50], memoryview(BODY)[50:]])
    assert (stored.etag, stored.crc64) == ("N", crc64(BODY))
    with ScriptedServer.in_turn(*[store(1)] * 4) as server:
        with pytest.raises(OssIntegrityError, match="PutObject"):
            connect(server).put(URI, BODY)


PARTS = [UploadedPart(1, "P1", 100, crc64(BODY[:100])), UploadedPart(2, "P2", 100, crc64(BODY[100:]))]


def completed(crc):
    xml = b"<CompleteMultipartUploadResult><ETag>&quot;W-2&quot;</ETag></CompleteMultipartUploadResult>"

    def step(visit):
        visit.read_body()
        visit.send(answer(xml, x_oss_hash_crc64ecma=str(crc)))

    return step


def lose(visit):
    visit.read_body()
    visit.connection.close()


def test_a_completed_upload_is_checked_as_a_whole(connect):
    with ScriptedServer.in_turn(completed(crc64(BODY))) as server:
        assert connect(server).complete_upload(URI, "ID", PARTS).etag == "W-2"
    with ScriptedServer.in_turn(completed(5)) as server:
        with pytest.raises(OssIntegrityError, match="CompleteMultipartUpload"):
            connect(server).complete_upload(URI, "ID", PARTS)


def unknown_upload(visit):
    visit.read_body()
    visit.send(refused("404 Gone", "NoSuchUpload"))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_completion_whose_answer_was_lost_is_looked_for(connect, is_there):
    stat = whole(BODY if is_there else b"the old object")
    with ScriptedServer.in_turn(lose, unknown_upload, stat[: stat.index(b"\r\n\r\n") + 4]) as server:
        client = connect(server)
        if is_there:
            assert client.complete_upload(URI, "ID", PARTS).crc64 == crc64(BODY)
        else:
            with pytest.raises(OssNotFoundError, match="NoSuchUpload"):
                client.complete_upload(URI, "ID", PARTS)


def test_an_upload_that_was_never_known_is_an_error_at_once(connect):
    with ScriptedServer.in_turn(unknown_upload) as server:
        with pytest.raises(OssNotFoundError, match="NoSuchUpload"):
            connect(server).complete_upload(URI, "ID", PARTS)
    assert len(server.heads) == 1


def page(keys, token=""):
    entries = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2025-03-14T15:09:26.000Z</LastModified><ETag>E</ETag>"
        f"<Size>{i}</Size></Contents>"
        for i, key in enumerate(keys)
    )
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return answer(
        "<ListBucketResult><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{more}{entries}</ListBucketResult>".encode()
    )


def test_a_listing_goes_on_until_the_last_page_and_fetches_ahead(connect):
    with ScriptedServer.in_turn(page(["a%20a", "a%20b"], "t1"), page(["a%20c"], "t2"), page(["a%20d"])) as server:
        listing = connect(server).list("oss://bucket/a ")
        assert next(listing).key == "a a"
        assert [entry.key for entry in listing] == ["a b", "a c", "a d"]
    assert b"prefix=a%20" in server.heads[0]
    assert b"continuation-token=t2" in server.heads[2]


UNSIZED = b"HTTP/1.1 200 OK\r\nx-oss-request-id: 5C3D9175B6FC201293AD4890\r\n"


def without_length(step: bytes) -> bytes:
    return step.partition(b"\r\n\r\n")[2]


def test_pages_may_come_in_chunks(connect):
    def chunked(step: bytes) -> bytes:
        body = without_length(step)
        return UNSIZED + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    pages = [chunked(page(["a"], "t1")), chunked(page(["b"], "t2")), chunked(page(["c"]))]
    with ScriptedServer.in_turn(*pages) as server:
        assert [entry.key for entry in connect(server).list("oss://bucket/")] == ["a", "b", "c"]
    assert len(server.heads) == 3


def test_pages_that_end_with_the_connection_are_asked_for_twice_only_once(connect, settings):
    pages = [
        first(UNSIZED + b"\r\n" + without_length(step), close)
        for step in (page(["a"], "t1"), page(["b"], "t2"), page(["c"]))
    ]
    first_twice = pages[:1] if settings["transport"] == "direct" else []
    with ScriptedServer.in_turn(*first_twice, *pages) as server:
        assert [entry.key for entry in connect(server).list("oss://bucket/")] == ["a", "b", "c"]


def test_a_listing_that_is_refused_names_its_prefix(connect):
    with ScriptedServer.in_turn(refused("403 No", "AccessDenied")) as server:
        with pytest.raises(OssPermissionError, match="ListObjectsV2 oss://bucket/data/train/: OSS answered 403"):
            list(connect(server).list("oss://bucket/data/train/"))


def test_a_malformed_page_is_asked_for_again(connect):
    with ScriptedServer.in_turn(answer(b"<ListBucketResult>"), page(["a"])) as server:
        assert [entry.key for entry in connect(server).list("oss://bucket/")] == ["a"]
    with ScriptedServer.in_turn(*[answer(b"<html>proxy</html>")] * 4) as server:
        with pytest.raises(OssProtocolError, match="ListObjectsV2 oss://bucket/.*4 attempts"):
            list(connect(server).list("oss://bucket/"))


def test_keys_that_xml_cannot_carry_are_deleted_one_by_one(connect):
    def deleted(visit):
        visit.read_body()
        visit.send(answer())

    with ScriptedServer.in_turn(deleted, answer(status="204 No Content")) as server:
        connect(server).delete_many("bucket", ["plain", "with\x01control"])
    assert server.heads[0].startswith(b"POST /bucket/?delete")
    assert server.heads[1].startswith(b"DELETE /bucket/with%01control ")


def test_an_upload_already_gone_counts_as_aborted(connect):
    with ScriptedServer.in_turn(refused("404 Gone", "NoSuchUpload"), refused("404 Gone", "NoSuchBucket")) as server:
        client = connect(server)
        client.abort_upload(URI, "ID")
        with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
            client.abort_upload(URI, "ID")


def test_hostile_text_from_the_server_cannot_forge_lines(connect):
    with ScriptedServer.in_turn(refused("404 Gone", "NoSuchKey", "a&#10;b\x7f")) as server:
        with pytest.raises(OssServiceError) as caught:
            connect(server).get("oss://bucket/key\nINJECTED\x1b[31m")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_client_that_got_no_credentials_goes_when_it_is_dropped(tmp_path):
    client = OssClient("http://127.0.0.1:9", region="cn-test", cred_path=tmp_path / "absent")
    with contextlib.suppress(OssCredentialsError):
        client.head(URI)
    dropped = weakref.ref(client)
    del client
    gc.collect()
    assert dropped() is None


def test_a_blocking_call_on_the_loop_thread_is_refused(connect):
    with ScriptedServer() as server:
        client = connect(server)

        async def work(operations):
            return client.head(URI)

        with pytest.raises(OssUsageError, match="Operations"):
            client.submit(work).result()


def test_a_client_pickles_as_its_recipe(connect):
    with ScriptedServer.in_turn(whole(), whole()) as server:
        client = connect(server)
        client.get(URI)
        data = pickle.dumps(client)
        twin = pickle.loads(data)
        assert twin.get(URI).body == BODY
        twin.close()
    assert b"SK" not in data


def test_a_forked_child_opens_its_own_connections(connect):
    with ScriptedServer.in_turn(whole(), whole(), whole()) as server:
        client = connect(server)
        client.get(URI)
        child = os.fork()
        if child == 0:
            os._exit(0 if client.get(URI).body == BODY else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.get(URI).body == BODY


def test_a_fork_while_another_thread_uses_the_client_does_no_harm(connect):
    with ScriptedServer.in_turn(hang, whole()) as server:
        client = connect(server)
        outcome: list[Exception] = []

        def get() -> None:
            try:
                client.get(URI)
            except OssConnectionError as error:
                outcome.append(error)

        thread = threading.Thread(target=get)
        thread.start()
        while not server.heads:
            thread.join(0.001)
        child = os.fork()
        if child == 0:
            os._exit(0 if client.get(URI).body == BODY else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        client.close()
        thread.join(100)
        assert len(outcome) == 1


def test_a_dropped_client_drops_its_connections(connect, tmp_path):
    closed = threading.Event()

    def watch(visit):
        visit.send(whole())
        visit.connection.recv(1)
        closed.set()

    with ScriptedServer.in_turn(watch) as server:
        client = OssClient(server.endpoint, cred_path=str(tmp_path / "credentials"))
        client.get(URI)
        del client
        gc.collect()
        assert closed.wait(100)
    assert all(thread.is_current is False for thread in engine.running())


def test_a_map_keeps_the_order_and_spreads_over_loops(connect):
    with ScriptedServer.in_turn(*[whole()] * 20) as server:
        client = connect(server)

        async def fetch(operations, number):
            download = await operations.get(OssUri("bucket", f"k{number}"))
            return number, hashlib.sha256(download.body).digest()

        results = list(client.map(fetch, range(20), concurrency=4, workers=2))
    assert [number for number, _ in results] == list(range(20))


def test_settings_that_cannot_be_are_refused_before_any_request():
    with pytest.raises(OssConfigError, match="region="):
        OssClient("https://oss.example.com")
    for endpoint in (" ", None):
        with pytest.raises(OssConfigError, match="endpoint"):
            OssClient(endpoint)


@pytest.mark.parametrize("folder", ["Users", "my_data", "a.b"])
def test_a_path_that_begins_with_no_bucket_is_refused_before_any_request(connect, folder):
    with ScriptedServer.in_turn(*[whole()] * 4) as server:
        client = connect(server)
        for use in (client.get, client.head, lambda uri: list(client.list(uri)), lambda uri: client.put(uri, b"")):
            with pytest.raises(OssConfigError, match=f"no valid bucket name in 'oss://{folder}/'"):
                use(f"/{folder}/key")
        assert server.heads == []


def list_document(*keys: str, token: str = "") -> bytes:
    entries = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>"
    return answer(f"<ListBucketResult>{truncated}{entries}{following}</ListBucketResult>".encode())


@pytest.mark.parametrize(
    ("settings", "region", "lines"),
    [({}, "", 1), ({}, "cn-test", 0), ({"signatureVersion": "v1"}, "", 0)],
    ids=["nobody chose", "by the region", "by the config"],
)
def test_signing_with_version_1_is_logged_where_nobody_chose_it(tmp_path, caplog, settings, region, lines):
    (tmp_path / "config.json").write_text(json.dumps(NO_LOGS | settings))
    caplog.set_level("INFO", "osstorchconnector")
    OssClient("http://127.0.0.1:9000", config_path=str(tmp_path / "config.json"), region=region)
    logged = [record.getMessage() for record in caplog.records if "signed with version 1" in record.getMessage()]
    assert len(logged) == lines
    assert all("http://127.0.0.1:9000" in line and "region=" in line for line in logged)


def test_a_page_that_comes_twice_is_asked_for_again(connect):
    first_page = list_document("a", "b", token="T")
    with ScriptedServer.in_turn(first_page, first_page, list_document("c")) as server:
        assert [listed.key for listed in connect(server).list("oss://bucket/")] == ["a", "b", "c"]
        assert [b"continuation-token=T" in head for head in server.heads] == [False, True, True]


def test_a_listing_that_stays_where_it_is_is_an_error(connect):
    with ScriptedServer.in_turn(*[list_document("a", token="T")] * 9) as server:
        with pytest.raises(OssProtocolError, match=r"ListObjectsV2 oss://bucket/.*backwards.*\d attempts\]"):
            list(connect(server).list("oss://bucket/"))


@pytest.mark.parametrize(
    ("document", "ask"),
    [
        (
            "<ListPartsResult>{}<NextPartNumberMarker>3</NextPartNumberMarker></ListPartsResult>",
            lambda client: client.list_parts(URI, "id"),
        ),
        (
            "<ListMultipartUploadsResult>{}<NextKeyMarker>k</NextKeyMarker></ListMultipartUploadsResult>",
            lambda client: client.list_uploads("oss://bucket/"),
        ),
    ],
)
def test_lists_of_parts_and_uploads_that_never_end_are_errors(connect, document, ask):
    with ScriptedServer.in_turn(*[answer(document.format("<IsTruncated>true</IsTruncated>").encode())] * 9) as server:
        with pytest.raises(OssProtocolError, match="circle"):
            ask(connect(server))
        assert len(server.heads) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "Fri, 14 Mar 2025 15:09:36 GMT", "Date": "Fri, 14 Mar 2025 15:09:26 GMT"}, 10.0),
        ({"x-oss-qos-delay-time": "1500", "Retry-After": "soon"}, 1.5),
        ({"Retry-After": "-5", "x-oss-qos-delay-time": "9" * 30}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_long_the_server_asks_to_wait_is_read(headers, seconds):
    head = ResponseHead(503, {name.lower(): value for name, value in headers.items()}, 0, False, True)
    assert retry_after_seconds(head) == seconds


def after_the_body(then):
    def step(visit):
        visit.read_body()
        visit.send(then) if isinstance(then, bytes) else then(visit)

    return step


@pytest.mark.parametrize("lie", [10, 5000])
def test_a_body_shorter_than_announced_is_fetched_anew_when_its_rest_does_not_exist(connect, lie):
    crc = str(crc64(BODY))
    cut = first(answer(BODY, length=len(BODY) + lie, x_oss_hash_crc64ecma=crc), close)
    refused = answer(status="416 Requested Range Not Satisfiable")
    with ScriptedServer.in_turn(cut, refused, answer(BODY, x_oss_hash_crc64ecma=crc)) as server:
        assert connect(server).get(URI).body == BODY
        assert [b"range" in head.lower() for head in server.heads] == [False, True, False]


def test_a_body_that_drips_is_asked_for_again_where_it_stopped(connect):
    def drip(visit):
        visit.send(answer(BODY, x_oss_hash_crc64ecma=str(crc64(BODY)))[: -len(BODY)] + BODY[:1])
        for number in range(1, len(BODY)):
            if not visit.server.over.wait(0.02):
                visit.send(BODY[number : number + 1])

    def rest(visit):
        start = int(visit.head.lower().split(b"range: bytes=")[1].split(b"-")[0])
        span = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        crc = str(crc64(BODY))
        visit.send(answer(BODY[start:], status="206 Partial", Content_Range=span, x_oss_hash_crc64ecma=crc))

    with ScriptedServer.in_turn(drip, rest) as server:
        assert connect(server, readTimeout=1).get(URI).body == BODY
        assert len(server.heads) == 2


def test_plain_http_that_can_be_overheard_is_warned_of_once(caplog):
    for _ in range(2):
        OssClient("http://oss-cn-once.aliyuncs.com")
    warnings = [record.getMessage() for record in caplog.records if "in the clear" in record.getMessage()]
    assert len(warnings) == 1
    assert "http://oss-cn-once.aliyuncs.com" in warnings[0]


def test_a_redirect_is_not_followed(connect):
    with ScriptedServer() as elsewhere:
        moved = answer(status="307 Temporary Redirect", Location=f"{elsewhere.endpoint}/bucket/dir/key")
        with ScriptedServer.in_turn(moved) as server:
            with pytest.raises(OssServiceError, match="307.*1 attempt"):
                connect(server).get(URI)
        assert elsewhere.heads == []
