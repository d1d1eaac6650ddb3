"""How requests reach a server: two transports, `direct` and `aio`, behind the seam of `base`."""
