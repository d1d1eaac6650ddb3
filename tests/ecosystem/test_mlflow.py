"""Artifacts of MLflow on `oss://`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.testing import OssBucket

mlflow = pytest.importorskip("mlflow")

from mlflow.store.artifact import artifact_repository_registry as registry  # noqa: E402

from osstorchconnector.integrations.mlflow import OssArtifactRepository  # noqa: E402


@pytest.fixture
def repository(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The repository that MLflow makes for a URI, as the entry point lets it."""
    keys = oss_bucket.server.credentials
    monkeypatch.setenv("OSS_ENDPOINT", oss_bucket.endpoint)
    monkeypatch.setenv("OSS_REGION", oss_bucket.region)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", keys.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", str(keys.access_key_secret))
    monkeypatch.setitem(registry._artifact_repository_registry._registry, "oss", OssArtifactRepository)
    return registry.get_artifact_repository(f"{oss_bucket.uri}runs/7/artifacts")


def test_files_go_there_and_come_back(oss_bucket: OssBucket, repository: Any, tmp_path: Path) -> None:
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "loss.png").write_bytes(b"loss")
    (tmp_path / "plots" / "deep" / "a.png").write_bytes(b"a")
    repository.log_artifact(str(tmp_path / "plots" / "loss.png"))
    repository.log_artifacts(str(tmp_path / "plots"), "figures")
    assert oss_bucket.keys() == [
        "runs/7/artifacts/figures/deep/a.png",
        "runs/7/artifacts/figures/loss.png",
        "runs/7/artifacts/loss.png",
    ]
    listed = [(info.path, info.is_dir, info.file_size) for info in repository.list_artifacts()]
    assert listed == [("figures", True, None), ("loss.png", False, 4)]
    assert [info.path for info in repository.list_artifacts("figures")] == ["figures/deep", "figures/loss.png"]
    assert repository.list_artifacts("loss.png") == repository.list_artifacts("nothing") == []
    (tmp_path / "back").mkdir()
    repository.download_artifacts("figures", str(tmp_path / "back"))
    assert (tmp_path / "back" / "figures" / "deep" / "a.png").read_bytes() == b"a"
    repository.download_artifacts("loss.png", str(tmp_path / "back"))
    assert (tmp_path / "back" / "loss.png").read_bytes() == b"loss"


def test_removing(oss_bucket: OssBucket, repository: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for folder in (None, "b", "b/c"):
        repository.log_artifact(str(tmp_path / "a"), folder)
    repository.delete_artifacts("b")
    assert oss_bucket.keys() == ["runs/7/artifacts/a"]
    repository.delete_artifacts("nothing")
    repository.delete_artifacts()
    assert oss_bucket.keys() == []


def test_a_missing_artifact_is_named(repository: Any, tmp_path: Path) -> None:
    with pytest.raises(mlflow.exceptions.MlflowException, match="nothing"):
        repository.download_artifacts("nothing", str(tmp_path))
