"""The one-time token of a checkout form. It is signed, bound to what the form showed, and stored nowhere before use.

Its key becomes the charge's unique key in the database and the idempotency key at the gateway.
"""

from base64 import b32hexencode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import time
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

from app.identifiers import new_uuid, timed_bytes

FORMAT = 2
EARLIER_FORMAT = 1
"""It named the order by its counter, which a restored database uses again, and had a counter as version."""

LONGEST = 1000
"""Characters. A longer text can't be one of our tokens, so its signature is not checked."""


class BadToken(Exception):
    """The token is forged, cut short, or in a format that this program never made. Nothing was charged."""


@dataclass(frozen=True)
class Token:
    """What one showing of a checkout form offers to pay.

    `order_random_id` is None in tokens of the earlier format: such a form can't be paid any more. `amount` is in
    minor units of `currency`; `issued` is in seconds since 1970, UTC.
    """

    key: UUID
    order_random_id: UUID | None
    version: int
    buyer_id: UUID
    amount: int
    currency: str
    issued: int


def new_key() -> UUID:
    """Return a new key: 48 bits of time in milliseconds, then 80 random bits."""
    return new_uuid()


def new_receipt_id() -> str:
    """Return a new receipt id: 48 bits of time and 128 random bits as 36 characters, each of 0-9 and a-v.

    Earlier receipt ids, which stay valid, are UUIDs with hyphens, also 36 characters.
    """
    return b32hexencode(timed_bytes(16)).decode().rstrip("=").lower()


REFERENCE_LENGTH = 8


def reference(receipt_id: str) -> str:
    """Return eight random characters of a receipt id. A person can say them on the telephone, and logs show them."""
    return (receipt_id[:REFERENCE_LENGTH] if "-" in receipt_id else receipt_id[-REFERENCE_LENGTH:]).upper()


class Tokens:
    """Makes and reads tokens. The first secret signs; all secrets are accepted, so that secrets can be rotated."""

    def __init__(self, secret: str, fallbacks: Sequence[str] = ()) -> None:
        self._signer = URLSafeSerializer(
            [*reversed(fallbacks), secret], salt="checkout-token", signer_kwargs={"digest_method": sha256}
        )

    def make(self, *, order_random_id: UUID, version: int, buyer_id: UUID, amount: int, currency: str) -> str:
        """Return a new token for one showing of the form. Writes nothing."""
        payload = [FORMAT, new_key().hex, order_random_id.hex, version, buyer_id.hex, amount, currency, int(time())]
        return str(self._signer.dumps(payload))

    def read(self, text: str) -> Token:
        """Return the token in `text`, whatever its age: tokens do not expire.

        Raises BadToken if none of our secrets signed exactly this text.
        """
        if not 0 < len(text) <= LONGEST or not text.isascii() or not _is_canonical(text):
            raise BadToken
        try:
            form, key, order, version, buyer_id, amount, currency, issued = self._signer.loads(text)
        except (BadData, ValueError, TypeError):
            raise BadToken from None
        if form not in {FORMAT, EARLIER_FORMAT}:
            raise BadToken
        order_random_id = UUID(order) if form == FORMAT else None
        return Token(UUID(key), order_random_id, version, UUID(buyer_id), amount, currency, issued)


def _is_canonical(text: str) -> bool:
    """Base64 ignores some bits of its last character, so some changed signatures would still be accepted."""
    signature = text.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False
