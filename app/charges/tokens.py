"""The one-time token of a checkout form. It is signed, bound to what the form showed, and stored nowhere before use.

Its 128 random bits become the charge's unique key in the database and the idempotency key at the gateway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from time import time
from uuid import UUID, uuid4

from itsdangerous import BadData, URLSafeSerializer
from itsdangerous.encoding import base64_decode, base64_encode

FORMAT = 1
LONGEST = 1000
"""Characters. A longer text can't be one of our tokens, so its signature is not checked."""


class BadToken(Exception):
    """The token is forged, cut short, or in a format that this program never made. Nothing was charged."""


@dataclass(frozen=True)
class Token:
    """What one showing of a checkout form offers to pay.

    `amount` is in minor units of `currency`; `issued` is in seconds since 1970, UTC.
    """

    key: UUID
    order_id: int
    version: int
    buyer_id: UUID
    amount: int
    currency: str
    issued: int


class Tokens:
    """Makes and reads tokens. The first secret signs; all secrets are accepted, so that secrets can be rotated."""

    def __init__(self, secret: str, fallbacks: Sequence[str] = ()) -> None:
        self._signer = URLSafeSerializer(
            [*reversed(fallbacks), secret], salt="checkout-token", signer_kwargs={"digest_method": sha256}
        )

    def make(self, *, order_id: int, version: int, buyer_id: UUID, amount: int, currency: str) -> str:
        """Return a new token for one showing of the form. Writes nothing."""
        payload = [FORMAT, uuid4().hex, order_id, version, buyer_id.hex, amount, currency, int(time())]
        return str(self._signer.dumps(payload))

    def read(self, text: str) -> Token:
        """Return the token in `text`, whatever its age: tokens do not expire.

        Raises BadToken if none of our secrets signed exactly this text.
        """
        if not 0 < len(text) <= LONGEST or not text.isascii() or not _is_canonical(text):
            raise BadToken
        try:
            form, key, order_id, version, buyer_id, amount, currency, issued = self._signer.loads(text)
        except (BadData, ValueError, TypeError):
            raise BadToken from None
        if form != FORMAT:
            raise BadToken
        return Token(UUID(key), order_id, version, UUID(buyer_id), amount, currency, issued)


def _is_canonical(text: str) -> bool:
    """Base64 ignores some bits of its last character, so some changed signatures would still be accepted."""
    signature = text.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False
