"""The interface between the core and a payment gateway: questions, answers, and the two ways to have no answer.

Every question carries the idempotency key and a time-out. It returns a definite answer or raises: `NotSent` (nothing
left this machine) or `Unknown` (money may have moved, or not). There is no third way, and a missing answer is never
a decline.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from time import monotonic, sleep
from typing import Any, NamedTuple, Protocol, runtime_checkable

from app.gateways.events import BadEvent as BadEvent  # The core imports all of these from here.
from app.gateways.events import EventSubject as EventSubject
from app.gateways.events import GatewayDispute as GatewayDispute
from app.gateways.events import GatewayEvent as GatewayEvent

KEYS_LAST = 24 * 3600.0
"""The least number of seconds for which a gateway knows a refund's key. A later copy of the request may pay again."""


class Outcome(StrEnum):
    """How a question under a key ended, according to the gateway."""

    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    CANCELED = "canceled"
    REQUIRES_ACTION = "requires_action"


@dataclass(frozen=True)
class Card:
    """Card data that is passed on to the gateway. It is never stored or logged, so it has no telling repr."""

    number: str
    expiry: str
    cvc: str

    def __repr__(self) -> str:
        return "Card(…)"


@dataclass(frozen=True)
class Payment:
    """A charge as the gateway sees it. `amount` is in minor units of `currency` (ISO 4217)."""

    key: str
    amount: int
    currency: str
    return_url: str = ""
    """Where the gateway's page sends the shopper back to. Only `charge` needs it."""
    gateway_reference: str | None = None
    """The gateway's own id for the payment, once it is known."""
    gateway_request: Mapping[str, Any] | None = None
    """The exact request, stored at the claim, if the gateway has a `prepare` method."""
    order_random_id: str | None = None
    """What the shop calls the order. Only `charge` needs it."""


@dataclass(frozen=True)
class RefundRequest:
    """A refund as the gateway sees it: `amount` minor units of `payment`, under a key of its own."""

    key: str
    amount: int
    payment: Payment


@dataclass(frozen=True)
class Answer:
    """A definite answer for one key. `reason` is the gateway's code, such as "insufficient_funds"."""

    outcome: Outcome
    gateway_reference: str | None = None
    reason: str | None = None
    action_url: str | None = None
    this_request_only: bool = False
    """True if it only says what this request did, because it was refused or not sent. Another request under the same
    key may have taken money."""
    message: str | None = None
    """The gateway's own words when it refused, for the merchant."""
    request_id: str | None = None
    """The gateway's id of the request that it refused, for its support."""


@dataclass(frozen=True)
class StatementEntry:
    """One line of the gateway's statement. `amount` is in minor units and positive, `at` in UTC.

    `kind` is "charge", "refund", "refund_failed" (the money came back), "dispute" (withdrawn from the shop),
    "dispute_reversed" or "fee". `key` is the refund's for the refund kinds, otherwise the charge's.
    `shop_id` is the SHOP_ID that it bears; None for lines of an earlier version and for what was not made by a shop.
    `payment_reference` is the same for a charge and its refunds. `gateway_reference` is the gateway's own id, if
    it has one besides the key.
    """

    key: str
    kind: str
    amount: int
    currency: str
    at: datetime
    shop_id: str | None = None
    payment_reference: str | None = None
    gateway_reference: str | None = None


class NotSent(Exception):
    """The connection could not be opened: this attempt took no money."""


class Unknown(Exception):
    """The gateway gave no definite answer for this key. `again` says whether asking again at once can help.

    If it answered with an error, `message` and `request_id` are its own. `alarm` says that a person must look.
    """

    message: str | None = None
    request_id: str | None = None
    alarm = False

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again


class Contradiction(Unknown):
    """The gateway knows the key, but with another amount or currency. A person must find out why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, again=False)


class NotPayable(Exception):
    """This total can't be paid at this gateway. Nothing was claimed and the gateway was not asked.

    `reason` is "too_little" (`limit`: the least that can be paid, in minor units), "too_much" (`limit`: the most),
    "step" (`limit`: totals must be multiples of it) or "insecure" (the page was not loaded over HTTPS).
    """

    def __init__(self, reason: str, limit: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.limit = reason, limit


class Deadline:
    """A point in time, `seconds` from now, shared by all tries under one key."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never negative."""
        return max(0.0, self._end - monotonic())

    def pause(self, seconds: float) -> bool:
        """Wait before the next try. Return False at once if that would leave no time for it."""
        if self.left() <= seconds:
            return False
        sleep(seconds)
        return True


