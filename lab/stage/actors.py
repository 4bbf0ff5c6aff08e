"""Who takes part: each is a story that speaks to the program as its doors do, and tells in the end what it was told."""

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
"""The gateway's deadline, and how long a shopper may take to confirm at the bank."""

RECEIPTS = UUID(int=5)
Story = Callable[[], object]


class Led(NamedTuple):
    """To this receipt, where the charge stood like that."""

    receipt: str
    status: Status
    form: UUID
    """The token of the form that was sent."""


class Refused(NamedTuple):
    """That nothing was charged, because of this."""

    why: str
    receipt: str


class Unanswered(NamedTuple):
    """Nothing but "wait"."""


class RefundTold(NamedTuple):
    """What became of a refund that was asked for."""

    status: str


class Looked(NamedTuple):
    """After so many rows."""

    rows: int


@dataclass
class Turns:
    """A worker stops after so many looks."""

    left: int

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def shopper(stage: "Stage", name: str, token: Token, card: str = APPROVES, *,
            email: str = "ada@example.org", again: bool = False, presses: int = 2) -> Story:  # fmt: skip
    """Sends the form of this token; where nobody can say what became of it, the same form once more."""
    purchase = Purchase(
        token=token, receipt_id="", email=email, name="Ada", card=Card(card, "12/49", "123"), last4=card[-4:],
        order_again=again, receipt_url="http://shop/receipts/1",
    )  # fmt: skip
    return sends(stage, name, purchase, presses)


def sends(stage: "Stage", name: str, purchase: Purchase, presses: int = 2) -> Story:
    """Whatever form it is; `purchase` has no receipt yet."""

    def story() -> object:
        told: object = Unanswered()
        for press in range(presses):
            told = post(stage, replace(purchase, receipt_id=str(uuid5(RECEIPTS, f"{name}{press}"))))
            if not isinstance(told, Unanswered):
                break
        return told

    return story


def much_later(stage: "Stage", story: Story, key: UUID) -> Story:
    """Two days after a charge had ended without money."""

    def ended() -> bool:
        return bool(stage.storage.rows("SELECT 1 FROM charge WHERE key = ? AND ended_at IS NOT NULL", key.hex))

    def later() -> object:
        stage.when("two days later", ended)
        stage.storage.clock += 172_800
        return story()

    return later


def post(stage: "Stage", purchase: Purchase) -> object:
    """POST /checkout, as far as it goes for money."""
    try:
        charge = arrivals.record_repeat(purchase.token) or protocol.pay(purchase, stage.line, SECONDS)
    except (basket.OrderChanged, stock.SoldOut, OrderedBefore, protocol.Busy) as refusal:
        return Refused(type(refusal).__name__, purchase.receipt_id)
    except (protocol.ClaimUnknown, Unreachable):
        return Unanswered()
    return Led(charge.receipt_id, charge.status, purchase.token.key)


def worker(stage: "Stage", turns: int = 1, window: float = WINDOW) -> Story:
    """A recovery worker that looks so many times whether there is something to do."""

    def story() -> object:
        try:
            return Looked(recovery.run(stage.line, SECONDS, window, Turns(turns)))
        except Unreachable:
            return Unanswered()

    return story


def bank_tells(stage: "Stage", key: UUID, times: int = 1) -> Story:
    """A webhook: at any time after the bank has come to know the key, and again where it was not taken."""

    def story() -> object:
        for _ in range(times):
            stage.when("webhook", lambda: str(key) in stage.bank.outcomes)
            tell(stage, key)
        return None

    return story


def tell(stage: "Stage", key: UUID) -> None:
    """The bank sends what it has to tell under this key, once."""
    if str(key) not in stage.bank.outcomes:
        return
    try:
        receive(bank.event(str(key), stage.bank.outcomes[str(key)]), stage.line, SECONDS)
    except (NotSent, Unknown, Unreachable, Later):
        return


def visitor(stage: "Stage", key: UUID, *, confirm: bool) -> Story:
    """The shopper on the bank's page, and back on the receipt, where the shop asks what became of it."""

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
    """The charge under this key, as a page would find it."""
    with reading() as tx:
        return rows.of_key(tx, key)


def refunder(stage: "Stage", token: Token, amount: int, key: UUID) -> Story:
    """A merchant who gives money back."""

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
    """Another tab puts another number into the basket."""

    def story() -> object:
        try:
            with transaction() as tx:
                basket.put(tx, token.buyer_id, "thing", quantity, "EUR")
        except (basket.OrderPlaced, basket.NotEnough, Unreachable) as refusal:
            return type(refusal).__name__
        return "changed"

    return story


def fills_basket(buyer: UUID, quantity: int) -> Story:
    """A buyer goes on shopping: after what was paid, with a new order."""

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
