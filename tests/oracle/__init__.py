"""moto's S3 with the face of OSS: a second opinion on how OSS behaves, which shares no code with the package.

    with oracle.serve() as oss:
        oss.create_bucket("bucket-1")
        oss2.Bucket(oss2.AuthV4(oss.access_key_id, oss.access_key_secret), oss.endpoint, "bucket-1", region=oss.region)

Semantics are moto's wherever S3 and OSS agree. Where they differ the modules here translate, each from plain values
to plain values; `server` and `moto_s3` alone do I/O.

    server       HTTP/1.1 on a loopback port, keep-alive, chunked bodies
    facade       one request in, one reply out: authenticate, dispatch, dress
    signature    signatures V1 and V4 as a server checks them
    objects  uploads  listings   the operations: check what OSS checks, ask moto, translate the answer
    rules        OSS's own rules on names, ranges, conditions
    checksum     CRC-64
    documents    XML: moto's with its namespace away, OSS's from values
    moto_s3      moto's WSGI application, called in this process, never over a network
    signed_http  a small signed client, for tests that look at the bytes on the wire
"""

from .process import OracleServer, serve

__all__ = ["OracleServer", "serve"]
