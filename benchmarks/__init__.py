"""The same work done by this library and by its peers, side by side: `python -m benchmarks`, or `make bench`.

values      what a work, a contender, a sample and a goal are
figures     medians, spreads and ratios of samples
report      results as tables, for a terminal and as Markdown
plots       the values of charts
runs        results with their machine, as JSON files
summary     the runs of several machines side by side
page        writes published runs into the pages: `make figures`
budget      a limit of time for all works
gauge       wall time, CPU time and memory of a piece of work, measured in its process
workshop    a process that imports the packages of the programs and forks for each program
crew        the workshops, one per interpreter
site        the server: emulator, host names, credentials, data
nginx       another server, where it is installed
runner      a work done by all contenders in turn
drawing     starts chart, the script that draws, in the environment that has matplotlib
programs/   what contenders do; runs in workshops, uses the public API
works/      which contenders do what with which data, and the goals
"""
