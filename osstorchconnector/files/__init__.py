"""Objects as files.

- reading: `reader` is the file, `source` the bytes behind it, which chooses how to get them; `blocks` are the bytes in
  memory, kept or read ahead; `object_requests` sends the requests that `read_plan` plans; `coverage` checks the whole
- writing: `writer` is the file, `upload` its multipart upload; `spooled_writer` is a file that
  can seek
- both: `named_file` is how a file names its object
- one object of a dataset: `data_object`
"""
