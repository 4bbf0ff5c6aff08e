"""The actors. Each is a story: it calls the program as a view or a command would, and returns what it was told."""

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
from app.gateways.base import Card, NotSent, Unknown
from app.orders import basket, stock
from app.webhooks.receive import Later, receive
from lab.stage import bank
from lab.stage.bank import APPROVES

if TYPE_CHECKING:
    from lab.stage.stage import Stage

SECONDS, WINDOW = 10.0, 3600.0
"""Seconds: the gateway's deadline, and how long a shopper has to confirm at the bank."""

RECEIPTS = UUID(int=5)
Story = Callable[[], object]


class Redirected(NamedTuple):
    """The shopper was redirected to this receipt, whose charge had this status."""

    receipt: str
    status: Status
    form: UUID
    """The key of the form that was sent."""


class Refused(NamedTuple):
    """The shopper was told that nothing was charged, and why."""

    why: str
    receipt: str


class Unanswered(NamedTuple):
    """The shopper was only told to wait."""


class RefundTold(NamedTuple):
    """What the merchant was told of a refund."""

    status: str


class LookedUp(NamedTuple):
    """How many rows a worker has looked up."""

    rows: int


@dataclass
class Turns:
    """Tells a worker to stop after so many lookups."""

    left: int

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def shopper(stage: "Stage", name: str, token: Token, card: str = APPROVES, *,
            email: str = "ada@example.org", again: bool = False, presses: int = 2) -> Story:  # fmt: skip
    """Send the form of this token. If the outcome is not known, send the same form once more."""
    purchase = Purchase(
        token=token, receipt_id="", email=email, name="Ada", card=Card(card, "12/49", "123"), last4=card[-4:],
        order_again=again, receipt_url="http://shop/receipts/1",
    )  # fmt: skip
    return sends(stage, name, purchase, presses)


def sends(stage: "Stage", name: str, purchase: Purchase, presses: int = 2) -> Story:
    """Send any form. `purchase` has no receipt id yet."""

    def story() -> object:
        told: object = Unanswered()
        for press in range(presses):
            told = post(stage, replace(purchase, receipt_id=str(uuid5(RECEIPTS, f"{name}{press}"))))
            if not isinstance(told, Unanswered):
                break
        return told

    return story


def much_later(stage: "Stage", story: Story, key: UUID) -> Story:
    """Tell the story two days after a charge has ended without money."""

    def ended() -> bool:
        return bool(stage.storage.rows("SELECT 1 FROM charge WHERE key = ? AND ended_at IS NOT NULL", key.hex))

    def later() -> object:
        stage.when("two days later", ended)
        stage.storage.clock += 172_800
        return story()

    return later


def post(stage: "Stage", purchase: Purchase) -> object:
    """POST /checkout, without the page around it."""
    try:
        charge = arrivals.record_repeat(purchase.token) or protocol.pay(purchase, stage.line, SECONDS)
    except (basket.OrderChanged, stock.SoldOut, OrderedBefore, protocol.Busy) as refusal:
        return Refused(type(refusal).__name__, purchase.receipt_id)
    except (protocol.ClaimUnknown, Unreachable):
        return Unanswered()
    return Redirected(charge.receipt_id, charge.status, purchase.token.key)


def worker(stage: "Stage", turns: int = 1, window: float = WINDOW) -> Story:
    """A recovery worker that asks so many times whether there is work."""

    def story() -> object:
        try:
            return LookedUp(recovery.run(stage.line, SECONDS, window, Turns(turns)))
        except Unreachable:
            return Unanswered()

    return story


def bank_tells(stage: "Stage", key: UUID, times: int = 1) -> Story:
    """A webhook, at any time after the bank knows the key. It is sent again if it was not accepted."""

    def story() -> object:
        for _ in range(times):
            stage.when("webhook", lambda: str(key) in stage.bank.outcomes)
            tell(stage, key)
        return None

    return story


def tell(stage: "Stage", key: UUID) -> None:
    """Send the bank's event for this key, once."""
    if str(key) not in stage.bank.outcomes:
        return
    try:
        receive(bank.event(str(key), stage.bank.outcomes[str(key)]), stage.line, SECONDS)
    except (NotSent, Unknown, Unreachable, Later):
        return


def visitor(stage: "Stage", key: UUID, *, confirm: bool) -> Story:
    """Visit the bank's page, then the receipt, where the shop looks up the key."""

    def story() -> object:
        stage.when("page", lambda: str(key) in stage.bank.waiting)
        stage.bank.visit(str(key), confirm=confirm)
        read_receipt(stage, key)
        return None

    return story


def read_receipt(stage: "Stage", key: UUID) -> None:
    """GET /receipts/<id> of a charge that waits for the shopper."""
    try:
        charge = charge_of(key)
        if charge is not None and charge.status is Status.REQUIRES_ACTION:
            recovery.look(charge, stage.line)
    except Unreachable:
        return


def gives_up(stage: "Stage", key: UUID) -> Story:
    """The shopper presses "give up" on the receipt."""

    def story() -> object:
        stage.when("give up", lambda: str(key) in stage.bank.waiting)
        try:
            charge = charge_of(key)
        except Unreachable:
            return Unanswered()
        if charge is not None and charge.status is Status.REQUIRES_ACTION:
            recovery.cancel_for_shopper(charge, stage.line, SECONDS)
        return None

    return story


def charge_of(key: UUID) -> ChargeSnapshot | None:
    """Return the charge with this key, as a page finds it."""
    with reading() as tx:
        return rows.of_key(tx, key)


def refunder(stage: "Stage", token: Token, amount: int, key: UUID) -> Story:
    """A merchant who refunds."""

    def story() -> object:
        try:
            charge = charge_of(token.key)
            assert charge is not None
            return RefundTold(refunds.refund(charge, amount, stage.line, SECONDS, key))
        except refunds.NotRefundable:
            return RefundTold("not refundable")
        except Unreachable:
            return Unanswered()

    return story


def changes_mind(token: Token, quantity: int) -> Story:
    """Change the quantity in the basket from another tab."""

    def story() -> object:
        try:
            with transaction() as tx:
                basket.put(tx, token.buyer_id, "thing", quantity, "EUR")
        except (basket.OrderPlaced, basket.NotEnough, Unreachable) as refusal:
            return type(refusal).__name__
        return "changed"

    return story


def fills_basket(buyer: UUID, quantity: int) -> Story:
    """Continue shopping. After a paid order, this begins a new one."""

    def story() -> object:
        try:
            with transaction() as tx:
                live = rows.live_of_buyer(tx, buyer)
                paid = live.order_id if live and live.status is Status.SUCCEEDED else None
                basket.put(tx, buyer, "thing", quantity, "EUR", paid_order_id=paid)
        except (basket.OrderPlaced, basket.NotEnough, Unreachable) as refusal:
            return type(refusal).__name__
        return "filled"

    return story
