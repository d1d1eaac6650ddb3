"""torchdata's own stages behind our pipes: they and DataLoader2 are gone from torchdata 0.10 on."""

from __future__ import annotations

import io
import tarfile
import zipfile
from operator import attrgetter

import pytest
import torchdata.datapipes.iter  # noqa: F401 (registers the stages)

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.errors import OssUsageError
from osstorchconnector.testing import OssBucket

KEYS = [f"a/{number:02}" for number in range(24)]
NAME = attrgetter("name")


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(**bucket.options)


def test_torchdatas_stages_chain_behind_ours(bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(bucket.uri + "a/", client).shard_oss_objects().fetch_oss_objects(client).map(NAME)
    assert list(pipe.cycle(2)) == KEYS * 2
    ahead = pipe.prefetch(4)
    assert list(ahead) == KEYS
    ahead.shutdown()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_in_oss_are_opened_by_torchdatas_readers(bucket: OssBucket, client: OssClient, kind: str) -> None:
    for number in range(2):
        file = io.BytesIO()
        if kind == "tar":
            with tarfile.open(fileobj=file, mode="w") as tar:
                for name in ("x", "y"):
                    entry = tarfile.TarInfo(f"{number}/{name}")
                    entry.size = 5
                    tar.addfile(entry, io.BytesIO(f"{number}{name}123".encode()))
        else:
            with zipfile.ZipFile(file, "w") as archive:
                for name in ("x", "y"):
                    archive.writestr(f"{number}/{name}", f"{number}{name}123")
        bucket.put(f"archives/{number}", file.getvalue())
    streams = OssObjectLister(bucket.uri + "archives/", client).fetch_oss_objects(client).as_named_streams()
    members = streams.load_from_tar() if kind == "tar" else streams.load_from_zip()
    found = [(path.rpartition("archives/")[2], stream.read()) for path, stream in members]
    assert found == [(f"{n}/{n}/{name}", f"{n}{name}123".encode()) for n in range(2) for name in ("x", "y")]


def test_a_stage_that_has_no_position_is_named(bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(bucket.uri + "a/", client).shard_oss_objects().fetch_oss_objects(client).map(NAME)
    dataset = pipe.cycle(1).to_dataset()
    assert list(dataset) == KEYS
    with pytest.raises(OssUsageError, match="no position behind"):
        dataset.state_dict()