class Gateway(Protocol):
    """A payment gateway. Implementations hold no state that correctness depends on, and never retry by themselves.

    Every method but `statement` takes `timeout`, the seconds in which it must end, connecting included.
    Every method raises `NotSent` or `Unknown` if it has no definite answer.
    """

    name: str
    account: str
    """The account at the gateway. A charge is only ever looked up with the account that it was made with."""
    takes_cards: bool
    """True if card fields belong on our page, False if the gateway has a payment page of its own."""
    page_origin: str | None
    """The origin of `Answer.action_url`, for the Content-Security-Policy."""

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Take the money and return the outcome. The same key and request always get the same answer.

        If the gateway refuses the request itself, for example because its account is not activated, the answer is
        CANCELED for `this_request_only`: the gateway may not store such a refusal for the key.
        """

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """Return what became of the key; None if the gateway has never seen it."""

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """Fence the key, so that a request that arrives later can never take money. Return the outcome that won.

        Like `lookup`, it raises Contradiction if the key took another amount.
        """

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        """Give money back and return SUCCEEDED or DECLINED. The same key moves money once, for KEYS_LAST at least."""

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """Return what became of the refund's key; None if the gateway has never seen it."""

    def statement(self) -> Iterator[StatementEntry]:
        """Yield every movement of money on the account, in the gateway's order."""


class PaymentLine(NamedTuple):
    """One line of an order, for the gateway's page. `price` is per piece, in minor units."""

    name: str
    quantity: int
    price: int


@dataclass(frozen=True)
class HostedPayment:
    """What a gateway with a payment page of its own needs to know. `amount` is in minor units."""

    key: str
    amount: int
    currency: str
    order_id: int
    order_random_id: str
    email: str
    return_url: str
    lines: Sequence[PaymentLine]


@runtime_checkable
class HostedGateway(Protocol):
    """A gateway with a payment page of its own. Its request is stored with the claim, to be repeated exactly."""

    def prepare(self, payment: HostedPayment) -> Mapping[str, Any]:
        """Return the request for `Payment.gateway_request` without asking the gateway. Raises NotPayable."""


@dataclass(frozen=True)
class GatewayRefund:
    """A refund at the gateway, made at our request or by hand. `amount` is in minor units.

    `outcome` is None while the gateway has not decided. DECLINED may follow SUCCEEDED: the money came back.
    """

    key: str
    amount: int
    gateway_reference: str
    ours: bool
    outcome: Outcome | None = Outcome.SUCCEEDED
    reason: str | None = None


@runtime_checkable
class EventSender(Gateway, Protocol):
    """A gateway that sends events (webhooks)."""

    sends_events: bool
    """False if no secret is configured, so that no event can be checked."""

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Check the signature and read the event, without asking anybody. Raises BadEvent."""

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        """Return the key of the payment that the event is about; None if it is not ours. Raises NotSent or Unknown."""

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        """Return every refund of a payment, whatever became of it. Raises NotSent or Unknown."""

    def disputes_of(self, payment: Payment, timeout: float) -> list[GatewayDispute]:
        """Return every dispute of a payment, as it is now. Raises NotSent or Unknown."""


@dataclass(frozen=True)
class Gateways:
    """The gateways of one application. `current` takes new charges."""

    current: Gateway
    known: tuple[Gateway, ...]
    earlier_names: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The present account of a gateway and account that charges of earlier versions name."""

    def of(self, name: str, account: str) -> Gateway | None:
        """Return the gateway and account that a charge was made with; None if it is no longer configured."""
        account = self.earlier_names.get((name, account), account)
        return next((known for known in self.known if (known.name, known.account) == (name, account)), None)

    def event_sender(self, name: str) -> EventSender | None:
        """Return the gateway of this name if it is configured and sends events."""
        return next((known for known in self.known if known.name == name and isinstance(known, EventSender)), None)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self.known)
