"""Read samples from tar files in OSS, with torchdata's `load_from_tar` (torchdata before 0.10)."""

from __future__ import annotations

import io
import tarfile
import warnings

from playground import playground

from osstorchconnector import OssClient
from osstorchconnector.datapipes import OssObjectLister

warnings.filterwarnings("ignore", message=r"[\s#]*WARNING!\s+The 'datapipes', 'dataloader2' modules are deprecated")


def shard(first: int) -> bytes:
    """Return a tar file of three samples."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(first, first + 3):
            text = f"sample {number}".encode()
            entry = tarfile.TarInfo(f"{number}.txt")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return file.getvalue()


def main() -> None:
    import torchdata.datapipes.iter  # noqa: F401  registers load_from_tar

    with playground("tar-shards") as oss:
        client = OssClient(**oss.options)
        for number in range(4):
            client.put(f"{oss.uri}shards/{number}.tar", shard(3 * number))

        shards = OssObjectLister(oss.uri + "shards/", client).shuffle_oss_objects(seed=1).shard_oss_objects()
        samples = shards.fetch_oss_objects(client).as_named_streams().load_from_tar()
        for path, stream in samples:
            print(path.rpartition(".tar/")[2], stream.read().decode())


if __name__ == "__main__":
    main()
