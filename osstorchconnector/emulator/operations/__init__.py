"""What each OSS operation does: functions of service, call and received body, a module a family.

`buckets`, `objects` (symlinks among them), `attributes` (ACLs and tags), `restoring`, `copying`, `multipart`,
`posting` (forms), `listing`; `arguments` reads what several of them take.
"""
