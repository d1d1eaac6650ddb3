"""Tars of samples: their headers, and the index that says where the members are. Nothing here imports torch.

- `headers`: what a tar's blocks say, read from any bytes within bounds
- `index_file`: the file that lists where members are, in the C++ connector's format
"""
