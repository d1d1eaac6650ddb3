"""What each OSS operation does: functions of service, call and received body, a module a family.

`buckets`, `objects`, `attributes` (ACLs and tags), `symlinks`, `restoring`, `copying`, `multipart`, `posting` (forms),
`listing`; `arguments` reads what several of them take.
"""
