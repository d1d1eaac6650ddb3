"""What a person sees of datasets, in a line and in a notebook."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    ObjectInfo,
    OssIterableDataset,
    OssMapDataset,
    OssUri,
    ResumableSampler,
    imagenet_manifest_parser,
)
from osstorchconnector.datasets import object_dataset
from osstorchconnector.datasets.shown import MAX_PICTURE_BYTES, Facts, line, page, pictures_of
from osstorchconnector.testing import OssBucket

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script>.png"


class Tags(HTMLParser):
    """The tags of a page, and its text, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def put(bucket: OssBucket, count: int) -> str:
    for number in range(count):
        bucket.put(f"train/{'cat' if number % 2 else 'ant'}/{number:04}.png", PNG)
    return f"{bucket.uri}train/"


def requests(bucket: OssBucket) -> dict[str, int]:
    return {name: count for name, count in bucket.server.counters().requests.items() if count}


def test_a_line_tells_what_is_known_and_asks_for_nothing(oss_bucket: OssBucket) -> None:
    uri = put(oss_bucket, 12)
    dataset = OssMapDataset.from_prefix(uri, **oss_bucket.options, labels="folders")
    assert repr(dataset) == f"<OssMapDataset {uri}, not listed yet>"
    assert dataset._repr_html_() == f"<div><b>OssMapDataset</b> {uri}: not listed yet</div>"
    assert requests(oss_bucket) == {}
    assert len(dataset) == 12
    assert repr(dataset) == f"<OssMapDataset {uri}, 12 objects>"
    assert dataset.classes == ["ant", "cat"]
    assert repr(dataset) == f"<OssMapDataset {uri}, 12 objects in 2 classes>"
    assert requests(oss_bucket) == {"ListObjectsV2": 1}


def test_a_stream_also_tells_where_it_stands(oss_bucket: OssBucket) -> None:
    uri = put(oss_bucket, 3)
    dataset = OssIterableDataset.from_prefix(uri, **oss_bucket.options, shuffle=True, seed=7)
    assert repr(dataset) == f"<OssIterableDataset {uri}, not listed yet, shuffled by seed 7>"
    dataset.set_epoch(2)
    items = iter(dataset)
    next(items)
    assert repr(dataset) == (f"<OssIterableDataset {uri}, 3 objects, shuffled by seed 7, epoch 2, 1 object given out>")


def test_every_source_has_a_name(oss_bucket: OssBucket, tmp_path: Path) -> None:
    uri, access = put(oss_bucket, 1), oss_bucket.options
    manifest = tmp_path / "manifest"
    manifest.write_text("train/ant/0000.png\n")
    several = OssMapDataset.from_prefix([uri, uri], **access)
    of_names = OssMapDataset.from_objects([f"{uri}ant/0000.png"], **access)
    of_manifest = OssMapDataset.from_manifest_file(manifest, imagenet_manifest_parser, oss_bucket.uri, **access)
    of_names.save_index(tmp_path / "index")
    of_index = OssMapDataset.from_index(tmp_path / "index", **access)
    of_tar = OssMapDataset.from_tar(f"{oss_bucket.uri}a.tar", None, **access)
    assert repr(several) == f"<OssMapDataset 2 prefixes, {uri} ..., not listed yet>"
    assert repr(of_names) == "<OssMapDataset named objects, 1 object>"
    assert repr(of_manifest) == f"<OssMapDataset {manifest}, not listed yet>"
    assert repr(of_index) == f"<OssMapDataset {tmp_path / 'index'}, not listed yet>"
    assert repr(of_tar) == f"<OssMapDataset {oss_bucket.uri}a.tar, not listed yet>"


def test_a_listing_that_is_under_way_tells_how_far_it_is() -> None:
    assert (
        line(Facts("Kind", "oss://b/", 1000, False, None, ["epoch 1"]))
        == "<Kind oss://b/, 1,000 objects so far, epoch 1>"
    )
    assert "\x1b" not in line(Facts("Kind", "oss://b/\x1b[31m", 0, True, None, []))


def test_a_sampler_tells_where_it_stands() -> None:
    sampler = ResumableSampler(1000, seed=3)
    next(iter(sampler))
    assert repr(sampler) == "<ResumableSampler of 1,000 numbers, epoch 0, shuffled by seed 3, 1 given out>"


def test_a_notebook_shows_the_first_rows_with_pictures(oss_bucket: OssBucket) -> None:
    uri = put(oss_bucket, 20)
    oss_bucket.put("train/ant/0000.png", b"no picture, whatever its name says")
    dataset = OssMapDataset.from_prefix(uri, **oss_bucket.options, labels="folders")
    assert len(dataset) == 20
    shown = dataset._repr_html_()
    assert Tags(shown).tags.count("tr") == 9
    assert Tags(shown).tags.count("img") == 7
    assert "and 12 more objects" in shown
    assert base64.b64encode(PNG).decode() in shown
    assert requests(oss_bucket) == {"ListObjectsV2": 1, "GetObject": 8}


def test_pictures_that_do_not_come_are_left_out(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = put(oss_bucket, 4)
    dataset = OssMapDataset.from_prefix(uri, **oss_bucket.options)
    assert len(dataset) == 4
    oss_bucket.server.fail("GetObject", "AccessDenied", times=1)
    assert Tags(dataset._repr_html_()).tags.count("img") == 3
    oss_bucket.server.fail("GetObject", "latency", seconds=60)
    monkeypatch.setattr(object_dataset, "PICTURE_SECONDS", 0.05)
    assert Tags(dataset._repr_html_()).tags.count("img") == 0


def test_names_of_others_are_no_markup() -> None:
    row = ObjectInfo(OssUri("b", HOSTILE), 3, '"><img src=x onerror=alert(1)>')
    shown = page(Facts("Kind", f"oss://b/{HOSTILE}", 1, True, None, [HOSTILE]), [row], {0: b"<svg onload=alert(1)>"})
    tags = Tags(shown)
    assert set(tags.tags) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert HOSTILE in tags.text


def test_pictures_are_few_and_small() -> None:
    sizes = [None, 100, MAX_PICTURE_BYTES + 1, *[MAX_PICTURE_BYTES] * 5]
    rows = [ObjectInfo(OssUri("b", f"{number}.JPG"), size) for number, size in enumerate(sizes)]
    rows.append(ObjectInfo(OssUri("b", "x.txt"), 1))
    assert [row.uri.key for row in pictures_of(rows)] == ["1.JPG", "3.JPG", "4.JPG", "5.JPG"]


@pytest.mark.parametrize(("magic", "kind"), [(PNG, "png"), (b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF89a", "gif")])
def test_a_picture_is_what_its_bytes_say(magic: bytes, kind: str) -> None:
    row = ObjectInfo(OssUri("b", "x.png"), len(magic))
    shown = page(Facts("Kind", "oss://b/", 1, True, None, []), [row], {0: magic})
    assert re.findall(r'src="data:image/(\w+);', shown) == [kind]
