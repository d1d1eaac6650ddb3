"""Measures what happens when a server fails often, throttles, is slow at times, or is away for a while."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssError, OssIterableDataset
from osstorchconnector.client.traffic import shared
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.testing import OssBucket

Summary = Callable[[str], None]


def client_of(bucket: OssBucket, folder: Path, **settings: object) -> OssClient:
    config = folder / "config.json"
    config.write_text(json.dumps({"auditPath": "", **settings}))
    return OssClient(**bucket.options, config_path=str(config))


def test_a_server_that_fails_at_large_meets_no_storm(oss_bucket: OssBucket, tmp_path: Path, summary: Summary) -> None:
    client = client_of(oss_bucket, tmp_path, retryBaseDelay=0.001, retryMaxDelay=0.002)
    oss_bucket.server.fail("", "500", bucket=oss_bucket.name)

    def ask(number: int) -> None:
        with pytest.raises(OssError):
            client.get(f"oss://{oss_bucket.name}/{number}")

    operations = 3000
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(ask, range(operations)))
    requests = oss_bucket.server.counters(with_log=False).requests["GetObject"]
    summary(
        f"all requests fail: {operations} operations sent {requests} requests (budget {client.config.retry_budget})"
    )
    assert requests <= 1.2 * operations + client.config.retry_budget


@pytest.mark.timeout(120)
@pytest.mark.parametrize("own_processes", [False, True], ids=["threads", "processes"])
def test_32_clients_settle_at_the_500_requests_a_second_that_a_server_allows(
    oss_bucket: OssBucket, tmp_path: Path, summary: Summary, own_processes: bool
) -> None:
    allowed, settle, measure = 500, 12.0, 12.0
    oss_bucket.put("key", b"body")
    oss_bucket.server.fail("GetObject", "slow_down", above_rate=allowed)
    end = time.monotonic() + settle + measure
    options = {
        **oss_bucket.options,
        "config_path": client_of(oss_bucket, tmp_path).config and str(tmp_path / "config.json"),
    }

    def work() -> None:
        client = OssClient(**options)
        while time.monotonic() < end:
            client.get(oss_bucket.uri + "key", ByteSpan(0, 4))

    everyone = _in_processes(work, 32) if own_processes else _in_threads(work, 32)
    time.sleep(settle)
    before = oss_bucket.server.counters(with_log=False)
    time.sleep(measure - 1)
    after = oss_bucket.server.counters(with_log=False)
    everyone()
    requests = after.requests["GetObject"] - before.requests["GetObject"]
    refused = after.errors["GetObject"] - before.errors["GetObject"]
    rate = (requests - refused) / (measure - 1)
    summary(
        f"32 {'processes' if own_processes else 'threads'}, {allowed} requests/s allowed: {rate:.0f}/s answered, "
        f"{refused / requests:.1%} refused, before that {before.errors['GetObject']} of {before.requests['GetObject']}"
    )
    assert 0.9 * allowed <= rate <= 1.1 * allowed
    assert refused <= 0.1 * requests


def _in_threads(work: Callable[[], None], count: int) -> Callable[[], None]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()

    def join() -> None:
        for thread in threads:
            thread.join()

    return join


def _in_processes(work: Callable[[], None], count: int) -> Callable[[], None]:
    import multiprocessing

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()

    def join() -> None:
        for process in processes:
            process.join()
            assert process.exitcode == 0

    return join


@pytest.mark.timeout(120)
def test_hedged_reads_cut_the_slow_hundredth_off(oss_bucket: OssBucket, tmp_path: Path, summary: Summary) -> None:
    reads = 6000
    oss_bucket.put("key", b"x" * 4096)
    slowest = {}
    for hedge in (False, True):
        client = client_of(oss_bucket, tmp_path, hedgeReads=hedge)
        oss_bucket.server.reset()
        oss_bucket.server.fail("GetObject", "latency", probability=0.01, seed=5, seconds=2)
        times: list[float] = []

        def read(_: int) -> None:
            begun = time.perf_counter()
            client.get(oss_bucket.uri + "key", ByteSpan(0, 4096))  # noqa: B023
            times.append(time.perf_counter() - begun)  # noqa: B023

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(reads if hedge else reads // 10)))
        client.close()
        times.sort()
        slowest[hedge] = times[int(len(times) * 0.999)]
    extra = oss_bucket.server.counters(with_log=False).requests["GetObject"] - reads
    summary(
        f"1 % of answers 2 s late: p99.9 {slowest[True] * 1000:.0f} ms hedged (else {slowest[False]:.1f} s), "
        f"{extra / reads:.1%} extra requests"
    )
    assert slowest[True] < 0.2 < slowest[False]
    assert extra <= 0.03 * reads


@pytest.mark.timeout(120)
def test_a_server_that_is_gone_for_20_seconds_is_waited_for(
    oss_bucket: OssBucket, tmp_path: Path, summary: Summary
) -> None:
    oss_bucket.server.fill(oss_bucket.name, "sample/{:04}", 2000, b"data")
    client_of(oss_bucket, tmp_path)
    dataset = OssIterableDataset.from_prefix(
        oss_bucket.uri + "sample/", **oss_bucket.options, config_path=str(tmp_path / "config.json")
    )
    seen = []
    back = threading.Timer(20, oss_bucket.server.start)
    begun = time.monotonic()
    for item in dataset:
        seen.append(item.key)
        if len(seen) == 500:
            oss_bucket.server.kill()
            back.start()
    back.join()
    assert len(set(seen)) == len(seen) == 2000
    summary(
        f"server gone for 20 s: all 2000 samples, {time.monotonic() - begun:.0f} s in all, with the default settings"
    )


@pytest.fixture(autouse=True)
def fresh_process_state() -> None:
    shared.forget()
