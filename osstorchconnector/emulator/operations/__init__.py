"""What each OSS operation does: functions of service, call and received body, a module a family.

`buckets`, `objects`, `copying`, `multipart`, `listing`; `arguments` reads what several of them take.
"""
