"""The scripts of the actors. Each calls the program as a view or a command would, and returns what it was told.

The functions return scripts; their docstrings say what the script does. A script begins below the page: the form is
already a `Purchase`, and the webhook is already a verified event.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID, uuid5

from app.charges import arrivals, protocol, recovery, refunds, rows
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot
from app.charges.same_order import OrderedBefore
from app.charges.states import Status
from app.charges.tokens import Token
from app.database import Unreachable, reading, transaction
from app.gateways.base import Card, GatewayEvent, NotSent, Unknown
from app.orders import basket, stock
from app.webhooks.receive import Later, receive
from lab.stage import bank
from lab.stage.bank import APPROVES
from lab.stage.forms import PRICE, Shown

if TYPE_CHECKING:
    from lab.stage.stage import Stage

GATEWAY_DEADLINE, ACTION_WINDOW = 10.0, 3600.0
"""Two durations in seconds: the gateway's deadline, and the time that a shopper has to confirm at the bank."""

RECEIPT_IDS = UUID(int=5)
Script = Callable[[], object]


class Redirected(NamedTuple):
    """The shopper was redirected to this receipt, whose charge had this status."""

    receipt_id: str
    status: Status
    key: UUID
    """The key of the form that was sent."""
    buyer_id: UUID


class Refused(NamedTuple):
    """The shopper was told that nothing was charged. `reason` is the name of the exception."""

    reason: str
    receipt_id: str


class Unanswered(NamedTuple):
    """The shopper was only told to wait."""


class RefundTold(NamedTuple):
    """The merchant was told this status of the refund with this key, or why nothing was refunded."""

    status: str
    key: UUID


class LookedUp(NamedTuple):
    """A worker has looked up this number of rows."""

    rows: int


@dataclass
class StopAfter:
    """Tells a worker to stop when it has asked for a row `left` times."""

    left: int

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def shopper(stage: "Stage", name: str, token: Token, card: str = APPROVES, *,
            email: str = "ada@example.org", again: bool = False, attempts: int = 2,
            hold: float | None = None) -> Script:  # fmt: skip
    """Send the form of this token. If the outcome is not known, send the same form once more."""
    purchase = Purchase(
        token=token, receipt_id="", email=email, name="Ada", card=Card(card, "12/49", "123"), last4=card[-4:],
        order_again=again, receipt_url="http://shop/receipts/1", hold=hold,
    )  # fmt: skip
    return sender(stage, name, purchase, attempts)


def sender(stage: "Stage", name: str, purchase: Purchase, attempts: int = 2) -> Script:
    """Send any form, at most `attempts` times until the outcome is known. `purchase` has no receipt id yet."""

    def script() -> object:
        told: object = Unanswered()
        for attempt in range(attempts):
            told = post(stage, replace(purchase, receipt_id=str(uuid5(RECEIPT_IDS, f"{name}{attempt}"))))
            if not isinstance(told, Unanswered):
                break
        return told

    return script


def two_days_later(stage: "Stage", script: Script, key: UUID) -> Script:
    """Run the script two days after a charge has ended without money."""

    def ended() -> bool:
        return bool(stage.storage.rows("SELECT 1 FROM charge WHERE key = ? AND ended_at IS NOT NULL", key.hex))

    def later() -> object:
        stage.when("two days later", ended)
        stage.storage.clock += 172_800
        return script()

    return later


def post(stage: "Stage", purchase: Purchase) -> object:
    """POST /checkout, without the page around it."""
    token = purchase.token
    stage.shown.setdefault(token.key, Shown(token.buyer_id, f"1×{token.amount // PRICE}"))
    try:
        charge = arrivals.record_repeat(purchase.token) or protocol.pay(purchase, stage.gateway, GATEWAY_DEADLINE)
    except (basket.OrderChanged, basket.OrderUnknown, stock.SoldOut, OrderedBefore, protocol.Busy) as refusal:
        return Refused(type(refusal).__name__, purchase.receipt_id)
    except rows.RowLost:
        return Refused("RowLost", purchase.receipt_id)
    except (protocol.ClaimUnknown, Unreachable):
        return Unanswered()
    return Redirected(charge.receipt_id, charge.status, token.key, token.buyer_id)


