"""How requests reach a server: two transports behind the seam of `base.py`."""
