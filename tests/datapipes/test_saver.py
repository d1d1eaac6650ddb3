from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import NO_LOGS
from torch.utils.data.datapipes.iter import IterableWrapper

from osstorchconnector.datapipes.saver import OssObjectSaver
from osstorchconnector.errors import OssPermissionError, OssUriError, OssUsageError
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri


def test_each_pair_becomes_an_object_and_its_info_comes_back_in_order(oss_bucket: OssBucket) -> None:
    pairs = [(f"{number:02}.bin", bytes([number]) * number) for number in range(30)]
    pipe = IterableWrapper(pairs).save_oss_objects(**oss_bucket.options, oss_base_uri=oss_bucket.uri + "saved/")
    infos = list(pipe)
    assert [(info.uri, info.size) for info in infos] == [
        (OssUri(oss_bucket.name, f"saved/{number:02}.bin"), number) for number in range(30)
    ]
    assert all(info.etag for info in infos)
    assert [oss_bucket.get(f"saved/{name}") for name, _ in pairs] == [data for _, data in pairs]


def test_what_was_saved_can_be_fetched_further_down(oss_bucket: OssBucket) -> None:
    pairs = [(oss_bucket.uri + "a", b"one"), (oss_bucket.uri + "b", b"two")]
    saver = OssObjectSaver(pairs, **oss_bucket.options)
    pipe = pickle.loads(pickle.dumps(saver)).fetch_oss_objects(**oss_bucket.options)
    assert [item.read() for item in pipe] == [b"one", b"two"]


@pytest.mark.parametrize("data", [bytearray(b"data"), memoryview(b"data"), memoryview(b"datadata")[::2].tobytes()])
def test_whatever_has_bytes_can_be_saved(oss_bucket: OssBucket, data: Any) -> None:
    (info,) = OssObjectSaver([(oss_bucket.uri + "key", data)], **oss_bucket.options)
    assert oss_bucket.get("key") == bytes(data)
    assert info.size == 4


@pytest.mark.parametrize(
    ("item", "error"),
    [("key", OssUsageError), (("key",), OssUsageError), (("key", "text"), OssUsageError), (("", b"data"), OssUriError)],
)
def test_what_can_not_be_saved_is_an_error_after_what_could(
    oss_bucket: OssBucket, item: Any, error: type[Exception]
) -> None:
    infos = iter(OssObjectSaver([("good", b"1"), item], oss_base_uri=oss_bucket.uri, **oss_bucket.options))
    assert next(infos).uri.key == "good"
    with pytest.raises(error):
        next(infos)
    assert oss_bucket.keys() == ["good"]


def test_arrays_are_saved_and_texts_say_what_to_pass(oss_bucket: OssBucket) -> None:
    grid = np.arange(24, dtype=np.uint8).reshape(4, 6)
    pairs: list[Any] = [("grid", grid[:, ::2]), ("text", "abc")]
    infos = iter(OssObjectSaver(pairs, oss_base_uri=oss_bucket.uri, **oss_bucket.options))
    assert next(infos).size == 12
    assert oss_bucket.get("grid") == grid[:, ::2].tobytes()
    with pytest.raises(OssUsageError, match=r"text can't be saved: .* pass text\.encode\(\)"):
        next(infos)


def test_a_refusal_is_an_error_at_its_place(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("PutObject", "403", key="second")
    infos = iter(OssObjectSaver([("first", b""), ("second", b"")], oss_base_uri=oss_bucket.uri, **oss_bucket.options))
    assert next(infos).uri.key == "first"
    with pytest.raises(OssPermissionError, match="second"):
        next(infos)


def test_requests_in_flight_are_as_many_as_configured(oss_bucket: OssBucket, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(NO_LOGS | {"checkpointConfig": {"uploadConcurrency": 3}}))
    oss_bucket.server.fail("PutObject", "latency", seconds=0.1)
    pairs = [(f"{oss_bucket.uri}{number}", b"data") for number in range(12)]
    assert len(list(OssObjectSaver(pairs, **oss_bucket.options, config_path=str(config)))) == 12
    assert oss_bucket.server.counters().max_concurrency["PutObject"] == 3
