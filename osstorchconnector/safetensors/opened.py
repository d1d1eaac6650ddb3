"""A safetensors file on OSS that is open: its header was read, and tensors are fetched when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from types import TracebackType

import torch

from ..client.client import OssClient
from ..files.source import ObjectSource
from ..tensors.isolation import outside_contexts
from ..uri import OssUri
from .failures import OssTensorNotFoundError
from .header import StoredTensor
from .loading import TensorKind, kind_of, load, load_one, load_part, read_header
from .slices import Axis
from .tensor_slice import TensorSlice


class OpenedSafetensors:
    """What `OssSafetensor.safe_open` returns: a context manager that returns tensors of one file.

    All bytes come from one version of the object: if it is replaced meanwhile, the next request raises
    `OssObjectChangedError`. When every byte has been fetched they are checked against the CRC-64 that OSS has for the
    object, and `OssIntegrityError` is raised if they differ. Methods that fetch raise the errors of `OssReader`, and
    `ValueError` once the file is closed. Several threads may use it; one fetches at a time, with many requests.
    """

    def __init__(self, client: OssClient, uri: OssUri, device: str | int | torch.device) -> None:
        self._uri, self._device = uri, torch.device(device)
        self._source = ObjectSource(client, uri, client.config.checkpoint)
        self._lock = threading.RLock()
        self._is_closed = False
        self._header = read_header(self._source, uri.shown)

    def __repr__(self) -> str:
        return f"<OpenedSafetensors {str(self._uri)!r}{' closed' if self._is_closed else ''}>"

    def keys(self) -> list[str]:
        """Return the names of the tensors, in the order of the header."""
        return list(self._header.tensors)

    def offset_keys(self) -> list[str]:
        """Return the names of the tensors, in the order in which their bytes stand in the file."""
        return [name for name, _ in self._header.in_file_order()]

    def metadata(self) -> dict[str, str]:
        """Return the texts that were saved beside the tensors; `{}` if there are none."""
        return dict(self._header.metadata)

    @outside_contexts
    def get_tensor(self, name: str) -> torch.Tensor:
        """Fetch a tensor.

        Raises `OssTensorNotFoundError`, a `KeyError`, if there is none of this name.
        """
        stored, kind = self._find(name)
        with self._lock:
            self._check_open()
            return load_one(self._source, stored, kind, self._device)

    @outside_contexts
    def get_tensors(self) -> dict[str, torch.Tensor]:
        """Fetch all tensors, with many requests at a time; the names come in the order of the header."""
        kinds = {name: self._find(name)[1] for name in self._header.tensors}
        with self._lock:
            self._check_open()
            return load(self._source, self._header, kinds, self._device)

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor of which parts are fetched, as in `file.get_slice("weight")[1000:2000]`.

        Raises `OssTensorNotFoundError`, a `KeyError`, if there is none of this name. Fetches nothing itself.
        """
        stored, kind = self._find(name)
        return TensorSlice(stored, kind.shape, partial(self._load_part, stored, kind))

    def close(self) -> None:
        """Close the file; if almost all of it was fetched, the rest is fetched too, so that all can be checked."""
        self._end(check=True)

    def __enter__(self) -> OpenedSafetensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(check=kind is None)

    def _find(self, name: str) -> tuple[StoredTensor, TensorKind]:
        stored = self._header.tensors.get(name)
        if stored is None:
            raise OssTensorNotFoundError(
                f"{self._uri.shown} has no tensor {name!r:.100}; keys() names the {len(self._header.tensors)} it has"
            )
        return stored, kind_of(stored, name, self._uri.shown)

    def _load_part(self, stored: StoredTensor, kind: TensorKind, axes: Sequence[Axis]) -> torch.Tensor:
        with self._lock:
            self._check_open()
            return load_part(self._source, stored.start, kind, axes, self._device)

    def _end(self, *, check: bool) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._source.close(check=check)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(f"I/O operation on closed file: {self._uri.shown}")
