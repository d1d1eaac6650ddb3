"""Lightning's checkpoints as objects: by a Trainer, by Fabric, and call by call."""

from __future__ import annotations

import io
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion

from osstorchconnector import OssClient, OssConfigError, OssNotFoundError, OssPermissionError, OssUriError
from osstorchconnector.integrations.lightning import OssAsyncCheckpointIO, OssCheckpointIO
from osstorchconnector.testing import OssBucket

lightning = pytest.importorskip("lightning", minversion="2.6")

from integrations.lightning.models import Squares, quiet_trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*exists and is not empty",
    "ignore:.*isinstance.treespec, LeafSpec.*is deprecated",
)


class Unknown:
    """Something that torch.load does not make with weights_only."""


def one(oss_bucket: OssBucket, **settings: Any) -> OssCheckpointIO:
    return OssCheckpointIO(**oss_bucket.options, **settings)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kind", [OssCheckpointIO, OssAsyncCheckpointIO])
def test_a_trainer_saves_and_goes_on(oss_bucket: OssBucket, kind: type[OssCheckpointIO]) -> None:
    def trainer(epochs: int) -> Any:
        saver = ModelCheckpoint(
            oss_bucket.uri + "run",
            "{epoch}",
            monitor="epochs",
            mode="max",
            save_top_k=2,
            save_last=True,
            enable_version_counter=False,
        )
        return quiet_trainer(max_epochs=epochs, callbacks=[saver], plugins=[kind(**oss_bucket.options)])

    first = trainer(3)
    model = Squares()
    first.fit(model)
    kept = ["run/epoch=1.ckpt", "run/epoch=2.ckpt", "run/last.ckpt"]
    assert oss_bucket.keys() == kept
    assert first.checkpoint_callback.best_model_path == oss_bucket.uri + "run/epoch=2.ckpt"

    second, other = trainer(4), Squares()
    second.fit(other, ckpt_path=oss_bucket.uri + "run/last.ckpt")
    assert second.global_step == 16 and second.current_epoch == 4
    assert oss_bucket.keys() == ["run/epoch=2.ckpt", "run/epoch=3.ckpt", "run/last.ckpt"]

    state = torch.load(io.BytesIO(oss_bucket.get("run/last.ckpt")), weights_only=True)["state_dict"]
    assert torch.equal(state["layer.weight"], other.layer.weight)


@pytest.mark.usefixtures("settled")
def test_fabric_saves_and_loads(oss_bucket: OssBucket) -> None:
    fabric = lightning.Fabric(accelerator="cpu", devices=1, plugins=[one(oss_bucket)])
    model = torch.nn.Linear(4, 2)
    module, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters()))
    fabric.backward(module(torch.ones(3, 4)).sum())
    optimizer.step()
    fabric.save(oss_bucket.uri + "state.ckpt", {"model": module, "optimizer": optimizer, "step": 7})
    weight = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.zero_()
    state = {"model": module, "optimizer": optimizer, "step": 0}
    assert fabric.load(oss_bucket.uri + "state.ckpt", state) == {}
    assert state["step"] == 7 and torch.equal(model.weight, weight)


def test_a_checkpoint_is_one_request_there_and_one_back(oss_bucket: OssBucket) -> None:
    plugin = one(oss_bucket)
    plugin.save_checkpoint({"weight": torch.ones(1000)}, oss_bucket.uri + "a.ckpt")
    assert torch.equal(plugin.load_checkpoint(oss_bucket.uri + "a.ckpt")["weight"], torch.ones(1000))
    log = [call.operation for call in oss_bucket.server.counters().log if call.key == "a.ckpt"]
    assert log == ["PutObject", "GetObject"]


def test_what_fails_leaves_the_old_checkpoint(oss_bucket: OssBucket) -> None:
    plugin, path = one(oss_bucket), oss_bucket.uri + "a.ckpt"
    plugin.save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        plugin.save_checkpoint({"weight": torch.ones(1000), "step": lambda: 2}, path)
    oss_bucket.server.fail("PutObject", "403", times=1)
    with pytest.raises(OssPermissionError, match="a.ckpt"):
        plugin.save_checkpoint({"step": 3}, path)
    assert plugin.load_checkpoint(path) == {"step": 1}


