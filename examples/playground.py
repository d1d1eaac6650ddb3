"""Where the examples run: an emulated OSS on this machine, or your own bucket.

The emulator is used unless OSS_ENDPOINT is set. For your own bucket, set these environment variables:

    OSS_ENDPOINT   such as https://oss-cn-beijing.aliyuncs.com
    OSS_BUCKET     a bucket that exists; the examples write under osstorchconnector-examples/ and clean up
    OSS_REGION     such as cn-beijing; needed if the endpoint does not contain the region
    OSS_CRED_PATH  a JSON credential file; or set OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN
"""

from __future__ import annotations

import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from osstorchconnector import OssClient, emulator


@dataclass(frozen=True)
class Playground:
    """A folder in a bucket, `uri`, and the `options` that every class of the connector needs to access it."""

    uri: str
    options: dict[str, str]


@contextmanager
def playground(name: str) -> Iterator[Playground]:
    """Yield a new, empty folder for the example `name`, and delete it afterwards."""
    folder = f"osstorchconnector-examples/{name}-{uuid.uuid4().hex[:8]}/"
    with _bucket() as (bucket, options):
        oss = Playground(f"oss://{bucket}/{folder}", options)
        try:
            yield oss
        finally:
            _empty(oss, bucket)


@contextmanager
def _bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a bucket's name and the options to access it."""
    if "OSS_ENDPOINT" in os.environ:
        yield (
            os.environ["OSS_BUCKET"],
            {
                "endpoint": os.environ["OSS_ENDPOINT"],
                "region": os.environ.get("OSS_REGION", ""),
                "cred_path": os.environ.get("OSS_CRED_PATH", ""),
            },
        )
        return
    with emulator.serve(buckets=["examples"]) as server, tempfile.TemporaryDirectory() as folder:
        cred_path = server.credentials_file(folder)
        yield "examples", {"endpoint": server.endpoint, "region": server.region, "cred_path": cred_path}


def _empty(oss: Playground, bucket: str) -> None:
    """Delete all objects in the playground's folder."""
    client = OssClient(**oss.options)
    client.delete_many(bucket, [found.key for found in client.list(oss.uri)])
    client.close()


def put_pictures(oss: Playground, count: int) -> list[str]:
    """Put `count` small pictures, each of another colour, into the playground; return their URIs."""
    from PIL import Image  # examples without pictures do not need it

    client = OssClient(**oss.options)
    uris = [f"{oss.uri}pictures/{number:05}.png" for number in range(count)]
    for number, uri in enumerate(uris):
        file = io.BytesIO()
        Image.new("RGB", (64, 48), (255 * number // count, 128, 64)).save(file, "PNG")
        client.put(uri, file.getvalue())
    client.close()
    return uris
