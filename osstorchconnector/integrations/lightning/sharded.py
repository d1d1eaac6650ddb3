"""Strategies that spread a model over ranks, and store each rank's part in OSS.

Lightning's own make `pathlib` paths of all names, so that `oss://bucket/run` is a folder `oss:/bucket/run` on the
machine's disk. These store such a checkpoint with `OssStorageWriter`, in the same layout: model and optimizers as a
distributed checkpoint, and the rest (loops, callbacks, the user's own) in `meta.pt`. A copy of the folder on a disk is
a checkpoint for Lightning's own strategies.

The rest is in the distributed checkpoint, too, and is read from there: so all of it changes with `.metadata`, in one
moment, and never only a part.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

import torch

from ...checkpoint import OssCheckpoint
from ...client.client import OssClient
from ...dcp import OssStorageReader, OssStorageWriter
from ...dcp.torch_dcp import dcp_load, dcp_save
from ...errors import OssConfigError, OssUsageError
from .checkpoint_io import OssCheckpointIO, as_oss_uri, framework_class, load_object

MODEL, REST, REST_FILE = "state_dict", "lightning_rest", "meta.pt"


class _InOss:
    """What the strategies have in common: where checkpoints go, and how their parts are stored and found."""

    _checkpoint_io: Any = None
    global_rank: int

    @property
    def checkpoint_io(self) -> Any:
        """An `OssCheckpointIO`: that of the Trainer's or Fabric's `plugins`, or one with the environment's settings."""
        if self._checkpoint_io is None:
            self._checkpoint_io = OssCheckpointIO()
        return self._checkpoint_io

    @checkpoint_io.setter
    def checkpoint_io(self, plugin: Any) -> None:
        self._checkpoint_io = plugin

    @property
    def _client(self) -> OssClient:
        if not isinstance(self.checkpoint_io, OssCheckpointIO):
            raise OssConfigError(
                f"{type(self).__name__} stores in OSS with an OssCheckpointIO, not with a "
                f"{type(self.checkpoint_io).__name__}: give plugins=[OssCheckpointIO(...)]"
            )
        return self.checkpoint_io.client

    def _store(self, uri: str, parts: dict[str, Any], rest: Any, storage_options: Any) -> None:
        if storage_options is not None:
            raise OssUsageError(f"{type(self).__name__} has no storage_options: give plugins=[OssCheckpointIO(...)]")
        if self.global_rank == 0:
            packed = io.BytesIO()
            torch.save(rest, packed)
            parts = {**parts, REST: packed.getvalue()}
            with OssCheckpoint(self._client).writer(f"{uri}/{REST_FILE}") as file:
                file.write(packed.getvalue())
        dcp_save(parts, storage_writer=OssStorageWriter(self._client, uri))

    def _fill(self, uri: str, parts: dict[str, Any], weights_only: bool | None) -> Any:
        """Load the parts in place, and return the rest."""
        reader = OssStorageReader(self._client, uri)
        has_rest = REST in reader.read_metadata().state_dict_metadata
        wanted = {**parts, REST: b""} if has_rest else parts
        dcp_load(wanted, storage_reader=reader)
        parts.update({name: wanted[name] for name in parts})
        if has_rest:
            return load_object(io.BytesIO(wanted[REST]), "cpu", weights_only)
        with OssCheckpoint(self._client).reader(f"{uri}/{REST_FILE}") as file:
            return load_object(file, "cpu", weights_only)


class _TrainerInOss(_InOss):
    """A Trainer's checkpoint is one dictionary that the strategy's other methods have made of this rank's parts."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Store a checkpoint; on all ranks. What is saved as one object, or elsewhere, Lightning saves itself."""
        strategy: Any = self
        uri = as_oss_uri(strategy.broadcast(filepath))
        if uri is None or not strategy._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)  # type: ignore[misc]
            return
        parts = {MODEL: checkpoint.pop("state_dict")}
        for number, state in enumerate(checkpoint.pop("optimizer_states", [])):
            parts[f"optimizer_{number}"] = state
        self._store(uri, parts, checkpoint, storage_options)

    def load_checkpoint(self, checkpoint_path: str | os.PathLike[str], weights_only: bool | None = None) -> Any:
        """Load model and optimizers in place, on all ranks, and return the rest."""
        strategy: Any = self
        uri = as_oss_uri(strategy.broadcast(checkpoint_path))
        if uri is None:
            return super().load_checkpoint(checkpoint_path, weights_only)  # type: ignore[misc]
        module = strategy.lightning_module
        is_fitting = module.trainer.state.fn == "fit"
        optimizers = {f"optimizer_{number}": each for number, each in enumerate(strategy.optimizers) if is_fitting}
        parts = _states({MODEL: strategy.model}, optimizers, strategy.model)
        rest = self._fill(uri, parts, weights_only)
        _restore(parts, {MODEL: strategy.model}, optimizers, strategy.model, strict=module.strict_loading)
        return rest


