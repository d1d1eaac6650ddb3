"""What contenders do, done by this library in this process on tiny data: that it runs and counts, not how fast."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save

from benchmarks.gauge import Done, Program, count_calls, cpu_seconds_of, measure
from benchmarks.programs import ecosystem as programs
from benchmarks.programs import filesystem, large, limits, listing, objects, scale, tars, tensors
from benchmarks.site import BUCKET, NO_LOGS, Site, names_of, open_site, tool
from benchmarks.works import ecosystem, independent
from benchmarks.works import filesystem as works_of_file_systems
from benchmarks.works.tars import put_tar

SIZE, READS = 1000, 50


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with open_site(config=NO_LOGS) as site:
        yield site


@pytest.fixture(scope="module")
def small(site: Site) -> dict[str, Any]:
    return {"access": site.access(), "uris": site.fill("small", 40, b"x" * SIZE), "reads": READS, "size": SIZE}


def amount(program: Program) -> float:
    return measure(program).amount


def test_objects_are_iterated_over_more_often_than_there_are(small: dict[str, Any]) -> None:
    assert amount(objects.iterate(**small)) == READS


def test_objects_are_loaded_in_batches(small: dict[str, Any]) -> None:
    assert amount(objects.load_batches(**small, workers=0, batch=7)) == READS
    assert amount(objects.load_shuffled(**small, batch=7)) == READS


def test_one_object_is_got_many_times_and_each_time_is_taken(small: dict[str, Any]) -> None:
    options = {name: small[name] for name in ("access", "reads", "size")}
    sample = measure(objects.get_one_by_one(**options, uri=small["uris"][0]))
    assert sample.amount == READS
    assert 0 < sample.p50 <= sample.p99 < sample.seconds


def test_calls_are_counted_in_all_threads_and_only_while_the_work_is_done() -> None:
    def program() -> Program:
        list(map(len, ["before"] * 100))
        yield None
        thread = threading.Thread(target=lambda: [len("in a thread") for _ in range(1000)])
        thread.start()
        thread.join()
        yield Done(100)
        list(map(len, ["after"] * 100))

    calls = count_calls(program())
    assert 10 <= calls.c < 12
    assert 0 < calls.python < 1


def test_growth_is_told(small: dict[str, Any]) -> None:
    assert measure(objects.soak(**{**small, "reads": 200})).extra["growth"] >= 0


def test_a_wrong_size_is_noticed(small: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        measure(objects.iterate(**{**small, "size": SIZE + 1}))


def test_a_large_object_is_read_in_all_ways(site: Site) -> None:
    size = 3_000_001
    site.put_stream("large", [b"y" * size])
    site.put_stream("large.small", [b"z"])
    options: dict[str, Any] = {"access": site.access(), "uri": f"oss://{BUCKET}/large", "size": size}
    assert amount(large.read_into(**options)) == size
    assert amount(large.read_pieces(**options, piece=65536)) == size
    assert amount(limits.bare_reads(site.keys(), "large", size, part=1 << 20, threads=2)) == size
    assert measure(limits.bare_get_one_by_one(site.keys(), "large", 5, size)).extra["p99"] > 0


def test_a_safetensors_file_is_saved_and_loaded(site: Site, tmp_path: Path) -> None:
    size, state = 1 << 20, large.make_state(1 << 20, 4)
    site.put_stream("tensors.small", [save(state)])
    options: dict[str, Any] = {"access": site.access(), "uri": f"oss://{BUCKET}/tensors", "size": size}
    assert amount(tensors.save(**options, tensors=4)) == size
    assert amount(tensors.load(**options)) == size
    path = tmp_path / "tensors"
    path.write_bytes(save(state))
    assert amount(tensors.load_local(str(path), size)) == size
    assert amount(tensors.copy_local(str(path), size)) == size


def test_a_state_dict_is_saved_and_loaded(site: Site) -> None:
    size = 1 << 20
    site.put_stream("state.small", [b"z"])
    options: dict[str, Any] = {"access": site.access(), "uri": f"oss://{BUCKET}/state", "size": size}
    assert amount(large.save_state(**options, tensors=4)) == size
    assert amount(large.load_state(**options)) == size


def test_workers_and_processes_take_turns_in_choosing_a_server() -> None:
    with open_site(config=NO_LOGS) as site:
        uris = site.fill("small", 40, b"x" * SIZE)
        site.put_stream("large", [b"y" * SIZE])
        site.put_stream("large.small", [b"z"])
        site.serve_copies(1)
        accesses = site.accesses()
        assert amount(scale.iterate_by_workers(accesses, uris, READS, SIZE, workers=2)) == READS
        sample = measure(scale.read_by_processes(accesses, f"oss://{BUCKET}/large", SIZE, times=3, processes=2))
        assert sample.amount == 2 * 3 * SIZE
        assert sample.cpu_seconds > 0
        counts = [server.counters().requests["GetObject"] for server in site.servers]
        assert counts == [READS // 2 + 4] * 2  # half of the objects; of each large object 3 reads, and a small one


def test_keys_are_listed(site: Site) -> None:
    site.fill("keys", 1200, b"1")
    uri = f"oss://{BUCKET}/keys/"
    assert amount(listing.list_into_dataset(site.access(), uri, warm_up=uri, count=1200)) == 1200


def test_made_up_keys_have_the_size_asked_for(tmp_path: Any) -> None:
    (tmp_path / "manifest").write_text("1000 60")
    with open(tmp_path / "manifest", "rb") as manifest:
        keys = [key for key, _ in listing.made_up_keys(manifest)]
    assert {len(key) for key in keys} == {60}
    assert len(set(keys)) == 1000


def test_unsigned_readers_may_read_and_a_secure_site_has_a_certificate() -> None:
    with open_site(is_secure=True, config=NO_LOGS) as site:
        uris = site.fill("small", 3, b"x" * SIZE)
        options = {"access": site.access(), "uris": uris, "reads": 3, "size": SIZE}
        assert amount(objects.iterate(**options)) == 3
        site.put_stream("large", [b"y" * SIZE])
        assert amount(limits.bare_reads(site.keys(), "large", SIZE, part=SIZE, threads=1)) == SIZE
        assert names_of(uris) == ["small/000000", "small/000001", "small/000002"]


def test_nginx_serves_what_the_emulator_has_or_its_rows_say_what_is_missing() -> None:
    (work,) = [work for work in independent.WORKS if work.name == "small-nginx"]
    with open_site(config=NO_LOGS) as site:
        ours = work.prepare(site, count=5, size=SIZE, reads=READS)[0]
        assert ours.missing or amount(objects.iterate(**ours.options)) == READS


def test_a_missing_tool_comes_with_how_to_get_it() -> None:
    assert tool("no-such-program", "no-such-package") == ("", "not installed: apt-get install no-such-package")


def test_a_program_with_a_clock_of_its_own_is_believed() -> None:
    def program() -> Program:
        yield None
        yield Done(10, seconds=5.0)

    assert measure(program()).rate == 2


def test_cpu_time_of_another_process_is_that_of_this_one() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)  # without ended children, which other tests may have had
    assert cpu_seconds_of(os.getpid()) == pytest.approx(usage.ru_utime + usage.ru_stime, abs=0.5)


def test_memory_and_cpu_between_the_yields_are_measured() -> None:
    def program() -> Program:
        yield None
        blob = bytearray(b"x") * (64 << 20)  # more than C's allocator ever keeps
        yield Done(len(blob))

    sample = measure(program())
    assert sample.peak_bytes >= 64 << 20
    assert sample.cpu_seconds > 0


def test_a_file_system_reads_writes_and_finds(site: Site, tmp_path: Path) -> None:
    site.put_stream("large", [b"y" * 3000])
    site.put_stream("large.small", [b"z"])
    site.fill("some", 7, b"x")
    where, path = site.access(), f"{BUCKET}/large"
    for is_cat in (True, False):
        assert amount(filesystem.read(where, path, 3000, is_cat)) == 3000
    (tmp_path / "local").write_bytes(b"y" * 5000)
    assert amount(filesystem.put_file(where, path, str(tmp_path / "local"), 5000)) == 5000
    assert amount(filesystem.cat_ranges(where, [path], 5000, 20, 100)) == 20
    assert amount(filesystem.find(where, f"{BUCKET}/some", f"{BUCKET}/some", 7)) == 7


def test_columns_of_a_table_are_read_by_pandas(site: Site) -> None:
    for package in ("pandas", "pyarrow"):
        pytest.importorskip(package)
    ours = works_of_file_systems._read_parquet(site, size=160_000, columns=20, wanted=4)[0]
    sample = measure(filesystem.read_parquet(**ours.options))
    assert sample.amount == sample.extra["needed_bytes"] and 32_000 <= sample.amount < 36_000


def test_members_of_a_tar_are_iterated_over_and_objects_are_packed(site: Site) -> None:
    for key in ("some.tar", "some.tar.small"):
        put_tar(site, key, 30, SIZE)
    options: dict[str, Any] = {"access": site.access(), "uri": f"oss://{BUCKET}/some.tar"}
    for how in ({}, {"shuffle": "chunks", "shuffle_chunk_size": 10}):
        assert amount(tars.iterate(**options, count=30, size=SIZE, how=how)) == 30 * SIZE
    site.fill("packed", 7, b"x")
    source = f"oss://{BUCKET}/packed/"
    assert amount(tars.pack(**options, source=source, warm_up=source, count=7)) == 7


def test_pictures_are_streamed_from_oss_and_from_local_files(site: Site) -> None:
    pytest.importorskip("datasets.arrow_dataset")  # `datasets` alone finds tests/datasets
    (work,) = [work for work in ecosystem.WORKS if work.name == "hf-stream"]
    for contender in work.prepare(site, count=20):
        assert amount(programs.stream_pictures(**contender.options)) == 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray uses settings of its own that it has deprecated
@pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning")
def test_ray_reads_objects_through_our_source_and_our_file_system(site: Site) -> None:
    pytest.importorskip("ray.data")
    (work,) = [work for work in ecosystem.WORKS if work.name == "ray"]
    ours, _, over_ours = work.prepare(site, count=40, size=1000)
    for contender in (ours, over_ours):
        assert amount(programs.ray_objects(**contender.options)) == 40
