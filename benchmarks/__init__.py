"""The same work done by this library and by its peers, side by side: `python -m benchmarks`, or `make bench`.

values      what a work, a contender, a sample and a goal are                    pure
schedule    who is measured when                                                 pure
figures     medians, spreads and ratios of samples                               pure
report      results as a table, as Markdown, as JSON                             pure
gauge       wall, CPU and memory of a piece of work, measured where it runs
workshop    a process that imports what programs need and forks for each of them
crew        the workshops, one for each interpreter
site        the server: emulator, names, credentials, data
nginx       another server, where it is installed
runner      works done in turn by all who take part
chart       results as pictures; runs where matplotlib is
programs/   what contenders do; runs in workshops, calls what users call
works/      which contenders do what with which data, and what is to be reached
"""
