"""What OSS's protocol is: bytes in, values out, no I/O. Client and emulator both stand on it.

- what travels: `values`, in `buffers`
- a request on its way out: `requests` says what to ask, `signing` signs it, `endpoint` says where it goes, `heads`
  makes bytes of it
- an answer on its way in: `heads` and `chunked` read it, `answers` says whether it is OSS's, `xml` reads its document
  by `xml_tree`, `page_order` whether a page of a listing follows the last, `checksum` whether bytes are what OSS stored
"""
