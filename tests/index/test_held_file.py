from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.errors import OssConfigError, OssError
from osstorchconnector.index import held_file
from osstorchconnector.index.held_file import HeldFile, hold, hold_named, new_path, remove_abandoned, this_machine
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.shared import SharedIndex, SharedNumbers
from osstorchconnector.index.shared_file import Wait

DAY_SECONDS = 24 * 3600.0
FORK = multiprocessing.get_context("fork")
HOLD = """
import sys
from pathlib import Path
from osstorchconnector.index.held_file import HeldFile
held = HeldFile(Path(sys.argv[1]))
held.file
print("held", flush=True)
input()
"""


class Names:
    """A source of three rows; each asking is a line in a journal, whatever process asks."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        for number in range(int(cursor or 0), 3):
            with self.journal.open("a") as journal:
                journal.write("asked\n")
            yield Batch("bucket/", [f"{number}"], [1], None, b"%d" % (number + 1))

    def times_asked(self) -> int:
        return len(self.journal.read_text().split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tables"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Names:
    (tmp_path / "journal").touch()
    return Names(tmp_path / "journal")


def keys(index: SharedIndex) -> list[str]:
    return [info.uri.key for info in index.items()]


def held(folder: Path) -> HeldFile:
    made = HeldFile(new_path(str(folder)))
    assert made.file >= 0
    return made


def holder(path: Path, *command: str) -> subprocess.Popen[str]:
    """Start a process that holds the file until it is told to end."""
    process = subprocess.Popen(
        [*command, sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def forked(work: Callable[[Connection], None]) -> tuple[Connection, Callable[[], int]]:
    """Fork without multiprocessing, as daemons and servers do; return a pipe and what waits for the child's end."""
    here, there = FORK.Pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work(there)
            status = 0
        finally:
            os._exit(status)
    there.close()
    return here, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def children_of_a_dead_maker(
    make: Callable[[], Any], use: Callable[[Any], Any], *, children: int = 1, ends_normally: bool = True
) -> list[Any]:
    """Return what `use` returns in children of a process that has made something and ended."""
    here, there = FORK.Pipe()

    def child(thing: Any) -> None:
        while os.getppid() == maker_pid:
            time.sleep(0.001)
        there.send(use(thing))

    def maker(_: Connection) -> None:
        nonlocal maker_pid
        maker_pid = os.getpid()
        thing = make()
        for _ in range(children):
            if not os.fork():
                child(thing)
                os._exit(0)
        if ends_normally:  # as the interpreter's end does
            multiprocessing.util._run_finalizers()

    maker_pid = 0
    _, ended = forked(maker)
    assert ended() == 0
    found = []
    for _ in range(children):
        assert here.poll(200)
        found.append(here.recv())
    return found


@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("ends_normally", [False, True])
def test_children_whose_maker_has_ended_read_one_listing(
    folder: Path, source: Names, is_used: bool, ends_normally: bool
) -> None:
    def make() -> SharedIndex:
        index = SharedIndex(source, folder=str(folder))
        if is_used:
            index.count()
        return index

    found = children_of_a_dead_maker(make, keys, children=3, ends_normally=ends_normally)
    assert found == [["0", "1", "2"]] * 3
    assert source.times_asked() == 3


def test_numbers_of_a_maker_that_has_ended_are_kept_and_shared(folder: Path) -> None:
    def make() -> SharedNumbers:
        numbers = SharedNumbers(folder=str(folder), initial={2: 7})
        numbers.set(0, 5)
        return numbers

    def use(numbers: SharedNumbers) -> tuple[int, int, int]:
        counted = numbers.add(1, 1)
        while numbers.get(1) < 2:  # until the other child has counted too
            time.sleep(0.001)
        return numbers.get(0), numbers.get(2), counted

    found = children_of_a_dead_maker(make, use, children=2)
    assert sorted(found) == [(5, 7, 1), (5, 7, 2)]


def test_numbers_that_nobody_wrote_before_the_maker_ended_can_be_written(folder: Path) -> None:
    def use(numbers: SharedNumbers) -> int:
        numbers.set(0, 3)
        return numbers.get(0)

    assert children_of_a_dead_maker(lambda: SharedNumbers(folder=str(folder)), use) == [3]


def test_a_child_keeps_what_its_maker_drops(folder: Path, source: Names) -> None:
    index, numbers = SharedIndex(source, folder=str(folder)), SharedNumbers(folder=str(folder))
    index.count()
    numbers.set(0, 4)

    made = [index, numbers]

    def use(pipe: Connection) -> None:
        pipe.recv()
        pipe.send((keys(made[0]), made[1].get(0)))

    pipe, ended = forked(use)
    made.clear()
    pipe.send("dropped")
    assert pipe.recv() == (["0", "1", "2"], 4)
    assert source.times_asked() == 3
    assert ended() == 0


