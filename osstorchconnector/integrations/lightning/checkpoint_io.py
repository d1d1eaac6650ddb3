"""Each checkpoint of a Trainer or of Fabric is one object, written while torch pickles it, and read without a disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from ...checkpoint import OssCheckpoint
from ...client.client import OssClient
from ...dcp import OssStager
from ...errors import OssConfigError
from ...filesystem.settings import new_client
from ...optional import unavailable
from ...uri import OssUri, parse_object_uri
from ..background import Background

REQUIREMENT = "lightning>=2.6"

_STORAGE_OPTIONS = ("endpoint", "region", "cred_path", "cred_provider", "anonymous", "config_path")


def framework_class(module: str, name: str) -> Any:
    """Return a class of Lightning, such as `fabric.plugins`, `CheckpointIO`; or one whose objects can't be made."""
    standalone = module.replace("fabric", "lightning_fabric").replace("pytorch", "pytorch_lightning")
    names = [f"lightning.{module}", standalone]
    if "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
        names.reverse()
    problem: Exception | None = None
    for candidate in names:
        try:
            return getattr(import_module(candidate), name)
        except Exception as error:  # missing, too old or broken
            problem = problem or error
    assert problem is not None
    return unavailable("osstorchconnector.integrations.lightning", REQUIREMENT, problem)


def as_oss_uri(path: str | os.PathLike[str]) -> str | None:
    """Return `oss://bucket/key`, or None for a path that is not in OSS.

    `Path("oss://bucket/key")`, which Lightning makes in some places, has lost a slash. It gets it back.
    """
    scheme, slash, rest = os.fspath(path).partition(":/")
    return f"oss://{rest.lstrip('/')}" if scheme == "oss" and slash else None


def on_cpu(storage: Any, location: str) -> Any:
    """Return the storage where torch has read it: in the CPU's memory."""
    return storage


def load_object(file: Any, map_location: Any, weights_only: bool | None) -> Any:
    """Return what `torch.save` has stored. `weights_only=None` loads only weights, as torch itself does since 2.6."""
    if weights_only is None and torch.__version__ < "2.6":  # a TorchVersion: compared as a version, not as text
        weights_only = True
    return torch.load(file, map_location=map_location, weights_only=weights_only)


_TorchCheckpointIO: Any = framework_class("fabric.plugins", "TorchCheckpointIO")


