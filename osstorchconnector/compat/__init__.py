"""The names of osstorchconnector 1.2.3, the C++ connector, on our client. Programs written for it run unchanged.

- `client` is the public `OssClient`: ours, with the arguments and methods of that one
- `members` are those of tars, by their numbers
- `objects` are what these methods return: objects that are read when somebody reads them, are written, or stand for an
  error

The modules `oss_checkpoint`, `oss_iterable_dataset`, `oss_map_dataset`, `oss_dcp_filesystem`, `oss_safetensor`,
`_oss_client`, `_oss_connector` and `_oss_bucket_iterable` of the package have the names that the modules of 1.2.3 have.
"""
