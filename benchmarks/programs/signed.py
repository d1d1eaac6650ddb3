"""Requests signed in advance, for clients that can't sign and for measurements without signing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.values import Keys
from osstorchconnector.credentials import Credentials
from osstorchconnector.protocol.heads import encode_head
from osstorchconnector.protocol.requests import get_object
from osstorchconnector.protocol.signing import V4Signer, encode_key
from osstorchconnector.protocol.values import ByteSpan


def signed_gets(keys: Keys, host: str, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
    """Return a request head for each (key, start, stop); `keys` is the value of `Site.keys`."""
    credentials = Credentials(access_key_id=keys["key_id"], access_key_secret=keys["secret"])
    signer, now, bucket = V4Signer(credentials, keys["region"]), int(time.time()), keys["bucket"]
    heads = []
    for key, start, stop in wanted:
        request = get_object(bucket, key, ByteSpan(start, stop))
        headers = [("host", host), *request.headers, *signer.sign(request, now)]
        heads.append(encode_head("GET", f"{keys['path']}/{encode_key(key)}", headers))
    return heads