def test_an_older_torch_loads_nothing_but_weights_either(oss_bucket: OssBucket, monkeypatch: Any) -> None:
    plugin, path, given = one(oss_bucket), oss_bucket.uri + "a.ckpt", []
    plugin.save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(torch, "load", lambda file, *, weights_only, **options: given.append(weights_only))
    for version in ("2.5.1", "2.6.0"):
        monkeypatch.setattr(torch, "__version__", TorchVersion(version))
        for weights_only in (None, True, False):
            plugin.load_checkpoint(path, weights_only=weights_only)
    assert given == [True, True, False, None, True, False]


def test_loads_are_as_the_caller_wants_them(oss_bucket: OssBucket) -> None:
    plugin, path = one(oss_bucket), oss_bucket.uri + "a.ckpt"
    plugin.save_checkpoint({"weight": torch.ones(3), "other": Unknown()}, path)
    for arguments in ({}, {"weights_only": True}):
        with pytest.raises(pickle.UnpicklingError, match="Unknown"):
            plugin.load_checkpoint(path, **arguments)
    assert isinstance(plugin.load_checkpoint(path, weights_only=False)["other"], Unknown)
    assert plugin.load_checkpoint(path, "meta", False)["weight"].is_meta
    with pytest.raises(FileNotFoundError, match="nothing.ckpt"):
        plugin.load_checkpoint(oss_bucket.uri + "nothing.ckpt")


def test_a_checkpoint_is_removed_whether_it_is_an_object_or_a_folder(oss_bucket: OssBucket) -> None:
    plugin = one(oss_bucket)
    for key in ("a.ckpt", "a.ckpt-v1", "b.ckpt/.metadata", "b.ckpt/__0_0.distcp", "b.ckpt/meta.pt", "b.ckpt2"):
        oss_bucket.put(key, b"x")
    plugin.remove_checkpoint(oss_bucket.uri + "a.ckpt")
    plugin.remove_checkpoint(oss_bucket.uri + "b.ckpt/")
    plugin.remove_checkpoint(oss_bucket.uri + "nothing.ckpt")
    assert oss_bucket.keys() == ["a.ckpt-v1", "b.ckpt2"]
    gone = [call for call in oss_bucket.server.counters().log if call.operation.startswith("Delete")]
    assert [call.key for call in gone].index("b.ckpt/.metadata") < len(gone) - 2
    with pytest.raises(OssUriError):
        plugin.remove_checkpoint(f"oss://{oss_bucket.name}/")


def test_paths_of_this_machine_are_lightnings_own_matter(oss_bucket: OssBucket, tmp_path: Path) -> None:
    plugin, path = one(oss_bucket), tmp_path / "a.ckpt"
    plugin.save_checkpoint({"step": 1}, path)
    assert plugin.load_checkpoint(path) == {"step": 1} and path.is_file()
    plugin.remove_checkpoint(path)
    assert not path.exists() and oss_bucket.keys() == []


def test_a_uri_that_was_a_path_for_a_moment(oss_bucket: OssBucket) -> None:
    plugin = one(oss_bucket)
    plugin.save_checkpoint({"step": 1}, Path(oss_bucket.uri) / "a.ckpt")
    assert plugin.load_checkpoint(oss_bucket.uri + "a.ckpt") == {"step": 1}


def test_storage_options_are_settings_for_one_checkpoint(oss_bucket: OssBucket) -> None:
    plugin = OssCheckpointIO("http://127.0.0.1:1")
    plugin.save_checkpoint({"step": 1}, oss_bucket.uri + "a.ckpt", storage_options=oss_bucket.options)
    assert one(oss_bucket).load_checkpoint(oss_bucket.uri + "a.ckpt") == {"step": 1}
    with pytest.raises(OssConfigError, match="no option 'acl'; there are endpoint, region"):
        plugin.save_checkpoint({"step": 1}, oss_bucket.uri + "a.ckpt", storage_options={"acl": "public-read"})


