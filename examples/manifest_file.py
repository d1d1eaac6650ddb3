"""Objects and labels from a manifest file, on the local disk or in OSS, without a listing."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

from playground import playground, put_pictures

from osstorchconnector import OssCheckpoint, OssIterableDataset


def manifest_parser(reader: io.IOBase) -> Iterable[tuple[str, str]]:
    """Yield key and label of each line, `KEY LABEL` or `KEY`."""
    for line in reader.read().decode("utf-8").splitlines():
        key, _, label = line.strip().partition(" ")
        yield key, label


def main() -> None:
    with playground("manifest-file") as oss, tempfile.TemporaryDirectory() as folder:
        put_pictures(oss, 12)
        manifest = "".join(f"pictures/{number:05}.png label{number % 3}\n" for number in range(12))

        # 1) a local manifest; each object's URI is the base URI followed by the key
        path = Path(folder) / "manifest"
        path.write_text(manifest, encoding="utf-8")
        dataset = OssIterableDataset.from_manifest_file(str(path), manifest_parser, oss.uri, **oss.options)
        for item in dataset:
            print(item.key, item.label, len(item.read()))
            item.close()

        # 2) the same manifest as an object in OSS
        with OssCheckpoint(**oss.options).writer(oss.uri + "manifest") as writer:
            writer.write(manifest.encode())
        dataset = OssIterableDataset.from_manifest_file(oss.uri + "manifest", manifest_parser, oss.uri, **oss.options)
        print(sorted({item.label for item in dataset}))


if __name__ == "__main__":
    main()
