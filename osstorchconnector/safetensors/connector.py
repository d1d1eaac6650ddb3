"""Files of tensors on OSS, in the safetensors format."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..client.client import OssClient, as_client
from ..errors import OssIntegrityError
from ..tensors.isolation import outside_contexts
from ..uri import parse_object_uri
from .failures import OssSafetensorError
from .opened import OpenedSafetensors
from .saving import save

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger(__name__)


class OssSafetensor:
    """Loads and saves tensors as safetensors files.

        files = OssSafetensor("https://oss-cn-beijing.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
        files.save_file(model.state_dict(), "oss://bucket/model.safetensors")
        state = files.load_file("oss://bucket/model.safetensors")
        with files.safe_open("oss://bucket/model.safetensors") as file:
            rows = file.get_slice("embedding.weight")[1000:2000]

    - `endpoint`: the URL of OSS, or an `OssClient`, which then has all other settings
    - `cred_path`: the file with the credentials; or `cred_provider`: an object that returns them; or
      `anonymous=True`: none, requests are not signed
    - `config_path`: the file with the configuration
    - `region`: the bucket's region, where the endpoint's name does not tell it

    Raises `OssConfigError` for settings that are wrong. It can be pickled, and used by several threads. Its methods run
    outside the torch contexts that are switched on: a default device or dtype, modes, `inference_mode`.
    """

    def __init__(
        self,
        endpoint: str | OssClient,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object | None = None,
        region: str = "",
        *,
        anonymous: bool = False,
    ) -> None:
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)

    def __repr__(self) -> str:
        return f"OssSafetensor({self._client.endpoint!r})"

    @outside_contexts
    def safe_open(self, oss_uri: str, device: str | int | torch.device = "cpu") -> OpenedSafetensors:
        """Open the file `oss://bucket/key`: read its header, and check it. Use the result in a `with` block.

        Tensors will be on `device`. Raises `OssSafetensorError`, also a `safetensors.SafetensorError`, if the object is
        no valid file; `OssUriError` if `oss_uri` names no object; and the errors of `OssReader`.
        """
        return OpenedSafetensors(self._client, parse_object_uri(oss_uri), device)

    def load_file(self, oss_uri: str, device: str | int | torch.device = "cpu") -> dict[str, torch.Tensor]:
        """Return all tensors of the file `oss://bucket/key`, by name, in the order of its header.

        Their bytes are received straight into their memory, with many requests at a time, and checked against the
        CRC-64 that OSS has for the object; if that is wrong, or the header, all is received once more. For another
        `device` than the CPU they pass through up to 48 MiB of buffers. Raises as `safe_open` does,
        `OssIntegrityError` for wrong bytes, and `OssObjectChangedError` if the object is replaced meanwhile.
        """
        try:
            return self._load(oss_uri, device)
        except (OssIntegrityError, OssSafetensorError) as error:  # a header may be wrong for what the network did
            _logger.warning("%s: it is loaded once more", error)
        return self._load(oss_uri, device)

    @outside_contexts
    def save_file(self, tensors: dict[str, torch.Tensor], oss_uri: str, metadata: dict[str, str] | None = None) -> None:
        """Store tensors as the file `oss://bucket/key`, with texts beside them; an old object is replaced at the end.

        The file has the bytes that the safetensors library would write. They are sent from the tensors' memory: change
        none of them meanwhile. Before anything is sent this raises

        - `ValueError` for a tensor that is not contiguous, sparse, without content, or of a dtype that the format
          lacks, and for what is no dict of tensors
        - `RuntimeError` for tensors that share memory
        - `TypeError` for names and metadata that are no texts
        - `OssUriError` if `oss_uri` names no object

        and later the errors of `OssWriter`: then the old object, if there is one, stays as it was.
        """
        save(self._client, parse_object_uri(oss_uri), tensors, metadata)

    def _load(self, oss_uri: str, device: str | int | torch.device) -> dict[str, torch.Tensor]:
        with self.safe_open(oss_uri, device) as file:
            return file.get_tensors()
