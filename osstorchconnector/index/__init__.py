"""Which objects there are, and in which order: one table that all processes of a job share. No client, no torch.

- `info` is a row; `shared` is the table (`layout`, `shared_file`, `claims`), `fixed` one in memory
- `filters` says what is left out, `orders` in which order the rest comes
"""
