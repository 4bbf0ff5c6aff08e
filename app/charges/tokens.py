"""The one-time token of a checkout form: signed, bound to what was shown, and stored nowhere until it is used.

The 128 random bits in it become the charge's unique key in the database and the idempotency key at the gateway.
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
"""Characters. A longer text was never ours, and checking its signature would only cost time."""


class BadToken(Exception):
    """Forged, cut or of a format that this program never made. Nothing was charged."""


@dataclass(frozen=True)
class Token:
    """What a checkout form stands for. `amount` is in minor units of `currency`, `issued` in seconds since 1970 UTC."""

    key: UUID
    order: int
    version: int
    buyer: UUID
    amount: int
    currency: str
    issued: int


class Tokens:
    """Makes and reads tokens. The first secret signs, every secret is accepted, so that secrets can be rotated."""

    def __init__(self, secret: str, fallbacks: Sequence[str] = ()) -> None:
        self._signer = URLSafeSerializer(
            [*reversed(fallbacks), secret], salt="checkout-token", signer_kwargs={"digest_method": sha256}
        )

    def make(self, *, order: int, version: int, buyer: UUID, amount: int, currency: str) -> str:
        """A new token for one showing of the form; writes nothing."""
        payload = [FORMAT, uuid4().hex, order, version, buyer.hex, amount, currency, int(time())]
        return str(self._signer.dumps(payload))

    def read(self, text: str) -> Token:
        """Raises BadToken unless one of our secrets signed just this text. However old: tokens do not expire."""
        if not 0 < len(text) <= LONGEST or not text.isascii() or not _canonical(text):
            raise BadToken
        try:
            form, key, order, version, buyer, amount, currency, issued = self._signer.loads(text)
        except (BadData, ValueError, TypeError):
            raise BadToken from None
        if form != FORMAT:
            raise BadToken
        return Token(UUID(key), order, version, UUID(buyer), amount, currency, issued)


def _canonical(text: str) -> bool:
    """Base64 has spare bits at its end: without this, some changed signatures would still be read as right."""
    signature = text.rpartition(".")[2]
    try:
        return base64_encode(base64_decode(signature)).decode() == signature
    except BadData:
        return False
