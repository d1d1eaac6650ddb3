"""Members of tars as samples of both datasets: the right bytes, the requests that bring them, positions and errors."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from loaders import StatefulDataLoader
from tar.conftest import PutTar, index_of_bytes, tar_of
from tar.cxx_connector.recipe import FOLDER, TARS
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssObjectChangedError,
    OssTarError,
    ResumableSampler,
    merge_states,
)
from osstorchconnector.datapipes import OssTarLister
from osstorchconnector.errors import OssConfigError, OssTransformError, OssUriError, OssUsageError
from osstorchconnector.testing import OssBucket

COUNT = 300
FILES = {f"part/{number:04}.txt": b"%d " % number * (number % 7 * 100) for number in range(COUNT)}
TAR = tar_of(FILES)
INDEXES = ["", "plain", "full"]


def name_and_bytes(data: DataObject) -> tuple[str, bytes]:
    return data.key, data.read()


def iterable(bucket: OssBucket, uri: Any, index: Any = None, **options: Any) -> OssIterableDataset:
    options = {"transform": name_and_bytes, **options}
    return OssIterableDataset.from_tar(uri, index, **bucket.options, **options)


def mapped(bucket: OssBucket, uri: Any, index: Any = None, **options: Any) -> OssMapDataset:
    options = {"transform": name_and_bytes, **options}
    return OssMapDataset.from_tar(uri, index, **bucket.options, **options)


def _as_it_is(item: Any) -> Any:
    return item


def ranges(bucket: OssBucket, key: str) -> list[tuple[int, int]]:
    """Return the ranges of a tar that were asked for since the counters were reset, in their order."""
    log = bucket.server.counters().log
    asked = [entry.range for entry in log if entry.operation == "GetObject" and entry.key == key]
    return [tuple(map(int, range_.removeprefix("bytes=").split("-"))) for range_ in asked]  # type: ignore[misc]


# --- which members there are, and their bytes


@pytest.mark.parametrize("index", INDEXES)
def test_members_come_in_order_with_name_number_and_size(oss_bucket: OssBucket, put_tar: PutTar, index: str) -> None:
    uri = put_tar("a.tar", TAR, index)
    for dataset in (iterable(oss_bucket, uri, transform=_facts), mapped(oss_bucket, uri, transform=_facts)):
        facts = list(dataset)
        assert [fact["key"] for fact in facts] == list(FILES)
        assert [fact["label"] for fact in facts] == [str(number) for number in range(COUNT)]
        assert [fact["size"] for fact in facts] == [len(data) for data in FILES.values()]
        assert [fact["bytes"] for fact in facts] == list(FILES.values())
        assert facts[3]["uri"] == f"{uri}!/part/0003.txt"
        assert facts[3]["bucket"] == oss_bucket.name
        assert facts[3]["etag"]


def _facts(data: DataObject) -> dict[str, Any]:
    names = ("key", "name", "label", "size", "uri", "bucket", "etag")
    return {**{name: getattr(data, name) for name in names}, "bytes": data.read()}


@pytest.mark.parametrize("name", [name for name in TARS if name != "nothing"])
@pytest.mark.parametrize("index", ["", "held", "full"])
def test_every_kind_of_tar(oss_bucket: OssBucket, put_tar: PutTar, name: str, index: str) -> None:
    tar = TARS[name]()
    uri = put_tar("a.tar", tar, "full" if index == "full" else "")
    if index == "held":
        oss_bucket.put("a.tar.idx", Path(FOLDER, f"{name}.idx").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(tar)) as local:
        want = [(member.name, local.extractfile(member).read()) for member in local if member.isreg()]  # type: ignore[union-attr]
    assert list(iterable(oss_bucket, uri)) == want
    assert mapped(oss_bucket, uri)[list(range(len(want)))] == want


def test_a_tar_that_the_cxx_connector_packed(oss_bucket: OssBucket, put_tar: PutTar, tmp_path: Path) -> None:
    tar = (FOLDER / "generated.tar").read_bytes()
    uri = put_tar("b.tar", tar)
    oss_bucket.put("elsewhere.idx", (FOLDER / "generated.idx").read_bytes())
    from_oss = list(iterable(oss_bucket, uri, oss_bucket.uri + "elsewhere.idx"))
    assert from_oss == list(iterable(oss_bucket, uri, FOLDER / "generated.idx"))
    assert from_oss == list(mapped(oss_bucket, [uri], [str(FOLDER / "generated.idx")]))
    assert {Path(name).name: len(data) for name, data in from_oss}["3.bin"] == 900


def test_several_tars_and_a_folder_of_them(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    first = put_tar("t/a.tar", tar_of({"a": b"1", "b": b"2"}), "plain")
    second = put_tar("t/b.tar", tar_of({"c": b"3"}))
    oss_bucket.put("other.idx", index_of_bytes(oss_bucket.get("t/b.tar")))
    want = [("a", b"1"), ("b", b"2"), ("c", b"3")]
    folder = oss_bucket.uri + "t/"
    other = oss_bucket.uri + "other.idx"
    for tars, indexes in [
        (folder, None),
        ([folder], None),
        ([first, second], None),
        ([first, second], [None, other]),
        ([(first, None), (second, other)], None),
    ]:
        assert list(iterable(oss_bucket, tars, indexes)) == want
        assert list(mapped(oss_bucket, tars, indexes)) == want


@pytest.mark.parametrize(
    ("tars", "indexes", "kind"),
    [
        ([], None, OssConfigError),
        ([1], None, OssConfigError),
        ("oss://bucket/a.tar", ["a", "b"], OssConfigError),
        (["oss://bucket/a.tar"], "one.idx", OssConfigError),
        (["oss://bucket/a.tar"], ["a", "b"], OssConfigError),
        ([("oss://bucket/a.tar", 3)], None, OssConfigError),
        ([("oss://bucket/a.tar", "a", "b")], None, OssConfigError),
        ("oss://bucket/a/", "a.idx", OssConfigError),
        ("a.tar", None, OssUriError),
        ("oss://bucket/a.tar", "oss://bucket/", OssUriError),
    ],
)
def test_wrong_arguments(oss_bucket: OssBucket, tars: Any, indexes: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        iterable(oss_bucket, tars, indexes)
    with pytest.raises(OssConfigError, match="group_by"):
        iterable(oss_bucket, "oss://bucket/a.tar", group_by="name")


@pytest.mark.parametrize("index", INDEXES)
def test_a_filter_sees_names_and_sizes(oss_bucket: OssBucket, put_tar: PutTar, index: str) -> None:
    long = "n" * 3000
    uri = put_tar("a.tar", tar_of({**FILES, long + ".jpg": b"long", "b.jpg": b""}), index)
    assert list(iterable(oss_bucket, uri, filter=".jpg")) == [(long + ".jpg", b"long"), ("b.jpg", b"")]
    assert list(mapped(oss_bucket, uri, filter=range(4, 5))) == [(long + ".jpg", b"long")]


def test_an_index_is_kept_beside_the_tar_if_that_is_asked(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR)
    assert len(list(iterable(oss_bucket, uri, keep_index=True))) == COUNT
    oss_bucket.server.reset_counters()
    assert [name for name, _ in iterable(oss_bucket, uri)] == list(FILES)
    assert len(ranges(oss_bucket, "a.tar")) == 1


def test_an_index_that_cannot_be_kept_is_only_logged(
    oss_bucket: OssBucket, put_tar: PutTar, caplog: pytest.LogCaptureFixture
) -> None:
    uri = put_tar("a.tar", TAR)
    oss_bucket.server.fail("PutObject", "AccessDenied")
    assert len(list(iterable(oss_bucket, uri, keep_index=True))) == COUNT
    assert "could not be kept" in caplog.text


def test_a_tar_of_no_members_is_an_empty_dataset(
    oss_bucket: OssBucket, put_tar: PutTar, caplog: pytest.LogCaptureFixture
) -> None:
    uri = put_tar("a.tar", TARS["nothing"]())
    oss_bucket.put("a.tar.idx", Path(FOLDER, "nothing.idx").read_bytes())
    assert list(iterable(oss_bucket, uri)) == []
    assert "has no member" in caplog.text


# --- ranges


@pytest.mark.parametrize("index", ["plain", "full"])
def test_neighbours_come_by_one_range(oss_bucket: OssBucket, put_tar: PutTar, index: str) -> None:
    uri = put_tar("a.tar", TAR, index)
    dataset = mapped(oss_bucket, uri)
    assert len(dataset) == COUNT
    assert dataset.is_continuous([4, 5, 6]) and not dataset.is_continuous([4, 6])
    oss_bucket.server.reset_counters()
    numbers = [7, 5, 6, 6, 4, 200, 201]
    assert dataset[numbers] == [list(FILES.items())[number] for number in numbers]
    asked = ranges(oss_bucket, "a.tar")
    assert len(asked) == 1 if max(stop for _, stop in asked) - min(start for start, _ in asked) < 1 << 16 else 2


def test_members_far_apart_come_by_ranges_of_their_own(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    files = {f"{number}": bytes([number]) * 200_000 for number in range(8)}
    uri = put_tar("a.tar", tar_of(files), "full")
    dataset = mapped(oss_bucket, uri)
    len(dataset)
    oss_bucket.server.reset_counters()
    assert dataset[[7, 0, 1]] == [(str(number), files[str(number)]) for number in (7, 0, 1)]
    assert sorted(stop - start + 1 for start, stop in ranges(oss_bucket, "a.tar")) == [200_704, 2 * 200_704]
    assert dataset[3] == ("3", files["3"])
    assert dataset[-1] == ("7", files["7"])


def test_a_large_member_is_read_as_it_is_asked_for(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    large = random.Random(1).randbytes(20 << 20)
    uri = put_tar("a.tar", tar_of({"a": b"x", "large": large, "b": b"y"}), "full")
    data = next(itertools.islice(iterable(oss_bucket, uri, transform=lambda data: data), 1, None))
    assert data.size == len(large)
    copies = [data, data.copy(), pickle.loads(pickle.dumps(data))]
    for copy in copies:
        assert copy.read(10) == large[:10]
        assert copy.seek(-5, io.SEEK_END) == len(large) - 5
        assert copy.peek(9)[:5] == large[-5:]
        assert copy.read1(100) == large[-5:]
        assert copy.read() == copy.read1() == copy.peek() == b""
        assert copy.seek(0) == 0
        buffer = bytearray(len(large) + 100)
        assert copy.readinto(buffer) == len(large)
        assert buffer[: len(large)] == large
        assert copy.tell() == len(large)
        copy.seek(17 << 20)
        assert copy.readline(50) == io.BytesIO(large[17 << 20 :]).readline(50)
        copy.seek(1 << 20)
        part = bytearray(1000)
        assert part[: copy.readinto1(part)] == large[1 << 20 :][:1000]
        copy.seek(len(large))
        with pytest.raises(TypeError, match="contiguous"):
            copy.readinto(memoryview(bytearray(20))[::2])
        assert copy.readable() and copy.seekable()
        with copy:
            copy.seek(0)
        assert copy.closed
        with pytest.raises(ValueError, match="closed file"):
            copy.read()
    assert list(iterable(oss_bucket, uri))[2] == ("b", b"y")


# --- order and positions


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 40}])
@pytest.mark.parametrize("stop", [0, 1, 55, COUNT])
def test_an_epoch_goes_on_where_it_was_left(
    oss_bucket: OssBucket, put_tar: PutTar, options: dict[str, Any], stop: int
) -> None:
    uri = put_tar("a.tar", TAR, "full")
    dataset = iterable(oss_bucket, uri, **options)
    whole = list(dataset)
    assert sorted(whole) == sorted(FILES.items())
    items = iter(dataset)
    before = list(itertools.islice(items, stop))
    later = iterable(oss_bucket, uri, **options)
    later.load_state_dict(json.loads(json.dumps(dataset.state_dict())))
    assert before + list(later) == whole


def test_chunks_are_shuffled_and_their_members_too(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR, "full")
    dataset = iterable(oss_bucket, uri, shuffle="chunks", shuffle_chunk_size=50)
    orders = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        order = [int(name[5:9]) for name, _ in dataset]
        assert sorted(order) == list(range(COUNT))
        orders.append(order)
        for first in range(0, COUNT, 50):
            chunk = sorted((number - order[first]) % COUNT for number in order[first : first + 50])
            spread = [(after - before) % COUNT for before, after in itertools.pairwise([*chunk, chunk[0]])]
            assert sorted(spread)[:-1] == [1] * 49  # neighbours, on a ring
            assert order[first : first + 50] != sorted(order[first : first + 50])
    assert orders[0] != orders[1] != orders[2]
    dataset.shuffle()
    assert dataset.epoch == 3
    import torch

    dataset.shuffle(torch.Generator().manual_seed(5))
    assert dataset.epoch > 3
    with pytest.raises(OssUsageError, match="in order"):
        iterable(oss_bucket, uri).shuffle()
    with pytest.raises(OssConfigError, match="shuffle_chunk_size"):
        iterable(oss_bucket, uri, shuffle="chunks", shuffle_chunk_size=0)
    with pytest.raises(OssConfigError, match="shuffle: 'all'"):
        iterable(oss_bucket, uri, shuffle="all")


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 17}])
def test_workers_share_the_members(
    oss_bucket: OssBucket, put_tar: PutTar, workers: int, options: dict[str, Any]
) -> None:
    uri = put_tar("a.tar", TAR, "plain")
    dataset = iterable(oss_bucket, uri, **options)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    assert sorted(loader) == sorted(FILES.items())


def test_workers_fetch_neighbours_together(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    files = {f"{number:03}": b"x" * 70_000 for number in range(256)}
    uri = put_tar("a.tar", tar_of(files), "full")
    oss_bucket.server.reset_counters()
    loader = DataLoader(iterable(oss_bucket, uri), batch_size=None, num_workers=2, collate_fn=_as_it_is)
    assert sorted(name for name, _ in loader) == list(files)
    assert len(ranges(oss_bucket, "a.tar")) <= 8


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 17}])
def test_an_epoch_goes_on_with_another_number_of_workers(
    oss_bucket: OssBucket, put_tar: PutTar, options: dict[str, Any]
) -> None:
    uri = put_tar("a.tar", TAR, "full")
    seen = []
    state: dict[str, Any] | None = None
    for workers, steps in ((3, 100), (2, 70), (4, COUNT)):
        dataset = iterable(oss_bucket, uri, **options)
        if state is not None:
            dataset.load_state_dict(state)
        loader = StatefulDataLoader(
            dataset, batch_size=None, num_workers=workers, collate_fn=_as_it_is, snapshot_every_n_steps=1
        )
        seen += list(itertools.islice(loader, steps)) if steps < COUNT else list(loader)
        if steps < COUNT:
            state = merge_states([loader.state_dict()])
    assert sorted(seen) == sorted(FILES.items())


def test_a_sampler_and_a_saved_index(oss_bucket: OssBucket, put_tar: PutTar, tmp_path: Path) -> None:
    uri = put_tar("a.tar", TAR, "plain")
    dataset = mapped(oss_bucket, uri)
    loader = DataLoader(dataset, batch_size=16, sampler=ResumableSampler(dataset, shard_ranks=False), collate_fn=list)
    assert sorted(itertools.chain(*loader)) == sorted(FILES.items())
    dataset.save_index(tmp_path / "saved")
    saved = OssMapDataset.from_index(tmp_path / "saved", **oss_bucket.options, transform=name_and_bytes)
    assert list(saved) == list(FILES.items())
    put_tar("a.tar", tar_of(dict(reversed(FILES.items()))))
    with pytest.raises(OssObjectChangedError):
        list(saved)


def test_pipes_and_their_datasets(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR, "full")
    lister = OssTarLister(uri, **oss_bucket.options)
    assert lister.bucket == oss_bucket.name
    client = OssMapDataset.from_tar(uri, None, **oss_bucket.options)._client
    pipe = lister.shuffle_oss_objects(seed=3, chunk_rows=20).shard_oss_objects()
    graph = pipe.fetch_oss_objects(client, transform=name_and_bytes)
    assert sorted(graph) == sorted(FILES.items())
    dataset = graph.to_dataset()
    whole = list(dataset)
    items = iter(dataset)
    before = list(itertools.islice(items, 33))
    later = graph.to_dataset()
    later.load_state_dict(dataset.state_dict())
    assert before + list(later) == whole
    loader = DataLoader(graph.to_dataset(), batch_size=None, num_workers=2, collate_fn=_as_it_is)
    assert sorted(loader) == sorted(FILES.items())
    assert lister.index_oss_objects().fetch_oss_objects(client, transform=name_and_bytes)[[2, 1]] == [
        list(FILES.items())[2],
        list(FILES.items())[1],
    ]
    mixed = [oss_bucket.put("plain-object", b"0"), *itertools.islice(lister, 2), oss_bucket.uri + "plain-object"]
    from torch.utils.data.datapipes.iter import IterableWrapper

    both = IterableWrapper(mixed, deepcopy=False).fetch_oss_objects(client, transform=name_and_bytes)
    assert [name for name, _ in both] == [
        f"/{oss_bucket.name}/plain-object",
        "part/0000.txt",
        "part/0001.txt",
        f"/{oss_bucket.name}/plain-object",
    ]


def test_the_datapipe_of_a_dataset(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR, "full")
    dataset = iterable(oss_bucket, uri, shuffle="chunks", shuffle_chunk_size=64)
    assert list(dataset.datapipe()) == list(dataset)
    assert list(iterable(oss_bucket, uri).datapipe()) == list(FILES.items())


# --- samples


SAMPLES = {"a/1.jpg": b"j1", "a/1.cls": b"3", "a/1.seg.png": b"p", "a/2.jpg": b"j2", "other": b"o", ".x.y": b"."}


@pytest.mark.parametrize("index", INDEXES)
def test_members_of_one_basename_are_a_sample(oss_bucket: OssBucket, put_tar: PutTar, index: str) -> None:
    uri = put_tar("a.tar", tar_of(SAMPLES), index)
    dataset = iterable(oss_bucket, uri, group_by="basename", transform=_read_sample)
    want = [{"jpg": b"j1", "cls": b"3", "seg.png": b"p"}, {"jpg": b"j2"}, {"": b"o"}, {"": b"."}]
    assert list(dataset) == want
    samples = mapped(oss_bucket, uri, group_by="basename", transform=lambda sample: sample)
    assert len(samples) == 4
    assert samples[0]["jpg"].key == "a/1.jpg"
    assert [list(sample) for sample in samples[[1, 0]]] == [["jpg"], ["jpg", "cls", "seg.png"]]
    kept = iterable(oss_bucket, uri, group_by="basename", transform=_read_sample, filter="a/1")
    assert list(kept) == want[:1]


def _read_sample(sample: dict[str, DataObject]) -> dict[str, bytes]:
    return {kind: data.read() for kind, data in sample.items()}


def test_a_large_sample(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    files = {"1.bin": bytes(range(256)) * (70 << 10), "1.txt": b"behind it"}
    uri = put_tar("a.tar", tar_of(files), "full")
    (sample,) = iterable(oss_bucket, uri, group_by="basename", transform=_read_sample)
    assert sample == {"bin": files["1.bin"], "txt": b"behind it"}


def test_a_name_twice_in_a_sample_is_an_error(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", tar_of({"1.a": b"1"})[:1024] + tar_of({"1.a": b"2"}))
    with pytest.raises(OssTarError, match="stands there, and should not"):
        list(iterable(oss_bucket, uri, group_by="basename", transform=_read_sample))


# --- errors


def test_a_transform_that_fails_names_the_member(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR, "full")
    with pytest.raises(OssTransformError, match=r"a\.tar!/part/0000\.txt: ZeroDivisionError"):
        list(iterable(oss_bucket, uri, transform=lambda data: 1 // 0))
    with pytest.raises(OssTransformError, match=r"a\.tar!/part/0003\.txt"):
        mapped(oss_bucket, uri, transform=lambda data: 1 // 0)[3]


@pytest.mark.parametrize(
    ("tar", "said"),
    [
        (TAR[:-20_000], "cut off"),
        (TAR[:100], "no header at its beginning"),
        (b"\x1f\x8b" + bytes(600), "compressed by gzip"),
        (b"", "it is empty"),
        (TAR[:512] + b"\1" * 512 + TAR[1024:], "no header at byte 512"),
    ],
)
def test_what_is_no_whole_tar_is_an_error(oss_bucket: OssBucket, put_tar: PutTar, tar: bytes, said: str) -> None:
    uri = put_tar("a.tar", tar)
    with pytest.raises(OssTarError, match=said) as raised:
        list(iterable(oss_bucket, uri))
    assert "a.tar" in str(raised.value)


def test_an_index_of_another_tar_is_an_error_and_never_wrong_bytes(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    other = tar_of({f"{number}": b"o" * (number % 5 * 300) for number in range(COUNT)})
    padded = other + bytes(max(len(TAR) - len(other), 0))
    uri = put_tar("a.tar", padded[: len(TAR)])
    oss_bucket.put("a.tar.idx", index_of_bytes(TAR))
    with pytest.raises(OssTarError, match="the index is not of this tar"):
        list(iterable(oss_bucket, uri))
    with pytest.raises(OssTarError, match="the index is not of"):
        list(iterable(oss_bucket, uri, filter=".txt"))
    oss_bucket.put("a.tar.idx", index_of_bytes(TAR, "ABCD"))
    with pytest.raises(OssTarError, match="the ETag differs"):
        list(iterable(oss_bucket, uri))
    oss_bucket.put("a.tar.idx", index_of_bytes(TAR + bytes(512), "ABCD"))
    with pytest.raises(OssTarError, match="made of a tar of"):
        list(iterable(oss_bucket, uri))


def test_an_index_that_points_into_a_tar_within_the_tar_is_an_error(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    inner = tar_of({"inner": b"wrong"})
    outer = tar_of({"inner.tar": inner, "z": b"right"})
    uri = put_tar("a.tar", outer)
    whole = index_of_bytes(inner + bytes(512))
    from osstorchconnector.tar.index_file import TarIndex, pack_index

    oss_bucket.put("a.tar.idx", pack_index(TarIndex([512, 1536])))
    assert whole
    with pytest.raises(OssTarError, match="the first member begins at byte 0, not 512"):
        list(iterable(oss_bucket, uri))
    oss_bucket.put("a.tar.idx", pack_index(TarIndex([0, 512, 1536])))
    with pytest.raises(OssTarError, match="the index is not of this tar"):
        list(iterable(oss_bucket, uri))


@pytest.mark.parametrize("bounds", [[0, 1536], [0, 1024, 1536], [0, 512], [0, 2560], [0, 1024]])
def test_an_index_with_a_wrong_place_is_an_error(oss_bucket: OssBucket, put_tar: PutTar, bounds: list[int]) -> None:
    from osstorchconnector.tar.index_file import TarIndex, pack_index

    uri = put_tar("a.tar", tar_of({"a": b"1" * 600, "b": b"2"}))
    oss_bucket.put("a.tar.idx", pack_index(TarIndex(bounds)))
    for options in ({}, {"filter": bool}):
        with pytest.raises(OssTarError, match=r"the index (is not of|.* can't be used for)"):
            list(iterable(oss_bucket, uri, **options))


def test_what_is_not_there(oss_bucket: OssBucket, put_tar: PutTar, tmp_path: Path) -> None:
    uri = put_tar("a.tar", TAR)
    with pytest.raises(OssNotFoundError):
        list(iterable(oss_bucket, oss_bucket.uri + "no.tar"))
    with pytest.raises(OssNotFoundError):
        list(iterable(oss_bucket, uri, oss_bucket.uri + "no.idx"))
    with pytest.raises(OssTarError, match="can't be opened"):
        list(iterable(oss_bucket, uri, tmp_path / "no.idx"))
    with pytest.raises(OssNotFoundError, match="no object under"):
        list(iterable(oss_bucket, oss_bucket.uri + "empty/"))


def test_what_cannot_be_read_is_left_out_if_that_is_asked(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", TAR, "full")
    dataset = iterable(oss_bucket, uri, on_error="skip")
    len(dataset._objects.index.blocks())  # type: ignore[union-attr]
    oss_bucket.delete("a.tar")
    assert list(dataset) == []
    assert dataset.skipped_objects == COUNT
    with pytest.raises(OssNotFoundError):
        list(iterable_of_saved(oss_bucket, dataset))


def iterable_of_saved(bucket: OssBucket, dataset: OssIterableDataset) -> OssIterableDataset:
    dataset.save_index(bucket.uri + "saved")
    return OssIterableDataset.from_index(bucket.uri + "saved", **bucket.options, transform=name_and_bytes)
