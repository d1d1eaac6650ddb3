"""URIs: both forms are read, what is written is read back the same, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from osstorchconnector.errors import OssUriError
from osstorchconnector.uri import MAX_KEY_BYTES, OssUri, checked_key, object_paths, parse_object_uri, parse_uri

BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True)
KEYS = st.text(max_size=200).filter(lambda key: not key.startswith(("/", "\\")) and len(key.encode()) <= MAX_KEY_BYTES)
HOSTILE_KEYS = [
    "a b+c%20'\"",
    "a//b///",
    "数据/é",
    "\x01\x1f\x7f",
    "?#&=;",
    "~/../.",
    "a\nb",
    "oss://other/key",
    "*<>|",
]


@given(BUCKETS, KEYS)
@example("my-bucket", "\U0001f600/\ufeff")
def test_what_is_written_is_read_back_the_same(bucket: str, key: str) -> None:
    uri = OssUri(bucket, key)
    assert parse_uri(str(uri)) == parse_uri(uri.path) == uri


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_is_taken_as_it_stands(key: str) -> None:
    assert parse_object_uri(f"oss://bucket/{key}") == parse_object_uri(f"/bucket/{key}") == ("bucket", key)


@pytest.mark.parametrize("text", ["oss://bucket", "oss://bucket/", "/bucket", "/bucket/"])
def test_a_bucket_alone_has_an_empty_key(text: str) -> None:
    assert parse_uri(text) == OssUri("bucket", "")
    with pytest.raises(OssUriError, match=f"no object named in '{text}'"):
        parse_object_uri(text)


@pytest.mark.parametrize(
    "text",
    ["", "bucket/key", "s3://bucket/key", "OSS://bucket/key", "http://bucket/key", " oss://bucket/key", "oss:/b"],
)
def test_another_scheme_is_no_oss_uri(text: str) -> None:
    with pytest.raises(OssUriError, match="not an OSS URI.*write oss://bucket/key or /bucket/key"):
        parse_uri(text)


@pytest.mark.parametrize("value", [None, b"oss://bucket/key", 7, ("bucket", "key")])
def test_what_is_no_text_is_no_oss_uri(value: Any) -> None:
    with pytest.raises(OssUriError, match=f"is a {type(value).__name__}, not a string"):
        parse_uri(value)


@pytest.mark.parametrize(
    "bucket", ["", "ab", "a" * 64, "-abc", "abc-", "Abc", "a_b", "a.b", "a b", "bücket", "abc\n", "abc:80"]
)
@pytest.mark.parametrize("form", ["oss://{}/key", "oss://{}"])
def test_a_bucket_that_oss_would_not_have_is_refused(form: str, bucket: str) -> None:
    with pytest.raises(OssUriError, match="no valid bucket name"):
        parse_uri(form.format(bucket))


@pytest.mark.parametrize("folder", ["ab", "Users", "my_data", "a.b", "a" * 64])
def test_a_path_may_begin_with_a_folder_that_is_no_bucket(folder: str) -> None:
    assert parse_uri(f"/{folder}/a/b") == (folder, "a/b")


@pytest.mark.parametrize("folder", ["", ".", "..", "-abc", "a b", "bücket", "abc\n", "abc:80", "a@b"])
def test_a_path_begins_with_the_name_of_a_folder(folder: str) -> None:
    with pytest.raises(OssUriError):
        parse_uri(f"/{folder}/key")


@pytest.mark.parametrize("form", ["oss://{}bucket/key", "/{}bucket/key", "oss://{}bucket"])
@pytest.mark.parametrize("user", ["user:hunter2@", "hunter2@", "user:hunter2@there@"])
def test_a_password_in_a_uri_is_refused_and_not_repeated(form: str, user: str) -> None:
    with pytest.raises(OssUriError, match=r"user or password .*@bucket") as refused:
        parse_uri(form.format(user))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("bucket", ["abc", "a-b", "0-9", "a" * 63, "a--b"])
def test_a_bucket_that_oss_would_have_is_accepted(bucket: str) -> None:
    assert parse_uri(f"oss://{bucket}/k").bucket == bucket


@pytest.mark.parametrize("key", ["k" * 1023, "é" * 511, "\U0001f600" * 255])
def test_the_longest_keys_are_accepted_and_one_byte_more_is_not(key: str) -> None:
    assert parse_uri(f"oss://bucket/{key}").key == key
    with pytest.raises(OssUriError, match="bytes; OSS allows 1023"):
        parse_uri(f"oss://bucket/{key}{'k' * (1024 - len(key.encode()))}")


@pytest.mark.parametrize("key", ["/a", "//", "\\a"])
def test_a_key_that_begins_with_a_slash_is_refused(key: str) -> None:
    with pytest.raises(OssUriError, match="starts with"):
        parse_uri(f"oss://bucket/{key}")


def test_a_key_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(OssUriError, match="not valid Unicode"):
        checked_key("a\udc80", "line 3 of the manifest")


@given(st.text() | st.text().map(lambda rest: f"oss://{rest}"))
def test_any_text_is_a_uri_that_reads_back_or_an_error(text: str) -> None:
    try:
        uri = parse_uri(text)
    except OssUriError as error:
        uri = None
        assert repr(text) in str(error) or "@" in text  # noqa: PT017
    assert uri is None or parse_uri(str(uri)) == uri


def one_by_one(texts: list[Any]) -> list[str]:
    """Return the paths that a URI by itself would have, and the error of the first that has none."""
    found = []
    for text in texts:
        try:
            found.append(parse_object_uri(text).path[1:])
        except OssUriError as error:
            return [*found, str(error)]
    return found


def all_at_once(texts: list[Any]) -> list[str]:
    found = []
    try:
        for path in object_paths(texts):
            found.append(path)  # noqa: PERF402 - those before an error count, too
    except OssUriError as error:
        return [*found, str(error)]
    return found


ODD_TEXTS = [
    *(f"oss://bucket/{key}" for key in [*HOSTILE_KEYS, "", "/a", "\\a", "\ud800", "k" * 1023, "k" * 1024, "é" * 512]),
    *("/bucket/key", "/My_Folder/key", "oss://bucket", "oss://bucket2/key", "oss://B/key", "bucket/key", "", None),
]


@given(st.lists(st.sampled_from(["oss://bucket/a", "oss://bucket/b/c", *ODD_TEXTS]), max_size=6))
@example(["oss://bucket/a", "oss://bucket/b", "oss://bucket/"])
@example(["/My_Folder/a", "oss://My_Folder/a"])
def test_a_list_of_uris_reads_as_each_by_itself(texts: list[Any]) -> None:
    assert all_at_once(texts) == one_by_one(texts)
