"""Somewhere for the examples to work: an emulated OSS on this machine, or a bucket of yours.

The emulator is used unless OSS_ENDPOINT is set. Then these count:

    OSS_ENDPOINT   such as https://oss-cn-beijing.aliyuncs.com
    OSS_BUCKET     a bucket that exists; the examples write under osstorchconnector-examples/ and clean up
    OSS_REGION     such as cn-beijing, where the endpoint does not tell it
    OSS_CRED_PATH  a JSON credential file, or else OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN
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
    """A folder in a bucket, `uri`, and the `options` that every class of the connector takes to get there."""

    uri: str
    options: dict[str, str]


@contextmanager
def playground(name: str) -> Iterator[Playground]:
    """Give a fresh, empty folder for the example `name`; it is gone afterwards."""
    folder = f"osstorchconnector-examples/{name}-{uuid.uuid4().hex[:8]}/"
    with _bucket() as (bucket, options):
        place = Playground(f"oss://{bucket}/{folder}", options)
        try:
            yield place
        finally:
            _empty(place, bucket)


@contextmanager
def _bucket() -> Iterator[tuple[str, dict[str, str]]]:
    """Give a bucket's name and how to get there."""
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


def _empty(place: Playground, bucket: str) -> None:
    """Delete what lies in the playground's folder."""
    client = OssClient(**place.options)
    client.delete_many(bucket, [found.key for found in client.list(place.uri)])
    client.close()


def put_pictures(place: Playground, count: int) -> list[str]:
    """Put `count` small pictures, each of another colour, into the playground; return their URIs."""
    from PIL import Image  # which examples without pictures need not have

    client = OssClient(**place.options)
    uris = [f"{place.uri}pictures/{number:05}.png" for number in range(count)]
    for number, uri in enumerate(uris):
        file = io.BytesIO()
        Image.new("RGB", (64, 48), (255 * number // count, 128, 64)).save(file, "PNG")
        client.put(uri, file.getvalue())
    client.close()
    return uris
