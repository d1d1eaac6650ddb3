from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data.datapipes.iter import IterableWrapper

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes.manifest import (
    ManifestListing,
    OssManifestParser,
    imagenet_manifest_parser,
    jsonl_manifest_parser,
)
from osstorchconnector.errors import OssConfigError, OssManifestError, OssNotFoundError, OssUriError
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.testing import OssBucket

BASE = "oss://bucket/base/"


@pytest.fixture(scope="module")
def client() -> OssClient:
    return OssClient("http://127.0.0.1:9")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "manifest"
    path.write_text("a\tone\nb\ttwo\n")
    return path


def yielding(*entries: Any) -> Callable[[io.IOBase], Iterator[Any]]:
    def parser(reader: io.IOBase) -> Iterator[Any]:
        yield from entries

    return parser


def rows(parser: OssManifestParser) -> list[tuple[str, Any]]:
    return [(str(info.uri), info.label) for info in parser]


def test_it_yields_uri_and_label_of_each_entry(client: OssClient, path: Path) -> None:
    parser = OssManifestParser(path, imagenet_manifest_parser, BASE, client)
    for same in (parser, parser, pickle.loads(pickle.dumps(parser))):
        assert rows(same) == [("oss://bucket/base/a", "one"), ("oss://bucket/base/b", "two")]


def test_the_parser_gets_a_binary_file(client: OssClient, path: Path) -> None:
    def parser(reader: io.IOBase) -> list[tuple[str, str]]:
        assert isinstance(reader, io.IOBase)
        assert not reader.closed
        return [(line.split(b"\t")[0].decode(), "") for line in reader]

    assert rows(OssManifestParser(str(path), parser, BASE, client)) == [(BASE + "a", ""), (BASE + "b", "")]


@pytest.mark.parametrize(
    ("base", "key", "uri"),
    [
        ("oss://bucket/base/", "key", "oss://bucket/base/key"),
        ("oss://bucket/base", "key", "oss://bucket/basekey"),
        ("/bucket/base/", "key", "oss://bucket/base/key"),
        ("oss://bucket/", "a//b c%20", "oss://bucket/a//b c%20"),
        ("oss://bucket", "/key", "oss://bucket/key"),
        ("oss://", "bucket/key", "oss://bucket/key"),
        ("/", "bucket/key", "oss://bucket/key"),
        ("", "oss://bucket/key", "oss://bucket/key"),
        ("", "/bucket/key", "oss://bucket/key"),
    ],
)
def test_the_uri_is_base_and_key_one_after_the_other(
    client: OssClient, path: Path, base: str, key: str, uri: str
) -> None:
    assert rows(OssManifestParser(path, yielding((key, "label")), base, client)) == [(uri, "label")]


@pytest.mark.parametrize("base", ["bucket/", "o", "oss:bucket", "oss:///a", "oss://B/", "oss://bucket//a", 7, None])
def test_a_wrong_base_is_refused_at_once(client: OssClient, path: Path, base: Any) -> None:
    with pytest.raises(OssUriError):
        OssManifestParser(path, imagenet_manifest_parser, base, client)


def test_what_a_parser_may_yield(client: OssClient, path: Path) -> None:
    labels = ["label", 3, None, {"x": [1, 2]}]
    parser = yielding("key", ["key", "label"], *(("key", label) for label in labels[1:]))
    assert [label for _, label in rows(OssManifestParser(path, parser, BASE, client))] == ["", *labels]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("", "the key is empty"),
        (("", "label"), "the key is empty"),
        ((b"key", "label"), "not a string: b'key'"),
        ((None, "label"), "not a string: None"),
        (b"key", "yielded b'key', not"),
        (None, "yielded None, not"),
        (("key",), "yielded \\('key',\\), not"),
        (("key", "label", "more"), "not \\(key, label\\)"),
        (("\\key" + "y" * 2000, ""), "OSS allows 1023"),
        (("\udc80", ""), "not valid Unicode"),
    ],
)
def test_an_entry_that_names_no_object_is_an_error_with_its_number(
    client: OssClient, path: Path, entry: Any, reason: str
) -> None:
    infos = iter(OssManifestParser(path, yielding(*["good"] * 1500, entry, "good"), BASE, client))
    assert [next(infos).uri.key for _ in range(1000)] == ["base/good"] * 1000
    with pytest.raises(OssManifestError, match=f"manifest {path}, entry 1501: .*{reason}"):
        list(infos)


@pytest.mark.parametrize("key", ["k" * 2000, "\\udc80", "/absolute"])
def test_a_key_that_our_parsers_read_and_oss_does_not_allow_is_named_by_its_line(
    client: OssClient, path: Path, key: str
) -> None:
    path.write_text(f'{{"key": "good"}}\n\n\n{{"key": "{key}"}}\n')
    with pytest.raises(OssManifestError, match=f"{path}, line 4: the key in "):
        list(OssManifestParser(path, jsonl_manifest_parser, "oss://bucket/", client))
    path.write_text("good\n\n/absolute\tlabel\n")
    with pytest.raises(OssManifestError, match=f"{path}, line 3: the key in '/absolute' starts with '/'"):
        list(OssManifestParser(path, imagenet_manifest_parser, "oss://bucket/", client))


