"""Official SDKs against the emulator: `make interop`.

`__main__` starts the emulator, installs missing SDKs into `build/interop`, and runs the programs `with_*`, once per
signature version. Each program is a list of steps with one SDK and does not use this library; `steps` runs those in
Python. `keys.json` has keys that are hard to encode.
"""
