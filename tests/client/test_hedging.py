"""Second requests for what is late."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import NO_LOGS

from osstorchconnector.client.attempts import GetAttempt
from osstorchconnector.client.client import OssClient
from osstorchconnector.client.hedging import HedgedReads, Lateness
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.protocol.heads import ResponseHead
from osstorchconnector.protocol.values import ByteSpan, Download
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

URI = OssUri("bucket", "key")
HEAD = ResponseHead(206, {"content-range": "bytes 0-3/4", "etag": '"A"', "x-oss-request-id": "5C3D"}, 4, False, True)


@given(st.lists(st.floats(0, 10), max_size=400))
def test_at_most_three_in_a_hundred_are_asked_for_twice(times: list[float]) -> None:
    lateness, hedged = Lateness(), 0
    for number, seconds in enumerate(times, start=1):
        patience = lateness.patience_seconds()
        if patience is not None and seconds > patience and lateness.may_hedge(is_very_late=seconds > 5):
            hedged += 1
        lateness.learn(seconds)
        assert hedged <= 0.03 * number


def test_a_third_of_the_second_requests_is_kept_for_what_is_very_late() -> None:
    lateness = Lateness()
    for _ in range(1000):
        lateness.patience_seconds()
    assert sum(lateness.may_hedge(is_very_late=False) for _ in range(100)) == 20
    assert sum(lateness.may_hedge(is_very_late=True) for _ in range(100)) == 10


def test_late_is_what_comes_later_than_98_of_the_last_hundred() -> None:
    lateness = Lateness()
    for seconds in [5.0] * 1000 + list(range(1000)):
        lateness.learn(seconds)
    assert lateness.patience_seconds() == 980


class Answers:
    """Stands for the sender: answers each read as the script says; "never" is an answer that does not come."""

    def __init__(self, *script: str) -> None:
        self._script = list(script)
        self.asked = 0

    async def __call__(self, attempt: GetAttempt, *, on_data_path: bool) -> ResponseHead:
        answer, self.asked = self._script[self.asked], self.asked + 1
        if answer == "never":
            await asyncio.Event().wait()
        if answer == "missing":
            raise OssNotFoundError(f"read {self.asked}")
        attempt.accept_whole(HEAD, memoryview(answer.encode()))
        attempt.finish(HEAD)
        return HEAD


class Ticking:
    """A clock by which every answer takes a fifth of a second: so long is waited for one that is late."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.2
        return self.now


def read(answers: Answers, count: int) -> list[Download]:
    async def all_of_them() -> list[Download]:
        reads = HedgedReads(answers, Ticking())
        return [await reads.fetch(lambda: GetAttempt(URI, ByteSpan(0, 4), None, "")) for _ in range(count)]

    return asyncio.run(all_of_them())


def test_an_object_that_is_late_is_asked_for_again() -> None:
    answers = Answers(*["body"] * 60, "never", "body", "body")
    assert [download.body for download in read(answers, 62)] == [b"body"] * 62
    assert answers.asked == 63


def test_an_error_of_one_is_not_raised_while_the_other_may_end_well() -> None:
    class OneFails(Answers):
        async def __call__(self, attempt: GetAttempt, **more: Any) -> ResponseHead:
            if self.asked == 60:
                self.asked, self.second_came = 61, asyncio.Event()
                await self.second_came.wait()
                raise OssNotFoundError("the first")
            if self.asked == 61:
                self.second_came.set()
            return await super().__call__(attempt, **more)

    assert len(read(OneFails(*["body"] * 62), 61)) == 61
    with pytest.raises(OssNotFoundError, match="the first"):
        read(OneFails(*["body"] * 61, "missing"), 61)


def test_a_client_may_be_told_to_ask_twice(oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("key", b"body")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(NO_LOGS | {"hedgeReads": True, "readTimeout": 2}))
    client = OssClient(**oss_bucket.options, config_path=str(config))
    for _ in range(200):
        client.get(oss_bucket.uri + "key", ByteSpan(0, 4))
    oss_bucket.server.fail("GetObject", "stall_head", times=1)
    assert client.get(oss_bucket.uri + "key", ByteSpan(0, 4)).body == b"body"
    client.close()
    assert 202 <= oss_bucket.server.counters().requests["GetObject"] <= 207