def worker(stage: "Stage", turns: int = 1, window: float = ACTION_WINDOW) -> Script:
    """Recover charges and refunds like a worker that asks `turns` times for a row and then stops.

    `window` is the number of seconds that a shopper has to confirm.
    """

    def script() -> object:
        try:
            return LookedUp(recovery.run(stage.gateway, GATEWAY_DEADLINE, window, StopAfter(turns)))
        except Unreachable:
            return Unanswered()

    return script


def bank_webhook(stage: "Stage", key: UUID, times: int = 1) -> Script:
    """Deliver the bank's event `times` times, each at any moment after the bank knows the key."""

    def script() -> object:
        for _ in range(times):
            stage.when("webhook", lambda: str(key) in stage.bank.outcomes)
            send_event(stage, key)
        return None

    return script


def send_event(stage: "Stage", key: UUID) -> None:
    """Send the bank's event for this key, once."""
    if str(key) in stage.bank.outcomes:
        deliver(stage, bank.event(str(key), stage.bank.outcomes[str(key)]))


def deliver(stage: "Stage", event: GatewayEvent) -> None:
    """Deliver this event to the shop. If the shop can't take it now, the bank may send it again."""
    try:
        receive(event, stage.gateway, GATEWAY_DEADLINE)
    except (NotSent, Unknown, Unreachable, Later):
        return


def visitor(stage: "Stage", key: UUID, *, confirm: bool) -> Script:
    """Visit the bank's page, then the receipt. The receipt's view looks up the key."""

    def script() -> object:
        stage.when("page", lambda: str(key) in stage.bank.waiting)
        stage.bank.visit(str(key), confirm=confirm)
        read_receipt(stage, key)
        return None

    return script


def read_receipt(stage: "Stage", key: UUID) -> None:
    """GET /receipts/<id> of a charge that waits for the shopper."""
    try:
        charge = find_charge(key)
        if charge is not None and charge.status is Status.REQUIRES_ACTION:
            recovery.look(charge, stage.gateway)
    except Unreachable:
        return


def canceler(stage: "Stage", key: UUID) -> Script:
    """Press "give up" on the receipt, as the shopper."""

    def script() -> object:
        stage.when("give up", lambda: str(key) in stage.bank.waiting)
        try:
            charge = find_charge(key)
        except Unreachable:
            return Unanswered()
        if charge is not None and charge.status is Status.REQUIRES_ACTION:
            recovery.cancel_for_shopper(charge, stage.gateway, GATEWAY_DEADLINE)
        return None

    return script


def find_charge(key: UUID) -> ChargeSnapshot | None:
    """Return the charge with this key, as a page finds it."""
    with reading() as tx:
        return rows.of_key(tx, key)


def refunder(stage: "Stage", token: Token, amount: int, key: UUID, *, again: bool = True) -> Script:
    """Refund `amount` of this form's charge under this key, as the command does; with `again`, as its option does."""

    def script() -> object:
        try:
            charge = find_charge(token.key)
            assert charge is not None
            return RefundTold(refunds.refund(charge, amount, stage.gateway, GATEWAY_DEADLINE, key, again=again), key)
        except (refunds.NotRefundable, refunds.AlreadyOpen) as refusal:
            return RefundTold(type(refusal).__name__, key)
        except Unreachable:
            return Unanswered()

    return script


def basket_changer(token: Token, quantity: int) -> Script:
    """Change the quantity in the basket from another tab."""

    def script() -> object:
        try:
            with transaction() as tx:
                basket.put(tx, token.buyer_id, "thing", quantity, "EUR")
        except (basket.OrderPlaced, basket.NotEnough, Unreachable) as refusal:
            return type(refusal).__name__
        return "changed"

    return script


def basket_filler(buyer: UUID, quantity: int) -> Script:
    """Put the product into the basket. After a paid order, this begins a new one."""

    def script() -> object:
        try:
            with transaction() as tx:
                live = rows.live_of_buyer(tx, buyer)
                paid = live.order_id if live and live.status is Status.SUCCEEDED else None
                basket.put(tx, buyer, "thing", quantity, "EUR", paid_order_id=paid)
        except (basket.OrderPlaced, basket.NotEnough, Unreachable) as refusal:
            return type(refusal).__name__
        return "filled"

    return script
