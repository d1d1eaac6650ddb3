"""What each OSS operation does, one module per family. A function gets the service, the call and the received body.

- `buckets`, `listing`: buckets, and what is in them
- `objects` (symlinks among them), `copying`, `multipart`, `posting` (forms that browsers send): bytes
- `attributes` (ACLs and tags), `restoring` (archived objects): what else an object has
- `arguments`: what several operations read from a request
"""