def test_a_copy_that_was_unpickled_keeps_the_file_when_its_maker_ends(folder: Path, source: Names) -> None:
    def make(pipe: Connection) -> None:
        made = SharedIndex(source, folder=str(folder)), SharedNumbers(folder=str(folder), initial={0: 9})
        pipe.send(pickle.dumps(made))
        pipe.recv()
        multiprocessing.util._run_finalizers()

    pipe, ended = forked(make)
    index, numbers = pickle.loads(pipe.recv())
    pipe.send("end")
    assert ended() == 0
    assert (keys(index), numbers.get(0)) == (["0", "1", "2"], 9)
    assert len(list(folder.iterdir())) == 2
    del index, numbers
    assert list(folder.iterdir()) == []


def test_what_a_killed_maker_left_is_not_shared_with_who_comes_later(folder: Path, source: Names) -> None:
    def make(pipe: Connection) -> None:
        made = SharedIndex(source, folder=str(folder)), SharedNumbers(folder=str(folder), initial={0: 9})
        made[0].count()
        pickled = pickle.dumps(made)
        made[1].set(0, 10)
        pipe.send(pickled)
        os.kill(os.getpid(), signal.SIGKILL)

    pipe, ended = forked(make)
    pickled = pipe.recv()
    assert ended() == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 2
    index, numbers = pickle.loads(pickled)
    assert (keys(index), numbers.get(0)) == (["0", "1", "2"], 9)
    assert source.times_asked() == 6
    del index, numbers
    assert list(folder.iterdir()) == []


def test_the_last_process_that_lets_go_removes_the_file(folder: Path) -> None:
    made = held(folder)
    child = holder(made.path)
    made.release()
    assert made.path.exists()
    child.communicate("\n")
    assert list(folder.iterdir()) == []


def test_what_killed_processes_left_is_removed_when_a_file_is_made(folder: Path) -> None:
    left, other = new_path(str(folder)), folder / "osstorchconnector-index-by-hand"
    child = holder(left)
    child.kill()
    child.communicate()
    other.touch()
    used = held(folder)
    assert sorted(folder.iterdir()) == sorted([used.path, other])


def namespaced() -> list[str]:
    """Return a command that runs another in process and user namespaces of its own, where that is possible."""
    for command in (
        ["unshare", "--fork", "--pid", "--kill-child"],
        ["unshare", "--map-current-user", "--fork", "--pid"],
    ):
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        ):
            return command
    return []


def test_what_another_container_uses_is_left_alone_however_old_it_is(folder: Path) -> None:
    path = new_path(str(folder))
    child = holder(path, *namespaced())
    os.utime(path, (0, 0))
    remove_abandoned(folder, time.time() + 365 * DAY_SECONDS)
    assert path.exists()
    child.communicate("\n")
    assert not path.exists()


def elsewhere(path: Path) -> Path:
    """Return the path as another machine would have named it."""
    user, _, random = path.name.rsplit("-", 2)
    return path.with_name(f"{user}-00000000-{random}")


def test_what_another_machine_holds_is_left_alone_however_old_it_is(folder: Path) -> None:
    used = HeldFile(elsewhere(new_path(str(folder))))
    assert used.file >= 0
    remove_abandoned(folder, time.time() + 365 * DAY_SECONDS)
    assert used.path.exists()


def test_what_another_machine_left_is_removed_after_a_month(folder: Path) -> None:
    left = elsewhere(new_path(str(folder)))
    left.touch(mode=0o600)
    remove_abandoned(folder, time.time() + 25 * DAY_SECONDS)
    assert left.exists()
    remove_abandoned(folder, time.time() + 35 * DAY_SECONDS)
    assert not left.exists()


def test_a_file_that_others_keep_making_and_removing_is_held_by_those_who_hold_it(folder: Path) -> None:
    path = new_path(str(folder))

    def hold_and_let_go(pipe: Connection) -> None:
        for _ in range(200):
            mine = HeldFile(path)
            assert mine.is_in_place()
            mine.release()

    waiting = [forked(hold_and_let_go)[1] for _ in range(3)]
    assert [ended() for ended in waiting] == [0, 0, 0]
    assert list(folder.iterdir()) == []


def remove_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def test_a_table_that_is_removed_under_its_readers_is_read_on(folder: Path, source: Names) -> None:
    index = SharedIndex(source, folder=str(folder))
    infos = index.items()
    assert next(infos).uri.key == "0"
    remove_files(folder)
    pipe, ended = forked(lambda pipe: pipe.send(keys(index)))
    assert pipe.recv() == ["0", "1", "2"]
    assert ended() == 0
    assert [info.uri.key for info in infos] == ["1", "2"]
    assert source.times_asked() == 3


def test_a_table_that_was_removed_is_the_same_for_processes_that_get_a_copy(folder: Path, source: Names) -> None:
    index = SharedIndex(source, folder=str(folder))
    assert index.count() == 3
    remove_files(folder)
    copy = pickle.loads(pickle.dumps(index))
    assert keys(copy) == keys(index) == ["0", "1", "2"]
    assert source.times_asked() == 3
    child = holder(index.path)
    child.communicate("\n")
    assert [path.name for path in folder.iterdir()] == [index.path.name]


