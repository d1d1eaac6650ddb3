"""bench: what is measured, within which bounds, and that nothing of it stays."""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from pathlib import Path

import pexpect
import pytest
from cli.conftest import Run
from cli.test_objects import in_a_terminal
from PIL import Image

from osstorchconnector.cli import bar_chart, measured, sample_of
from osstorchconnector.cli.charts import import_pillow
from osstorchconnector.cli.measures import Bounds
from osstorchconnector.protocol.values import ListedObject
from osstorchconnector.testing import OssBucket

READS = ["read small objects", "read a large object"]
WRITES = ["write small objects", "write a large object", "torch.save", "torch.load"]


def measured_in(out: str) -> dict[str, dict[str, float]]:
    return {each["name"]: each for each in map(json.loads, out.splitlines())}


def test_what_is_there_is_read_and_nothing_written(run: Run, oss_bucket: OssBucket) -> None:
    for number in range(20):
        oss_bucket.put(f"data/{number}", bytes(100_000))
    oss_bucket.put("data/large", bytes(9 << 20))
    status, out, _ = run("bench", "--mib", "2", "--workers", "0,1", "--json", f"{oss_bucket.uri}data")
    found = measured_in(out)
    assert (status, [*found]) == (0, [*READS, "DataLoader, 0 workers", "DataLoader, 1 workers"])
    assert found["read a large object"]["size"] == 2 << 20
    assert 2 << 20 <= found["read small objects"]["size"] < (2 << 20) + 100_000
    assert all(each["bytes_per_second"] > 0 for each in found.values())
    counters = oss_bucket.server.counters()
    assert counters.requests.keys() <= {"ListObjectsV2", "GetObject", "HeadObject"}
    text = run("bench", "--mib", "1", "--workers", "0", f"{oss_bucket.uri}data").out.splitlines()
    assert [line.partition("  ")[0].strip() for line in text][:2] == READS
    assert text[0].endswith("objects/s")


def test_what_is_written_is_removed(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    png = tmp_path / "rates.png"
    options = ["--write", "--mib", "1", "--workers", "0,1", "--json", "--png", f"{png}"]
    status, out, err = run("bench", *options, f"{oss_bucket.uri}tmp/")
    assert (status, err) == (0, f"drawn in {png}\n")
    found = measured_in(out)
    assert {*found} == {*READS, *WRITES, "DataLoader, 0 workers", "DataLoader, 1 workers"}
    assert found["write small objects"]["size"] == found["write a large object"]["size"] == 1 << 20
    assert (oss_bucket.keys(), oss_bucket.server.uploads(oss_bucket.name)) == ([], [])
    with Image.open(png) as image:
        assert image.size[1] > 8 * 40
        assert image.getcolors(1 << 20) is not None


def test_nothing_to_read_is_told(run: Run, oss_bucket: OssBucket) -> None:
    oss_bucket.put("data/middle", bytes(2 << 20))
    status, _, err = run("bench", f"{oss_bucket.uri}data/")
    assert (status, "let --write make some" in err) == (1, True)


def test_a_refusal_in_the_middle_leaves_nothing(run: Run, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("InitiateMultipartUpload", "AccessDenied", bucket=oss_bucket.name)
    status, out, err = run("bench", "--write", "--mib", "40", f"{oss_bucket.uri}tmp/")
    assert (status, oss_bucket.keys()) == (1, [])
    assert "AccessDenied" in err
    assert [line.partition("  ")[0] for line in out.splitlines()] == ["write small objects", "read small objects"]


@pytest.mark.parametrize("workers", ["x", "1,", "-1", "1000"])
def test_numbers_of_workers_that_are_none(run: Run, oss_bucket: OssBucket, workers: str) -> None:
    status, _, err = run("bench", f"--workers={workers}", oss_bucket.uri)
    assert (status, "write numbers up to 256" in err) == (1, True)


def test_much_traffic_is_asked_for(run: Run, oss_bucket: OssBucket) -> None:
    status, _, err = run("bench", "--write", "--mib", "1000", oss_bucket.uri)
    assert (status, "This moves up to" in err) == (1, True)
    child = in_a_terminal(oss_bucket, "bench", "--write", "--mib", "1000", oss_bucket.uri)
    child.expect("This moves up to .* GiB, which may cost money. Go on?")
    child.sendline("n")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, oss_bucket.server.counters().requests["PutObject"]) == (1, 0)


@pytest.mark.parametrize(("operation", "title"), [("PutObject", "write small"), ("UploadPart", "write a large")])
def test_ctrl_c_leaves_nothing(oss_bucket: OssBucket, operation: str, title: str) -> None:
    oss_bucket.server.fail(operation, "stall_upload", bucket=oss_bucket.name, after=1)
    child = in_a_terminal(oss_bucket, "bench", "--write", "--mib", "40", oss_bucket.uri)
    child.expect_exact(title)
    while not oss_bucket.server.counters().faults["stall_upload"]:
        child.expect([pexpect.TIMEOUT, "."], timeout=0.05)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert (oss_bucket.keys(), oss_bucket.server.uploads(oss_bucket.name)) == ([], [])


# --- without OSS


def steps(*sizes: int) -> Generator[int, None, None]:
    yield from sizes


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Bounds(100.0, 1000), (60, 3, 4.0)),
        (Bounds(100.0, 30), (30, 2, 2.0)),
        (Bounds(1.0, 1000), (10, 1, 2.0)),
    ],
)
def test_a_measurement_ends_at_its_bounds_and_leaves_out_the_start(
    bounds: Bounds, expected: tuple[int, int, float]
) -> None:
    now, told = iter(range(100)), list[int]()
    result = measured("x", steps(7, 10, 20, 30), bounds, told.append, clock=lambda: float(next(now)))
    assert result is not None
    assert result[1:] == expected
    assert told == [10, 20, 30][: expected[1]]


def test_without_steps_there_is_nothing_to_tell() -> None:
    assert measured("x", steps(), Bounds(1, 1), print) is None
    assert measured("x", steps(5), Bounds(9, 9), print) is None


def test_the_sample_is_small_objects_and_the_largest() -> None:
    sizes = [0, 1, 1 << 20, (1 << 20) + 1, 8 << 20, 9 << 20, 10 << 20]
    found = [ListedObject(f"{number}", size, "E", "") for number, size in enumerate(sizes)]
    sample = sample_of("b", iter(found), 6)
    assert ([uri.key for uri in sample.small], sample.small_bytes) == (["1", "2"], (1 << 20) + 1)
    assert (sample.large and sample.large.key, sample.large_bytes) == ("5", 9 << 20)
    assert sample_of("b", iter(found[:5]), 6).large is not None
    assert sample_of("b", iter(found[:4]), 6).large is None


def test_bars_are_as_long_as_their_values() -> None:
    data = bar_chart(import_pillow(), "title", {"half": 50.0, "all": 100.0, "nothing": 0.0})
    with Image.open(io.BytesIO(data)) as image:
        lengths = []
        for number in range(3):
            row = 40 + 15 + number * 40 + 7
            lengths.append(sum(image.getpixel((x, row)) == (255, 127, 14) for x in range(image.width)))
    assert lengths[2] <= 1 < lengths[0]
    assert abs(lengths[1] - 2 * lengths[0]) <= 2
