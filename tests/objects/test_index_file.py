from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from osstorchconnector.errors import OssConfigError, OssError
from osstorchconnector.objects import index_file
from osstorchconnector.objects.index_file import IndexReader, IndexWriter, Owner
from osstorchconnector.objects.index_layout import HEAD_BYTES, Batch, Progress, State
from osstorchconnector.uri import OssUri


def batch(*keys: str, cursor: bytes = b"") -> Batch:
    return Batch("bucket/", list(keys), [1] * len(keys), None, cursor)


def keys(reader: IndexReader) -> list[str]:
    return [reader.table.info(number).uri.key for number in range(reader.table.rows)]


def writer_of(path: Path) -> IndexWriter:
    writer = IndexWriter.try_lock(path)
    assert writer is not None
    return writer


def new_path(folder: Path, owner: Owner | None = None) -> Path:
    return index_file.new_path(str(folder), owner or index_file.this_process())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


def test_a_reader_sees_rows_when_they_are_published(path: Path) -> None:
    reader = IndexReader(path)
    assert reader.refresh() == Progress()
    writer = writer_of(path)
    assert reader.refresh() == Progress()
    for number in range(5):
        writer.append(batch(f"{number}a", f"{number}b"))
        assert keys(reader) == [f"{n}{end}" for n in range(number) for end in "ab"]
        assert reader.refresh().rows == 2 * number + 2
    assert reader.table.info(9).uri == OssUri("bucket", "4b")
    writer.complete()
    assert reader.refresh().state is State.COMPLETE


def test_rows_taken_before_the_file_grew_stay_good(path: Path) -> None:
    writer, reader = writer_of(path), IndexReader(path)
    writer.append(batch("a"))
    reader.refresh()
    assert keys(reader) == ["a"]
    writer.append(batch(*map(str, range(5000))))
    reader.refresh()
    reader.close()
    assert keys(reader)[:3] == ["a", "0", "1"]


def test_only_one_may_write_at_a_time(path: Path) -> None:
    first = writer_of(path)
    assert IndexWriter.try_lock(path) is None
    first.close()
    writer_of(path).close()


def test_the_next_writer_goes_on_where_the_last_one_stopped(path: Path) -> None:
    first = writer_of(path)
    assert first.cursor == b""
    first.append(batch("a", cursor=b"after a"))
    first.append(batch(cursor=b"nothing kept"))
    first.close()
    second = writer_of(path)
    assert second.cursor == b"nothing kept"
    second.append(batch("b", cursor=b"after b"))
    reader = IndexReader(path)
    reader.refresh()
    assert keys(reader) == ["a", "b"]


def test_what_a_killed_writer_left_unpublished_is_overwritten(path: Path) -> None:
    first = writer_of(path)
    first.append(batch("a"))
    first.close()
    with path.open("ab") as file:
        file.write(b"half a block" * 100)
    second = writer_of(path)
    second.append(batch("b"))
    reader = IndexReader(path)
    reader.refresh()
    assert keys(reader) == ["a", "b"]


def test_a_writer_that_was_forked_away_does_not_keep_the_lock(path: Path) -> None:
    writer = writer_of(path)
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    try:
        writer.close()
        writer_of(path).close()
    finally:
        child.kill()
        child.join()