def test_numbers_that_were_removed_reach_children_and_are_an_error_for_other_processes(folder: Path) -> None:
    numbers = SharedNumbers(folder=str(folder))
    numbers.set(0, 1)

    def use(pipe: Connection) -> None:
        pipe.recv()
        pipe.send(numbers.get(0))

    pipe, ended = forked(use)
    remove_files(folder)
    numbers.set(0, 2)
    pipe.send("set")
    assert pipe.recv() == 2
    assert ended() == 0
    with pytest.raises(OssError, match="has been removed while it was in use.*indexDir"):
        pickle.dumps(numbers)


def test_a_lock_that_is_never_given_up_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_file, "_PATIENCE_SECONDS", 0.05)
    numbers = SharedNumbers(folder=str(folder))
    numbers.set(0, 1)
    (path,) = folder.iterdir()
    file, _ = held_file.open_own(path, create=False)
    assert held_file.try_lock(file, held_file.WRITING)
    with pytest.raises(OssError, match="locked for"):
        numbers.add(0, 1)
    os.close(file)
    assert numbers.add(0, 1) == 2


def test_a_file_can_be_shared_on_its_machine_while_it_is_there(folder: Path) -> None:
    made = held(folder)
    assert hold_named(made.path, this_machine()) is made is hold(made.path)
    assert hold_named(made.path, "another machine") is None
    path = made.path
    made.release()
    del made
    assert hold_named(path, this_machine()) is None
    assert list(folder.iterdir()) == []


def test_a_file_is_made_with_its_content_or_not_at_all(folder: Path) -> None:
    made = HeldFile(new_path(str(folder)), b"content")
    assert made.file >= 0
    assert made.path.read_bytes() == b"content"
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    program = (
        "import resource, sys; from osstorchconnector.index.held_file import HeldFile, new_path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); HeldFile(new_path(sys.argv[1]), bytes(1000)).file"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False, timeout=200
        )
    finally:
        signal.signal(signal.SIGXFSZ, former)
    assert "indexDir" in done.stderr
    assert [path.name for path in folder.iterdir()] == [made.path.name]


def test_the_file_is_its_owners_alone(folder: Path) -> None:
    assert held(folder).path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_others_may_read_is_refused(folder: Path) -> None:
    path = folder / "table"
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(OssConfigError, match="not this user's alone"):
        hold(path).file  # noqa: B018


def test_a_link_in_the_files_place_is_refused(folder: Path) -> None:
    target, path = folder / "elsewhere", folder / "table"
    target.touch(mode=0o600)
    path.symlink_to(target)
    with pytest.raises(OssConfigError, match="indexDir"):
        hold(path).file  # noqa: B018


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OssConfigError, match=r"absent/table: No such file or directory; name a folder by indexDir"):
        hold(tmp_path / "absent" / "table").file  # noqa: B018


def test_two_files_never_have_the_same_path(folder: Path) -> None:
    assert new_path(str(folder)) != new_path(str(folder))


def test_the_configured_folder_is_taken(tmp_path: Path) -> None:
    assert held_file.choose_folder(str(tmp_path)) == str(tmp_path)
    with pytest.raises(OssConfigError, match="indexDir: .*absent"):
        held_file.choose_folder(str(tmp_path / "absent"))


def test_without_a_configured_folder_one_is_found() -> None:
    assert Path(held_file.choose_folder("")).is_dir()
    assert held_file.choose_folder("", shared_memory="/no/such/folder") == tempfile.gettempdir()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """A system that knows no locks of open files."""

    def refuse(file: int, what: int, kind: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    assert held_file.has_locks()
    held_file.has_locks.cache_clear()
    monkeypatch.setattr(held_file, "_set_lock", refuse)
    yield
    held_file.has_locks.cache_clear()


def test_where_there_are_no_locks_each_process_has_a_table_of_its_own(
    no_locks: None, folder: Path, source: Names
) -> None:
    made: list[Any] = [SharedIndex(source, folder=str(folder)), SharedNumbers(folder=str(folder))]
    index, numbers = made
    assert keys(index) == ["0", "1", "2"]
    numbers.set(0, 5)

    def use(pipe: Connection) -> None:
        copy = pickle.loads(pickle.dumps(made[0]))
        pipe.send((keys(made[0]), made[1].get(0), keys(copy)))

    pipe, ended = forked(use)
    assert pipe.recv() == (["0", "1", "2"], 5, ["0", "1", "2"])
    assert ended() == 0
    assert numbers.add(0, 1) == 6
    assert pickle.loads(pickle.dumps(numbers)).get(0) == 6
    assert source.times_asked() == 9  # by each process, and for the copy
    remove_abandoned(folder, time.time() + DAY_SECONDS)
    assert keys(index) == ["0", "1", "2"]
    made.clear()
    del index, numbers
    assert not [path for path in folder.iterdir() if path.name.endswith(f"-{os.getpid()}")]
