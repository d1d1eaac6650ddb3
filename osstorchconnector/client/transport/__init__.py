"""How requests reach a server: two transports behind the seam of `base`.

`direct` is a pool of `connection`s for the data path; `aio` carries the rest through aiohttp. `addresses` tells both
which address of a host to connect to.
"""
