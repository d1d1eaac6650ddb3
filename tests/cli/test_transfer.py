"""Copies that somebody else is quicker with: what came meanwhile stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import Run
from scripts import NO_LOGS

from osstorchconnector.cli import Item, Place, copies
from osstorchconnector.cli.records import records_folder
from osstorchconnector.testing import OssBucket

PART_BYTES = 1 << 20
SIZES = {"in one request": 1000, "in parts": 3 * PART_BYTES}


class Quicker:
    """Somebody who stores the same names, just after the command has looked whether they are free."""

    def __init__(self, bucket: OssBucket, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bucket, self._here = bucket, here
        look, list_all = copies._item, copies._items

        def item(where: Place) -> Item | None:
            found = look(where)
            self._come(where)
            return found

        def items(where: Place) -> Iterator[Item]:
            found = list(list_all(where))
            self._come(where)
            return iter(found)

        monkeypatch.setattr(copies, "_item", item)
        monkeypatch.setattr(copies, "_items", items)

    def _come(self, where: Place) -> None:
        if "there" in str(where):
            self._bucket.put("there/x", b"quicker")
            (self._here / "there").mkdir(exist_ok=True)
            (self._here / "there" / "x").write_bytes(b"quicker")

    def found(self) -> tuple[bytes, bytes]:
        return self._bucket.get("there/x"), (self._here / "there" / "x").read_bytes()


@pytest.fixture
def quicker(oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quicker:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "partSize": PART_BYTES, "uploadMemory": PART_BYTES}))
    monkeypatch.setenv("OSS_CONNECTOR_CONFIG", str(config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Quicker(oss_bucket, tmp_path, monkeypatch)


def paths(bucket: OssBucket, here: Path, way: str) -> tuple[str, str]:
    source, target = way.split(" to ")
    tops = {"file": f"{here}/", "object": bucket.uri}
    return f"{tops[source]}source/", f"{tops[target]}there/"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("way", ["file to object", "object to file", "object to object"])
def test_what_came_meanwhile_stays(
    run: Run, oss_bucket: OssBucket, tmp_path: Path, quicker: Quicker, way: str, size: int
) -> None:
    data = bytes(range(250)) * (size // 250)
    oss_bucket.put("source/x", data)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x").write_bytes(data)
    source, target = paths(oss_bucket, tmp_path, way)
    for arguments in (["cp", f"{source}x", f"{target}x"], ["cp", "-r", source, target], ["mv", "-r", source, target]):
        oss_bucket.delete("there/x")
        (tmp_path / "there" / "x").unlink(missing_ok=True)
        status, _, err = run(*arguments)
        assert (status, quicker.found()) == (1, (b"quicker", b"quicker")), err
        assert f"{target}x is there already: -f replaces it" in err
        assert oss_bucket.get("source/x") == (tmp_path / "source" / "x").read_bytes() == data
    assert run("cp", "-f", f"{source}x", f"{target}x").status == 0
    assert data in quicker.found()
    assert list(oss_bucket.server.uploads(oss_bucket.name)) == []
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["x"]
    assert not records_folder().exists() or not list(records_folder().iterdir())
