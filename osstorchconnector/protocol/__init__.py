"""The protocol of OSS: bytes in, values out. Nothing here does I/O, reads a clock or the environment, or uses chance.

The client and the emulator both stand on it and know nothing of each other::

      arguments of an operation              values: ObjectStat, ListPage, StoredObject ...
                |                                            ^
                | requests (a document: xml)                 | xml: the document, read by xml_tree
                v                                            | checksum: are these the bytes that OSS stored?
         values.Request                                      | answers: is this OSS's answer to this request?
                |                                            |
                | endpoint: server, host, target      ResponseHead, body
                | signing: the headers that sign it          ^
                v                                            | chunked: a body without a length
       method, target, headers                               | heads: parse_response_head
                |                                            |
                | heads: encode_head                         |
                v                                            |
         bytes to send  - - - - - - -> OSS - - - - - - > bytes received

Read in this order: `values`, `attributes`, `requests`, `endpoint`, `signing`, `heads`, `chunked`, `answers`, `xml`,
`xml_tree`, `checksum`. Three modules only save time: `get_heads` composes the bytes of GETs, `shapes` knows heads of a
shape that came before, and `repeats` knows requests that differ from an earlier one only in target and signature. A
server goes the same ways in the opposite direction (`parse_request_head`, `parse_authorization`,
`encode_response_head`).
"""
