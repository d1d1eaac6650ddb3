"""Objects as files.

- reading: `reader` is the file, `source` the bytes behind it; `read_plan` plans requests, `read_ahead` holds what was
  fetched, `landing` fetches straight into the caller's memory, `coverage` sums up the CRC-64
- writing: `writer` is the file, `upload` its multipart upload, `parts` the sizes; `spooled_writer` is a file that
  can seek
- both: `named_file` is how a file names its object
- one object of a dataset: `data_object`
"""
