"""What contenders do. A program is a generator: it sets up, yields, works, yields what it did, and tidies up.

This library's and the C++ connector's are the same programs: they have the same names and arguments, and the
interpreter decides whose they are.
"""
