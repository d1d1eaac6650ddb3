"""What each OSS operation does, one module per family. A function gets the service, the call and the received body.
`OPERATIONS` has them all.

- `buckets`, `listing`: buckets, and what is in them
- `objects` (symlinks among them), `copying`, `multipart`, `posting` (forms that browsers send): bytes
- `attributes` (ACLs and tags), `restoring` (archived objects): what else an object has
- `arguments`: what several operations read from a request
"""

from __future__ import annotations

from collections.abc import Callable

from ..exchange import Call, Received, Reply
from ..service import Service
from . import attributes, buckets, copying, listing, multipart, objects, posting, restoring

Operation = Callable[[Service, Call, Received], Reply]

OPERATIONS: dict[str, Operation] = {
    **attributes.OPERATIONS,
    **buckets.OPERATIONS,
    **copying.OPERATIONS,
    **listing.OPERATIONS,
    **multipart.OPERATIONS,
    **objects.OPERATIONS,
    **posting.OPERATIONS,
    **restoring.OPERATIONS,
}