def test_the_lock_of_a_killed_writer_is_free(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def write_and_hang() -> None:
        there.send(writer_of(path).cursor)
        signal.pause()

    child = context.Process(target=write_and_hang)
    child.start()
    here.recv()
    assert IndexWriter.try_lock(path) is None
    child.kill()
    child.join()
    writer_of(path).close()


def test_a_failure_tells_why(path: Path) -> None:
    writer, reader = writer_of(path), IndexReader(path)
    writer.fail("OssNotFoundError", "no bucket")
    assert reader.refresh().state is State.FAILED
    assert reader.failure() == ("OssNotFoundError", "no bucket")
    writer.append(batch("a"))
    assert reader.refresh().state is State.GROWING


def test_the_file_is_its_owners_alone(path: Path) -> None:
    writer_of(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_may_read_is_refused(path: Path) -> None:
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(OssConfigError, match="not this user's alone"):
        IndexReader(path)


def test_a_link_in_the_files_place_is_refused(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.touch(mode=0o600)
    path.symlink_to(target)
    with pytest.raises(OssConfigError, match="indexDir"):
        IndexReader(path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match=r"absent/table: No such file or directory; name a folder by indexDir"):
        IndexReader(tmp_path / "absent" / "table")


def test_a_file_of_something_else_is_an_error(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(b"x" * HEAD_BYTES)
    with pytest.raises(OssError, match="another version"):
        IndexReader(path).refresh()
    with pytest.raises(OssError, match="another version"):
        IndexWriter.try_lock(path)
    assert path.read_bytes() == b"x" * HEAD_BYTES


def test_a_full_disk_is_an_error_that_names_the_setting(path: Path) -> None:
    writer = writer_of(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (HEAD_BYTES + 100, hard))
        with pytest.raises(OssError, match="indexDir"):
            writer.append(batch(*map(str, range(1000))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    reader = IndexReader(path)
    assert reader.refresh().rows == 0
    writer.append(batch("a"))
    assert reader.refresh().rows == 1


def test_two_tables_never_have_the_same_path(tmp_path: Path) -> None:
    assert new_path(tmp_path) != new_path(tmp_path)


def test_this_process_is_alive() -> None:
    assert index_file.is_alive(index_file.this_process()) is True


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    assert index_file.is_alive(index_file.this_process()._replace(started=1)) is False


def finished_process() -> Owner:
    """Return a process of this machine that runs no more."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = index_file.this_process()._replace(pid=child.pid)
    child.communicate(b"\n")
    return owner


def test_a_finished_process_is_not_alive() -> None:
    assert index_file.is_alive(finished_process()) is False


def test_a_process_of_another_container_may_be_alive() -> None:
    assert index_file.is_alive(index_file.this_process()._replace(space=1)) is None


def test_what_killed_processes_left_is_removed_when_a_table_is_made(tmp_path: Path) -> None:
    here = index_file.this_process()
    left, used, foreign = (new_path(tmp_path, owner) for owner in (finished_process(), here, here._replace(space=1)))
    other = tmp_path / "osstorchconnector-index-by-hand"
    for file in (left, used, foreign, other):
        file.touch()
    writer_of(new_path(tmp_path)).close()
    assert not left.exists()
    assert used.exists()
    assert foreign.exists()
    assert other.exists()


def test_what_another_machine_uses_in_a_folder_of_both_is_left_alone(tmp_path: Path) -> None:
    # Without containers processes have the same namespace on all machines, and ids that mean nothing elsewhere.
    elsewhere = finished_process()._replace(space=index_file.process_space("another machine"))
    used = new_path(tmp_path, elsewhere)
    used.touch()
    writer_of(new_path(tmp_path)).close()
    assert used.exists()
    assert index_file.is_alive(elsewhere) is None


def test_what_another_container_left_is_removed_after_a_day(tmp_path: Path) -> None:
    left = new_path(tmp_path, index_file.this_process()._replace(space=1))
    left.touch()
    made = left.stat().st_mtime
    index_file.remove_abandoned(tmp_path, made + 3600)
    assert left.exists()
    index_file.remove_abandoned(tmp_path, made + 25 * 3600)
    assert not left.exists()


def test_the_configured_folder_is_taken(tmp_path: Path) -> None:
    assert index_file.choose_folder(str(tmp_path)) == str(tmp_path)
    with pytest.raises(OssConfigError, match="indexDir: .*absent"):
        index_file.choose_folder(str(tmp_path / "absent"))


def test_without_a_configured_folder_one_is_found() -> None:
    assert Path(index_file.choose_folder("")).is_dir()
    assert index_file.choose_folder("", shared_memory="/no/such/folder") == tempfile.gettempdir()


def test_where_there_are_no_locks_each_process_has_a_table_of_its_own(path: Path) -> None:
    assert index_file.own_path(path) == path
    assert index_file.own_path(path, has_locks=False) == path.with_name(f"table-{os.getpid()}")


def test_the_process_id_of_nobody_has_no_start_time() -> None:
    assert index_file._start_time(2**22 + 1) == 0
    assert index_file._start_time(os.getpid()) > 0
