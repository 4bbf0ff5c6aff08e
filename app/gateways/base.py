"""What the heart knows of a payment gateway: one small interface and the answers that it may give.

Every question carries the idempotency key and a time-out. Every question ends in a definite answer or
raises: `NotSent` (nothing left this machine) or `Unknown` (money may have moved, or not). There is no
third way, and "no answer" is never "declined".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from time import monotonic, sleep
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Outcome(StrEnum):
    """How a question under a key ended, as far as the gateway is concerned."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"
    REQUIRES_ACTION = "requires_action"


@dataclass(frozen=True)
class Card:
    """Card data on its way through: never stored, never logged, hence no repr."""

    number: str
    expiry: str
    cvc: str

    def __repr__(self) -> str:
        return "Card(…)"


@dataclass(frozen=True)
class Payment:
    """What a charge asks of a gateway. `amount` is in minor units of `currency` (ISO 4217)."""

    key: str
    amount: int
    currency: str
    return_url: str = ""
    """Where the gateway's page sends the shopper back to; only `charge` needs it."""
    reference: str | None = None
    """The gateway's own name for it, once learnt."""
    request: Mapping[str, Any] | None = None
    """The exact request as stored at the claim, where the gateway's `prepare` made one."""


@dataclass(frozen=True)
class Repayment:
    """What a refund asks of a gateway: `amount` minor units of `payment` back, under a key of its own."""

    key: str
    amount: int
    payment: Payment


@dataclass(frozen=True)
class Answer:
    """A definite answer for one key. `reason` is the gateway's code, such as "insufficient_funds"."""

    outcome: Outcome
    reference: str | None = None
    reason: str | None = None
    action_url: str | None = None


@dataclass(frozen=True)
class Movement:
    """One line of the gateway's statement: `kind` is "charge" or "refund", `amount` in minor units, `at` UTC."""

    key: str
    kind: str
    amount: int
    currency: str
    at: datetime


class NotSent(Exception):
    """The connection could not be opened: this attempt took nothing."""


class Unknown(Exception):
    """The gateway gave no definite answer for this key. `again` says whether asking at once can help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class NotPayable(Exception):
    """This total can't be paid at this gateway, so nothing was claimed or asked.

    `reason` is "too_little" (`limit`: the least that can be paid, in minor units), "too_much" (`limit`: the most),
    "step" (`limit`: totals must be multiples of it) or "insecure" (the shop was not reached by HTTPS).
    """

    def __init__(self, reason: str, limit: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.limit = reason, limit


class Deadline:
    """So many seconds from its making, for all the tries under one key together."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - monotonic())

    def pause(self, seconds: float) -> bool:
        """Wait before the next try; False, at once, where that would leave no time for one."""
        if self.left() <= seconds:
            return False
        sleep(seconds)
        return True


class Gateway(Protocol):
    """A payment gateway. Implementations hold no state that matters to correctness and never retry by themselves.

    Every method but `statement` takes `timeout`: the seconds in which it must have ended, connecting included.
    Every method raises `NotSent` or `Unknown` where it has no definite answer.
    """

    name: str
    account: str
    """Which account at the gateway: a charge is only ever recovered with the account that was asked."""
    takes_cards: bool
    """Whether card fields belong on our page (else the gateway has a page of its own)."""
    page_origin: str | None
    """The origin that `Answer.action_url` leads to, for the Content-Security-Policy."""

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Take the money, or say how it ended. The same key and request always get the same answer."""

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """What became of this key; None when the gateway has never heard of it."""

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """Fence the key, so that a request still on its way can never take money; answers whichever outcome won."""

    def refund(self, repayment: Repayment, timeout: float) -> Answer:
        """Give money back; `succeeded` or `declined`. The same key moves money once."""

    def lookup_refund(self, repayment: Repayment, timeout: float) -> Answer | None:
        """What became of this refund's key; None when the gateway has never heard of it."""

    def statement(self) -> Iterator[Movement]:
        """Every movement of money on the account, streamed in the gateway's own order."""


class Line(NamedTuple):
    """One line of an order, for the gateway's page. `price` is for one piece, in minor units."""

    name: str
    quantity: int
    price: int


@dataclass(frozen=True)
class Sale:
    """All that a request to a gateway with a page of its own is made of. `amount` is in minor units."""

    key: str
    amount: int
    currency: str
    order: int
    email: str
    return_url: str
    lines: Sequence[Line]


@runtime_checkable
class Hosted(Protocol):
    """A gateway whose own page takes the card. Its request is stored with the claim, to be repeated exactly."""

    def prepare(self, sale: Sale) -> Mapping[str, Any]:
        """The request, for `Payment.request`; asks nobody. Raises NotPayable."""


class About(StrEnum):
    """What a gateway's notice is about, as far as we follow it."""

    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    OTHER = "other"


@dataclass(frozen=True)
class Notice:
    """That something happened at the gateway. What is so now, the gateway is asked: notices come late and out of order.

    `key` is the payment's, `reference` the gateway's name for it, `text` what a merchant may read; `at` is UTC.
    """

    id: str
    kind: str
    about: About
    at: datetime
    key: str | None = None
    reference: str | None = None
    text: str | None = None


@dataclass(frozen=True)
class Refunded:
    """Money that went back at the gateway, asked for by us or by hand: `amount` in minor units."""

    key: str
    amount: int
    reference: str
    ours: bool


class BadNotice(Exception):
    """Not from the gateway: unsigned, wrongly or long ago signed, or unreadable."""


@runtime_checkable
class Notifier(Gateway, Protocol):
    """A gateway that tells by itself when something happens there (webhooks)."""

    def read_webhook(self, body: bytes, signature: str) -> Notice:
        """Check and read what arrived, without asking anybody. Raises BadNotice."""

    def key_of(self, notice: Notice, timeout: float) -> str | None:
        """The key of the payment that the notice is about; None: not one of ours. Raises NotSent or Unknown."""

    def refunds_of(self, payment: Payment, timeout: float) -> list[Refunded]:
        """All that went back of a payment. Raises NotSent or Unknown."""
