"""Objects as binary files.

How a read flows, from the bytes that a caller wants to requests:

    reader --> source --> blocks --> object_requests <-- OSS     a small read: a block is copied from, or fetched;
      |          |                     |      |                  fetched ahead if the reader goes forward
      |          '------ direct -------'      v
      |                                    coverage              a large read goes straight into the caller's memory;
      '-- data_object: a small object is held whole              all bytes seen: the CRC-64 is checked

How a write flows, from a caller's bytes to an object:

    writer --> upload --> OSS                                    a part is sent when it is full, up to several at once;
      ^          ^                                               `close` makes the object appear
      |          '-- file_upload                                 blocks of memory that need not be copied
      '-- spooled_writer                                         written in any order, in a file, then front to back

The modules, in the order in which to read them:

- what all files share: `named_file`
- reading: `reader` is the file, `source` the bytes behind it, which chooses a way to get them; `blocks` are the bytes
  in memory, kept or read ahead; `read_plan` says which bytes to ask for, `object_requests` asks for them, `coverage`
  checks the whole
- writing: `publishing` says when an object appears; `writer` is the file, `part` what is in the part that is being
  filled, `upload` its multipart upload, `part_sizes` says how large the parts are; `spooled_writer` is a file that can
  seek; `file_upload` sends tensors where they stand
- one object of a dataset: `data_object`; of a large member of a tar: `span_reader`
"""
