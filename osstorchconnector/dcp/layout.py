"""The objects of a checkpoint and their names. Pure.

    ckpt/step-100/.metadata                            the checkpoint exists since this does
    ckpt/step-100/__0_0.18c2f0a1b2c-5f3a9c01.distcp    rank 0, file 0, of the save with this token
    ckpt/step-100/__1_0.18c2f0a1b2c-5f3a9c01.distcp
    ckpt/step-100/__0.metadata                         instead of .metadata with use_collectives=False: one a rank

A token is the time a save began and a random part: no two saves write the same object, so a new save under an old id
leaves the old one whole until `.metadata` names the new objects.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import OssConfigError
from ..uri import OssUri, checked_key, parse_uri

METADATA, METADATA_LOCK = ".metadata", ".metadata.lock"
TORCH_SUFFIX, SAFETENSORS_SUFFIX = ".distcp", ".safetensors"

_DATA = re.compile(r"(?:.*/)?__\d+_\d+(?:\.(?P<token>[0-9a-f]{11,16}-[0-9a-f]{8}))?\.(?:distcp|safetensors)")
_RANK_METADATA = re.compile(r"__\d+\.metadata")

PrefixStrategy = Callable[[int], str]


@dataclass(frozen=True)
class SaveTicket:
    """What one rank needs to know to name its files; travels in `SavePlan.storage_data`.

    `prefix` is what torch's own plans have there, so that a planner that looks at it finds it.
    """

    prefix: str
    token: str

    def file_name(self, number: int, suffix: str) -> str:
        """Return the name of this rank's file, relative to the checkpoint."""
        return f"{self.prefix}{number}.{self.token}{suffix}"


def make_ticket(rank: int, token: str, strategy: PrefixStrategy | None) -> SaveTicket:
    """Return the ticket of a rank, whose files go below what `strategy` says."""
    folder = strategy(rank).strip("/") if strategy is not None else ""
    return SaveTicket(f"{folder}/__{rank}_" if folder else f"__{rank}_", token)


def new_token(milliseconds: int) -> str:
    """Return a token for a save that begins at this time since the epoch."""
    return f"{milliseconds:011x}-{secrets.token_hex(4)}"


def checkpoint_uri(checkpoint_id: str | os.PathLike[str]) -> OssUri:
    """Return bucket and key prefix of a checkpoint; the key ends in `/` unless the whole bucket is meant."""
    uri = parse_uri(os.fspath(checkpoint_id))
    return OssUri(uri.bucket, uri.key.rstrip("/") + "/" if uri.key else "")


def is_checkpoint_id(checkpoint_id: str | os.PathLike[str]) -> bool:
    """True for `oss://bucket/key` and `/bucket/key` written as text; False for anything else, a `Path` too."""
    try:
        return isinstance(checkpoint_id, str) and bool(parse_uri(checkpoint_id))
    except OssConfigError:
        return False


def member(checkpoint: OssUri, relative_path: str) -> OssUri:
    """Return the object that a checkpoint calls `relative_path`; one that leads outside is refused."""
    parts = relative_path.split("/")
    if not relative_path or ".." in parts or relative_path.startswith("/"):
        raise OssConfigError(f"{checkpoint}: {relative_path!r} is no name of an object of a checkpoint")
    return OssUri(checkpoint.bucket, checked_key(checkpoint.key + relative_path, str(checkpoint)))


def metadata_name(rank: int | None = None) -> str:
    return METADATA if rank is None else f"__{rank}{METADATA}"


def is_data(relative_path: str) -> bool:
    """True for the name of a file that a rank wrote, ours or torch's."""
    return _DATA.fullmatch(relative_path) is not None


def is_rank_metadata(relative_path: str) -> bool:
    return _RANK_METADATA.fullmatch(relative_path) is not None


def token_of(relative_path: str) -> str:
    """Return the token in the name of a data file; empty if it has none."""
    found = _DATA.fullmatch(relative_path)
    return (found["token"] or "") if found else ""


@dataclass(frozen=True)
class RoundRobinPrefixes:
    """Put rank r's files below `prefixes[r % len(prefixes)]`."""

    prefixes: Sequence[str]

    def __post_init__(self) -> None:
        if not self.prefixes or not all(prefix.strip("/") for prefix in self.prefixes):
            raise OssConfigError("RoundRobinPrefixes needs prefixes, none of them empty")

    def __call__(self, rank: int) -> str:
        return self.prefixes[rank % len(self.prefixes)]


@dataclass(frozen=True)
class HashedPrefixes:
    """Put each rank's files below a few hexadecimal digits that look random and are the same every time."""

    digits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 32:
            raise OssConfigError(f"HashedPrefixes takes 1 to 32 digits, not {self.digits}")

    def __call__(self, rank: int) -> str:
        return hashlib.sha256(str(rank).encode()).hexdigest()[: self.digits]
