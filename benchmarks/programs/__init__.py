"""What contenders do. A program is a generator: it sets up, yields, works, yields a `Done`, and cleans up.

This library and the C++ connector have the same programs, since they have the same names and arguments; the
interpreter decides which of both is imported.
"""