@pytest.mark.parametrize("manifests", [None, 7, b"path", b"", [None], [b"path"], ["good", 7]])
def test_what_is_no_path_of_a_manifest_is_refused_at_once(client: OssClient, manifests: Any) -> None:
    with pytest.raises(OssConfigError, match="manifest_file_path: .* is no path"):
        OssManifestParser(manifests, imagenet_manifest_parser, BASE, client)
    with pytest.raises(OssConfigError, match="manifest_file_path: .* is no path"):
        list(OssManifestParser(IterableWrapper([manifests]), imagenet_manifest_parser, BASE, client))


@pytest.mark.parametrize("returned", [None, 7, "key", b"key"])
def test_a_parser_that_returns_nonsense_is_an_error(client: OssClient, path: Path, returned: Any) -> None:
    with pytest.raises(OssManifestError, match=f"manifest {path}: the parser failed .*{type(returned).__name__}"):
        list(OssManifestParser(path, lambda reader: returned, BASE, client))


def test_a_parser_that_raises_is_an_error_with_its_cause(client: OssClient, path: Path) -> None:
    def parser(reader: io.IOBase) -> Iterator[tuple[str, str]]:
        yield "key", ""
        raise KeyError("column")

    with pytest.raises(OssManifestError, match=f"manifest {path}: the parser failed after entry 1: KeyError") as caught:
        list(OssManifestParser(path, parser, BASE, client))
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_manifest_that_is_not_there_is_named(client: OssClient, tmp_path: Path) -> None:
    with pytest.raises(OssManifestError, match="absent can't be opened: No such file"):
        list(OssManifestParser(tmp_path / "absent", imagenet_manifest_parser, BASE, client))
    with pytest.raises(OssManifestError, match="Is a directory"):
        list(OssManifestParser(tmp_path, imagenet_manifest_parser, BASE, client))


def test_a_manifest_that_is_not_in_oss_is_a_missing_object(oss_bucket: OssBucket) -> None:
    parser = OssManifestParser(oss_bucket.uri + "absent", imagenet_manifest_parser, BASE, **oss_bucket.options)
    with pytest.raises(OssNotFoundError, match="absent"):
        list(parser)


def test_a_wrong_line_of_a_manifest_in_oss_is_named_by_uri(oss_bucket: OssBucket) -> None:
    uri = oss_bucket.put("manifest", b'{"key": "a"}\nnonsense\n')
    with pytest.raises(OssManifestError, match=f"{uri}, line 2: not JSON"):
        list(OssManifestParser(uri, jsonl_manifest_parser, BASE, **oss_bucket.options))


@pytest.mark.parametrize("parser", [imagenet_manifest_parser, jsonl_manifest_parser, yielding()])
def test_a_manifest_that_names_nothing_is_told(
    client: OssClient, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, parser: Any
) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_text("\n\n")
    assert rows(OssManifestParser([str(nothing)], parser, BASE, client)) == []
    assert caplog.messages == [f"the manifest {nothing} names no object"]
    caplog.clear()
    assert len(rows(OssManifestParser([str(path)], imagenet_manifest_parser, BASE, client))) == 2
    assert caplog.messages == []


def test_a_malformed_manifest_uri_is_refused_at_once(client: OssClient) -> None:
    with pytest.raises(OssUriError):
        OssManifestParser("oss://bucket/", imagenet_manifest_parser, BASE, client)


def test_a_parser_that_can_not_be_called_is_refused_at_once(client: OssClient) -> None:
    with pytest.raises(OssConfigError, match="manifest_parser"):
        OssManifestParser(IterableWrapper([]), "imagenet", BASE, client)  # type: ignore[arg-type]


def test_manifests_may_come_through_a_pipe(client: OssClient, path: Path) -> None:
    pipe = IterableWrapper([str(path), str(path)]).parse_oss_manifest(imagenet_manifest_parser, BASE, client)
    for _ in range(2):
        assert [info.label for info in pipe] == ["one", "two"] * 2


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2100), min_size=1, max_size=3))
def test_parsing_goes_on_after_any_batch(tmp_path_factory: pytest.TempPathFactory, counts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    for number, count in enumerate(counts):
        (folder / str(number)).write_text("".join(f"{number}-{line}\n" for line in range(count)))
    paths = tuple(str(folder / str(number)) for number in range(len(counts)))
    listing = ManifestListing(OssClient("http://127.0.0.1:9"), paths, imagenet_manifest_parser, BASE)
    batches = list(listing.batches(b""))
    everything = [f"base/{number}-{line}" for number, count in enumerate(counts) for line in range(count)]
    assert [info.uri.key for info in FixedIndex(batches).items()] == everything
    done = 0
    for batch in batches:
        done += len(batch.tails)
        rest = [info.uri.key for info in FixedIndex(listing.batches(batch.cursor)).items()]
        assert rest == everything[done:]
