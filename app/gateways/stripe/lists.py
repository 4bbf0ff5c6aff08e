"""The provider's lists, and our keys in the metadata of what they contain."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from app.gateways.stripe.answers import ask

PAGE = 100
"""Items per page, which is the provider's largest number."""


def items(page: Any, params: dict[str, Any], last: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the items of one of the provider's lists, page after page. With `last`, begin after the item of this id."""
    after = {"starting_after": last} if last else {}
    while True:
        current = ask(partial(page, {"limit": PAGE} | params | after))
        found = current["data"]
        yield from found
        if not current.get("has_more") or not found:
            return
        after = {"starting_after": found[-1]["id"]}


def our_key(fields: Any, name: str) -> str | None:
    """Return our key in the provider's metadata, or None."""
    found = (fields.get("metadata") or {}).get(name)
    return found if isinstance(found, str) else None
