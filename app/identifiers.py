"""Random ids that begin with the time, so that ids made one after the other are neighbours in an index.

With ids that are random from the first bit, each new row touches another page of the index. That is slow once the index
does not fit into the database's memory (see docs/decisions/ids-begin-with-the-time.md).
"""

import secrets
from time import time
from uuid import UUID


def timed_bytes(count: int) -> bytes:
    """Return 48 bits of time in milliseconds, then `count` random bytes."""
    return int(time() * 1000).to_bytes(6, "big") + secrets.token_bytes(count)


def new_uuid() -> UUID:
    """Return a new id: 48 bits of time, then 80 random bits."""
    return UUID(bytes=timed_bytes(10))