class OssCheckpointIO(_TorchCheckpointIO):
    """Checkpoints of Lightning at `oss://bucket/key`: `Trainer(plugins=[OssCheckpointIO(...)])`, and so for Fabric.

    A checkpoint is sent to OSS while torch pickles it, and is there when all of it is: whatever happens before, the old
    one stays. A path that does not begin with `oss://` is left to Lightning's own `TorchCheckpointIO`.

    - `endpoint`: the URL of OSS, or an `OssClient`. Default: OSS_ENDPOINT, or the endpoint of `region` or OSS_REGION.
    - `cred_path`, `cred_provider`, `anonymous`, `config_path`, `region`: as for `OssCheckpoint`

    `ModelCheckpoint(dirpath="oss://...")` itself looks into the folder through fsspec. It finds the settings in
    `fsspec.config.conf["oss"]`, or in the environment (OSS_ENDPOINT and so on), not in this object.

    Raises `OssConfigError` for wrong settings, or if Lightning is missing. Errors of requests are `OssError`s. It can
    be pickled without secrets.
    """

    def __init__(
        self,
        endpoint: str | OssClient | None = None,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        anonymous: bool = False,
        config_path: str = "",
        region: str = "",
    ) -> None:
        super().__init__()
        self.client = new_client(
            endpoint,
            region=region,
            cred_path=cred_path,
            cred_provider=cred_provider,
            anonymous=anonymous,
            config_path=config_path,
        )

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Store the checkpoint at `path`.

        `storage_options` (of `trainer.save_checkpoint`) is a dictionary with other settings for this one checkpoint:
        `endpoint`, `region`, `cred_path`, `cred_provider`, `anonymous`, `config_path`. Raises `OssConfigError` for
        other names.
        """
        uri = as_oss_uri(path)
        if uri is None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        client = self.client if storage_options is None else _client_with(storage_options)
        with OssCheckpoint(client).writer(uri) as writer:
            torch.save(checkpoint, writer)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = on_cpu,
        weights_only: bool | None = None,
        **options: Any,
    ) -> Any:
        """Return the checkpoint at `path`; `map_location` and `weights_only` are those of `torch.load` since torch 2.6.

        Raises `OssNotFoundError`, which is a `FileNotFoundError`, if there is none.
        """
        uri = as_oss_uri(path)
        if uri is None:
            return super().load_checkpoint(path, map_location=map_location, weights_only=weights_only, **options)
        with OssCheckpoint(self.client).reader(uri) as reader:
            return load_object(reader, map_location, weights_only)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove the object `path`, or all of the folder of a sharded checkpoint. Nothing there is no error."""
        uri = as_oss_uri(path)
        if uri is None:
            super().remove_checkpoint(path)
            return
        place = parse_object_uri(uri.rstrip("/"))
        self.client.delete(place)
        folder = OssUri(place.bucket, place.key + "/")
        keys = [found.key for found in self.client.list(folder)]
        metadata = folder.key + ".metadata"
        if metadata in keys:  # first: without it a sharded checkpoint does not exist, so no half of one is ever loaded
            self.client.delete(OssUri(place.bucket, metadata))
        self.client.delete_many(place.bucket, [key for key in keys if key != metadata])


class OssAsyncCheckpointIO(OssCheckpointIO):
    """The same, but training goes on while a checkpoint is stored: `save_checkpoint` returns when it has been copied.

    - `in_flight`: how many checkpoints may be on their way; one more waits. Each needs memory for a copy, which is
      kept for the next save.

    An error of a save is raised by the next save or load, and at the latest when the Trainer ends (`teardown`).
    Checkpoints are stored and removed in the order of the calls. After a save that failed nothing is removed before its
    error was raised.
    """

    def __init__(self, endpoint: str | OssClient | None = None, *, in_flight: int = 2, **settings: Any) -> None:
        super().__init__(endpoint, **settings)
        if in_flight < 1:
            raise OssConfigError(f"in_flight={in_flight}: at least 1")
        self._in_flight = in_flight
        self._background, self._stager = Background("oss-lightning"), OssStager()

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Copy the checkpoint, and begin to store the copy. Waits first if `in_flight` others are on their way."""
        self._background.wait(self._in_flight - 1)
        copied = self._stager.stage(dict(checkpoint))
        self._background.begin(super().save_checkpoint, copied, path, storage_options)

    def load_checkpoint(self, path: str | os.PathLike[str], *arguments: Any, **options: Any) -> Any:
        """Return the checkpoint at `path`, after all saves before."""
        self._background.wait()
        return super().load_checkpoint(path, *arguments, **options)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove the checkpoint once all saves before have succeeded; return at once."""
        self._background.begin(self._remove, super().remove_checkpoint, path)

    def teardown(self) -> None:
        """Wait until everything is stored, and raise the first error. Lightning calls this when a Trainer ends."""
        self._stager.close()
        self._background.close()

    def _remove(self, remove: Callable[[Any], None], path: Any) -> None:
        if not self._background.has_failed:
            remove(path)


def _client_with(options: Mapping[str, Any]) -> OssClient:
    unknown = sorted(options.keys() - set(_STORAGE_OPTIONS))
    if unknown:
        raise OssConfigError(f"storage_options: no option {unknown[0]!r}; there are {', '.join(_STORAGE_OPTIONS)}")
    settings: dict[str, Any] = {
        "endpoint": None,
        "region": "",
        "cred_path": "",
        "cred_provider": None,
        "config_path": "",
    }
    return new_client(**{**settings, **options})
