"""Artifacts of MLflow in OSS: runs whose artifact location is `oss://bucket/folder`.

MLflow finds this class by an entry point, so nothing needs to be imported:

    mlflow.create_experiment("training", artifact_location="oss://bucket/artifacts")

OSS_ENDPOINT or OSS_REGION names the endpoint, and the credentials come from the environment.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from ..filesystem import OssFileSystem
from ..optional import unavailable

try:
    from mlflow.entities import FileInfo
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
except Exception as error:  # missing, too old or broken
    ArtifactRepository = unavailable(__name__, "mlflow-skinny>=3", error)


class OssArtifactRepository(ArtifactRepository):
    """The artifacts below one `oss://bucket/folder`.

    Paths of artifacts are relative to it. Several files are transferred at a time, and each appears whole. Errors are
    those of `OssFileSystem`; a missing artifact is a `FileNotFoundError`.
    """

    def __init__(self, artifact_uri: str, *arguments: Any, **options: Any) -> None:
        super().__init__(artifact_uri, *arguments, **options)
        self._fs = OssFileSystem(use_listings_cache=False)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file, into the directory `artifact_path` if it is given."""
        self._fs.put_file(local_file, posixpath.join(self._at(artifact_path), Path(local_file).name))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload all files below a directory, into the directory `artifact_path` if it is given."""
        self._fs.put(f"{local_dir}/", f"{self._at(artifact_path)}/", recursive=True)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what is directly below a path, by name; nothing for an artifact or for what does not exist."""
        place = self._at(path)
        if not self._fs.isdir(place):
            return []
        start = len(self._fs._strip_protocol(self.artifact_uri)) + 1
        return [
            FileInfo(entry["name"][start:], entry["type"] == "directory", entry["size"] or None)
            for entry in self._fs.ls(place, detail=True)
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._fs.get_file(self._at(remote_file_path), local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove an artifact, or all below a directory; nothing happens if there is none."""
        if self._fs.exists(self._at(artifact_path)):
            self._fs.rm(self._at(artifact_path), recursive=True)

    def _at(self, path: str | None) -> str:
        return posixpath.join(self.artifact_uri.rstrip("/"), path) if path else self.artifact_uri.rstrip("/")
