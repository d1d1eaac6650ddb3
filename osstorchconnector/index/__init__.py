"""Which objects there are, and in which order: one table that all processes of a job read.

    listing, manifest, names or saved index           (a `Source` yields batches of rows)
        |  `filters.Filtered`                         what a filter leaves out gets no number
        v
    `shared_file.IndexWriter` --appends--> file       one process of the job writes it,
        |                                             as `layout` lays it out; `held_file` keeps it alive
        v
    `shared.SharedIndex` <--`shared_file.IndexReader` all processes map it, while it grows
        |  `orders.ordered`                           arithmetic: shuffled, what was taken left out, balanced
        v
    `orders.Share`                                    every n-th number: what one worker of one rank reads

- `chunks` has orders that keep neighbours together, for tars
- `labels` is how a label is stored; `classes` makes numbers of labels, and tells those of a whole table
- `info` is a row of the table, `fixed` a table of names that are known from the start, in memory
- `tar_places` is where rows lie that are members of tars
- `shared` also has the few numbers that the processes of a job share

Read `filters` and `orders`, then `shared`, `shared_file`, `layout`, `held_file`. Nothing here imports the client or
torch.
"""