def test_a_client_has_its_settings_already(oss_bucket: OssBucket) -> None:
    client = OssClient(**oss_bucket.options)
    plugin = OssCheckpointIO(client)
    assert plugin.client is client
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        OssCheckpointIO(client, cred_path=oss_bucket.cred_path)
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        plugin.save_checkpoint({}, oss_bucket.uri + "a.ckpt", {"endpoint": client, "region": oss_bucket.region})


def test_without_credentials_nothing_is_signed(oss_bucket: OssBucket) -> None:
    uri, nobody = oss_bucket.uri + "a.ckpt", {**oss_bucket.options, "cred_path": "", "anonymous": True}
    one(oss_bucket).save_checkpoint({"step": 1}, uri)
    with pytest.raises(OssPermissionError):
        OssCheckpointIO(**nobody).load_checkpoint(uri)
    with pytest.raises(OssPermissionError):
        one(oss_bucket).save_checkpoint({"step": 2}, uri, storage_options=nobody)
    assert one(oss_bucket).load_checkpoint(uri) == {"step": 1}


def test_it_travels_without_secrets(oss_bucket: OssBucket) -> None:
    for plugin in (one(oss_bucket), OssAsyncCheckpointIO(**oss_bucket.options)):
        pickled = pickle.dumps(plugin)
        assert oss_bucket.server.credentials.access_key_secret.encode() not in pickled
        copied = pickle.loads(pickled)
        copied.save_checkpoint({"step": 1}, oss_bucket.uri + "a.ckpt")
        assert copied.load_checkpoint(oss_bucket.uri + "a.ckpt") == {"step": 1}
        copied.teardown()


def test_a_copy_is_stored_while_training_changes_the_weights(oss_bucket: OssBucket) -> None:
    plugin, weight = OssAsyncCheckpointIO(**oss_bucket.options), torch.ones(1000)
    for step in range(5):
        weight.fill_(step)
        plugin.save_checkpoint({"weight": weight, "steps": [step]}, f"{oss_bucket.uri}{step}.ckpt")
    weight.fill_(-1)
    for step in range(5):
        found = plugin.load_checkpoint(f"{oss_bucket.uri}{step}.ckpt")
        assert torch.equal(found["weight"], torch.full((1000,), float(step))) and found["steps"] == [step]
    plugin.teardown()


def test_an_error_comes_later_and_nothing_is_removed_meanwhile(oss_bucket: OssBucket) -> None:
    plugin = OssAsyncCheckpointIO(**oss_bucket.options)
    plugin.save_checkpoint({"step": 1}, oss_bucket.uri + "1.ckpt")
    plugin.teardown()
    oss_bucket.server.fail("PutObject", "403", times=1)
    plugin.save_checkpoint({"step": 2}, oss_bucket.uri + "2.ckpt")
    plugin.remove_checkpoint(oss_bucket.uri + "1.ckpt")
    with pytest.raises(OssPermissionError, match="2.ckpt"):
        plugin.teardown()
    assert oss_bucket.keys() == ["1.ckpt"]
    plugin.save_checkpoint({"step": 3}, oss_bucket.uri + "3.ckpt")
    plugin.remove_checkpoint(oss_bucket.uri + "1.ckpt")
    plugin.teardown()
    assert oss_bucket.keys() == ["3.ckpt"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("oss-lightning")]
    with pytest.raises(OssConfigError, match="in_flight=0"):
        OssAsyncCheckpointIO(in_flight=0, **oss_bucket.options)


@pytest.mark.usefixtures("settled")
def test_an_error_of_a_save_reaches_the_one_who_trains(oss_bucket: OssBucket) -> None:
    saver = ModelCheckpoint(oss_bucket.uri + "run")
    trainer = quiet_trainer(max_epochs=1, callbacks=[saver], plugins=[OssAsyncCheckpointIO(**oss_bucket.options)])
    oss_bucket.server.fail("PutObject", "403", times=1)
    with pytest.raises(OssPermissionError, match="run/"):
        trainer.fit(Squares())


def test_a_missing_checkpoint_says_so(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssNotFoundError, match="run/last.ckpt"):
        quiet_trainer(max_epochs=1, plugins=[one(oss_bucket)]).fit(
            Squares(), ckpt_path=oss_bucket.uri + "run/last.ckpt"
        )
