"""The same work done by this library and by its peers, side by side: `python -m benchmarks`, or `make bench`.

values      what a work, a contender, a sample and a goal are
figures     medians, spreads and ratios of samples
report      results as a table, as Markdown, as JSON
gauge       wall, CPU and memory of a piece of work, measured where it runs
workshop    a process that imports what programs need and forks for each of them
crew        the workshops, one for each interpreter
site        the server: emulator, names, credentials, data
nginx       another server, where it is installed
runner      a work done by all contenders in turn
chart       results as pictures; runs where matplotlib is
programs/   what contenders do; runs in workshops, calls what users call
works/      which contenders do what with which data, and the goals
"""
