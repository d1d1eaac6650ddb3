"""Objects as files.

- reading: `reader` is the file, `source` the bytes behind it; `read_plan` plans requests, `read_ahead` holds what was
  fetched, `coverage` sums up the CRC-64
- writing: `writer` is the file, `upload` its multipart upload; `spooled_writer` is a file that
  can seek
- both: `named_file` is how a file names its object
- one object of a dataset: `data_object`
"""