class _FabricInOss(_InOss):
    """Fabric's checkpoint is a dictionary of modules, optimizers and values of the user's."""

    def save_checkpoint(
        self, path: str | os.PathLike[str], state: Mapping[str, Any], storage_options: Any = None, filter: Any = None
    ) -> None:
        """Store a checkpoint; on all ranks. What is saved as one object, or elsewhere, Lightning saves itself."""
        strategy: Any = self
        uri = as_oss_uri(strategy.broadcast(path))
        if uri is None:
            super().save_checkpoint(path, state, storage_options, filter)  # type: ignore[misc]
            return
        if filter is not None or not strategy._save_distributed_checkpoint:
            raise OssUsageError(
                f"{type(self).__name__} stores all of a sharded checkpoint at oss://, without filter=. Save to a local "
                "folder for others"
            )
        modules, optimizers, rest = _kinds(state)
        parts = _states(modules, optimizers, _only(modules))
        rest = {name: value.state_dict() if hasattr(value, "state_dict") else value for name, value in rest.items()}
        self._store(uri, parts, rest, storage_options)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        state: Any = None,
        strict: bool = True,
        weights_only: bool | None = None,
    ) -> Any:
        """Load into the modules and optimizers of `state` in place, on all ranks, and return what it does not name."""
        strategy: Any = self
        uri = as_oss_uri(strategy.broadcast(path))
        if uri is None:
            return super().load_checkpoint(path, state, strict, weights_only)  # type: ignore[misc]
        modules, optimizers, values = _kinds(state if isinstance(state, Mapping) else {})
        module = _only(modules)
        parts = _states(modules, optimizers, module)
        rest = self._fill(uri, parts, weights_only)
        missing = sorted(values.keys() - rest.keys())
        if missing and strict:
            raise OssUsageError(f"load {uri}: it has no {missing[0]!r}, only {', '.join(sorted(rest)) or 'weights'}")
        _restore(parts, modules, optimizers, module, strict=strict)
        for name in values.keys() & rest.keys():
            if hasattr(values[name], "load_state_dict"):
                values[name].load_state_dict(rest.pop(name))
            else:
                state[name] = rest.pop(name)
        return rest


def _kinds(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    modules = {name: value for name, value in state.items() if isinstance(value, torch.nn.Module)}
    optimizers = {name: value for name, value in state.items() if isinstance(value, torch.optim.Optimizer)}
    return modules, optimizers, {name: state[name] for name in state.keys() - modules.keys() - optimizers.keys()}


def _only(modules: Mapping[str, Any]) -> Any:
    if len(modules) != 1:
        raise OssUsageError(f"a sharded checkpoint has one model, not {len(modules)}: state={{'model': model, ...}}")
    return next(iter(modules.values()))


def _states(modules: Mapping[str, Any], optimizers: Mapping[str, Any], module: Any) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict

    parts: dict[str, Any] = {name: get_model_state_dict(each) for name, each in modules.items()}
    parts.update({name: get_optimizer_state_dict(module, each) for name, each in optimizers.items()})
    return parts


def _restore(
    parts: Mapping[str, Any], modules: Mapping[str, Any], optimizers: Mapping[str, Any], module: Any, *, strict: bool
) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict

    for name, each in modules.items():
        set_model_state_dict(each, parts[name], options=StateDictOptions(strict=strict))
    for name, each in optimizers.items():
        set_optimizer_state_dict(module, each, parts[name])


_ModelParallelStrategy: Any = framework_class("pytorch.strategies", "ModelParallelStrategy")
_FabricModelParallelStrategy: Any = framework_class("fabric.strategies", "ModelParallelStrategy")


class OssModelParallelStrategy(_TrainerInOss, _ModelParallelStrategy):
    """A Trainer's `ModelParallelStrategy` (FSDP2, tensor parallel) whose checkpoints may be at `oss://bucket/key`.

        Trainer(strategy=OssModelParallelStrategy(), plugins=[OssCheckpointIO(ENDPOINT, cred_path=CRED_PATH)])

    Everything else is as in Lightning.
    """


class OssFabricModelParallelStrategy(_FabricInOss, _FabricModelParallelStrategy):
    """Fabric's `ModelParallelStrategy`: `fabric.save("oss://...", state)` and `fabric.load` as with a local folder.

        Fabric(strategy=OssFabricModelParallelStrategy(spread), plugins=[OssCheckpointIO(ENDPOINT)])

    `state` has one model. Everything else is as in Lightning.
    """
