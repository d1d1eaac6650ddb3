"""Tars and their indexes: what `osstorchconnector` 1.2.3 (the C++ connector, of PyPI) wrote of them.

`python tests/tar/cxx_connector/recipe.py`, in an environment with that version, writes the files of this folder. The
tars of `TARS` are made anew by the tests, byte for byte the same; `generated.tar` was packed by 1.2.3.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    """Add a member with neither owner nor time, so that a tar is the same whenever it is made."""
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(data), kind, link
    tar.addfile(member, io.BytesIO(data))


def plain(tar: tarfile.TarFile) -> None:
    """Add ten files of growing size, the first one empty."""
    for number in range(10):
        add(tar, f"{number:04}.txt", b"x%d" % number * number * 100)


def mixed(tar: tarfile.TarFile) -> None:
    """Add what tars have besides files, names that need more than one header, and a directory at the end."""
    add(tar, "dir", kind=tarfile.DIRTYPE)
    add(tar, "dir/a", b"a" * 700)
    add(tar, "l" * 150, b"long")
    add(tar, "link", kind=tarfile.SYMTYPE, link="dir/a")
    add(tar, "hard", kind=tarfile.LNKTYPE, link="dir/a")
    add(tar, "zero")
    add(tar, "b\u00e9\u00e4.jpg", b"utf" * 300)
    add(tar, "end", kind=tarfile.DIRTYPE)


def nothing(_: tarfile.TarFile) -> None:
    """Add no member."""


def made(build: Callable[[tarfile.TarFile], None], format_: int, **pax: str) -> bytes:
    """Return the bytes of a tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_, pax_headers=pax) as tar:
        build(tar)
    return file.getvalue()


def without_end(tar: bytes) -> bytes:
    """Return the tar without the zeros at its end."""
    kept = tar.rstrip(b"\0")
    return kept + bytes(-len(kept) % 512)


TARS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: made(plain, tarfile.USTAR_FORMAT),
    "pax": lambda: made(mixed, tarfile.PAX_FORMAT),
    "gnu": lambda: made(mixed, tarfile.GNU_FORMAT),
    "global": lambda: made(plain, tarfile.PAX_FORMAT, comment="hello"),
    "no_end": lambda: without_end(made(plain, tarfile.USTAR_FORMAT)),
    "nothing": lambda: made(nothing, tarfile.USTAR_FORMAT),
}


def main() -> None:
    """Write the files of this folder, with the C++ connector."""
    import osstorchconnector

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys, config, source = folder / "keys.json", folder / "config.json", folder / "source"
        keys.write_text(json.dumps({"AccessKeyId": "a", "AccessKeySecret": "b"}))
        config.write_text(json.dumps({"logLevel": 3, "logPath": str(folder / "log"), "auditPath": str(folder / "aud")}))
        access = ("http://oss-cn-beijing.aliyuncs.com", str(keys), str(config))
        for tar_name, make in TARS.items():
            tar = folder / f"{tar_name}.tar"
            tar.write_bytes(make())
            index = str(FOLDER / f"{tar_name}.idx")
            osstorchconnector.generate_tar_archive(*access, str(tar), index, "", index_only=True, region="cn-beijing")
        (source / "sub").mkdir(parents=True)
        for number in range(4):
            (source / f"{number}.bin").write_bytes(b"%d" % number * (number * 300))
        (source / "sub" / ("n" * 120)).write_bytes(b"long name")
        (source / "\u00e9.txt").write_bytes(b"utf-8")
        os.chdir(folder)
        generated = [str(FOLDER / "generated.tar"), str(FOLDER / "generated.idx"), str(source)]
        osstorchconnector.generate_tar_archive(*access, *generated, region="cn-beijing")


if __name__ == "__main__":
    main()
