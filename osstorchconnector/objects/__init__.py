"""Objects as files, and the one table that says which objects there are.

- reading: `reader` is the file, `source` the bytes behind it; `ranges` plans requests, `blocks` holds what was fetched
  ahead, `landing` fetches straight into the caller's memory, `coverage` sums up the CRC-64
- writing: `writer` is the file, `upload` its multipart upload, `parts` the sizes; `spooled_writer` is a file that
  can seek
- both: `flight` lets go of memory before it is given back; `named` is how a file names its object
- one object of a dataset: `data_object`
- which objects there are: `info` is a row, `index` the table that processes share (`index_layout`, `index_file`,
  `index_filling`, `claims`), `fixed_index` one in memory, `filters` and `views` what is left out and in which order,
  by the arithmetic of `shuffle`; `shared_numbers` is what processes tell each other besides
"""
