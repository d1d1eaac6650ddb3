"""Official SDKs against the emulator: `make interop`.

`__main__` starts the emulator, fetches what is missing into `build/interop` and runs the programs `with_*`, once for
each version of the signature. Each is a list of steps with one SDK, and none of them knows this library; `steps` runs
those in Python. `keys.json` has the names that are hard to carry.
"""
