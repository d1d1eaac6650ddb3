"""What OSS's protocol is: bytes in, values out, no I/O. Client and emulator both stand on it.

- what travels: `values`
- a request on its way out: `requests` says what to ask, `signing` signs it, `endpoint` says where it goes, `heads`
  makes bytes of it
- an answer on its way in: `heads` and `chunked` read it, `answers` says whether it is OSS's and the one that was asked
  for, `xml` reads its document by `xml_tree`, `checksum` tells whether bytes are what OSS stored
"""
