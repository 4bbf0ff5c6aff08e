"""A shop's database of version 0003: charges, refunds, orders, e-mails and events in every state that it knew.

Column names are those of version 0003. The gateways are asked under the same keys, as that version would have done,
so that the audit of the upgraded database has true statements to compare with.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from tests.migrations.upgrading import OldData, Receipt
from tests.migrations.world import World

REVISION = "0003"

TABLES = "product orders order_line charge refund same_order ledger_entry letter webhook_event".split()
"""In an order that foreign keys allow."""

OBSTACLE = "CREATE INDEX ix_outbox_email_due ON letter (tries)"
REMOVE_OBSTACLE = "DROP INDEX ix_outbox_email_due"
"""An index that has a name which the next revision gives to another one, late in its work."""

PENDING = ("processing", "requires_action", "in_doubt")
WITHOUT_MONEY = ("declined", "canceled")
MUG, BOWL, GONE = 1, 2, 3
PRICES = {MUG: 2400, BOWL: 3900, GONE: 1000}
STOCKED = 100

SESSION = 3600 + 40 * 60
"""Seconds that a session of Stripe had left when its request was stored: ACTION_WINDOW and 40 minutes."""


def build(world: World) -> OldData:
    """Make the charges at the gateways, and return the data."""
    history = _History(world)
    history.settled_charges()
    history.charges_without_money()
    history.stray_payments()
    history.pending_charges()
    history.charges_at_stripe()
    history.events()
    history.basket()
    history.stock()
    return history.data


class _History:
    """Builds the rows. Each method is one part of the shop's history."""

    def __init__(self, world: World) -> None:
        self.world, self.now = world, datetime.now(UTC)
        self.data = OldData({table: [] for table in TABLES})
        self.rows = self.data.rows
        for identity, price in PRICES.items():
            self.data.add(
                "product", slug=f"old-{identity}", name=f"Old thing {identity} “ä”", description="From before.",
                image="morning-mug.svg", price=price, currency="EUR", stock=STOCKED, stocked=STOCKED,
                on_sale=identity != GONE,
            )  # fmt: skip

    def settled_charges(self) -> None:
        """Paid; paid after a decline; paid with refunds in every state."""
        paid = self.sell("succeeded", {MUG: 2, BOWL: 1}, last4="4242")
        self.letter(paid, sent=True)

        declined = self.sell("declined", {MUG: 1}, reason="insufficient_funds")
        second = self.sell("succeeded", order=declined["order_id"], buyer=self.buyer_of(declined), lines={MUG: 1})
        self.letter(second, sent=False, note="SMTPConnectError: later")

        refunded = self.sell("succeeded", {BOWL: 10}, arrivals=10, rivals=3)
        self.letter(refunded, sent=False)
        self.refund(refunded, 1000, "succeeded")
        self.refund(refunded, 900, "declined", reason="more_than_is_left")
        self.refund(refunded, 800, "processing")
        self.refund(refunded, 700, "in_doubt", note="the bank did not answer in time", known=True)
        self.refund(refunded, 600, "in_doubt", note="n" * 200, known=False)

        all_back = self.sell("succeeded", {GONE: 1})
        self.letter(all_back, sent=True)
        self.refund(all_back, all_back["amount"], "succeeded")

    def charges_without_money(self) -> None:
        """Declined and canceled, for every reason. Their orders are baskets again."""
        for reason in ("card_declined", "refused_by_shopper", None):
            self.sell("declined", {MUG: 3}, reason=reason, last4=None if reason is None else "0002")
        for reason in ("not_sent", "given_up", "expired", "fenced"):
            self.sell("canceled", {BOWL: 1}, reason=reason)

    def stray_payments(self) -> None:
        """The bank took money for charges that had ended without it: given back, still owed, and refused."""
        for status in ("succeeded", "processing", "declined"):
            charge = self.sell("canceled", {BOWL: 1, MUG: 1}, reason="fenced")
            self.world.ask_bank(charge["token"], charge["amount"], charge["link"])
            self.post(charge, charge["amount"], "unexpected")
            self.refund(charge, charge["amount"], status, stray=True)

    def pending_charges(self) -> None:
        """Left by processes that died or got no answer, and waiting for shoppers."""
        for status, note in (("processing", None), ("in_doubt", "the bank did not answer in time")):
            taken = self.sell(status, {MUG: 1}, note=note, ends="succeeded")
            self.world.ask_bank(taken["token"], taken["amount"], taken["link"])
            self.sell(status, {MUG: 1}, note=note, ends="canceled")

        self.wait_for_shopper(ends="requires_action")
        self.wait_for_shopper(ends="succeeded", confirmed=True)
        self.wait_for_shopper(ends="canceled", days=2)

    def charges_at_stripe(self) -> None:
        """With the stored request and the provider's id, and with the request alone."""
        paid = self.sell("succeeded", {MUG: 1}, at_stripe=True)
        paid["reference"] = self.world.open_session(
            paid["token"], paid["amount"], paid["request"], paid=True
        ).gateway_reference
        self.letter(paid, sent=True)

        waiting = self.sell(
            "requires_action", {MUG: 1}, at_stripe=True, ends="requires_action", created_at=self.ago(0.01)
        )
        answer = self.world.open_session(waiting["token"], waiting["amount"], waiting["request"])
        waiting.update(reference=answer.gateway_reference, action_url=answer.action_url)

        lost = self.sell("in_doubt", {MUG: 1}, at_stripe=True, note="the provider answered 500", ends="succeeded")
        self.world.open_session(lost["token"], lost["amount"], lost["request"], paid=True)

    def events(self) -> None:
        """One of each effect; kinds that were stored with and without a charge and a note."""
        of_stripe = next(charge for charge in self.rows["charge"] if charge["gateway"] == "stripe")
        for effect, kind, charge_id, note in (
            ("recorded", "checkout.session.completed", of_stripe["id"], None),
            ("noted", "charge.dispute.created", of_stripe["id"], "dispute needs_response, reason fraudulent"),
            ("ignored", "customer.created", None, None),
            ("foreign", "charge.refunded", None, None),
        ):
            self.data.add(
                "webhook_event", gateway="stripe", event=f"evt_{uuid4().hex}", kind=kind, effect=effect,
                charge_id=charge_id, note=note, happened_at=self.ago(3), received_at=self.ago(2),
            )  # fmt: skip

    def basket(self) -> None:
        """An order that nobody has tried to pay, and an empty one."""
        for lines in ({MUG: 2, GONE: 1}, {}):
            self.order(uuid4(), lines, "open")

    def stock(self) -> None:
        """Take what live charges hold out of the stock."""
        live = {charge["order_id"] for charge in self.rows["charge"] if charge["status"] not in WITHOUT_MONEY}
        for line in self.rows["order_line"]:
            if line["order_id"] in live:
                self.rows["product"][line["product_id"] - 1]["stock"] -= line["quantity"]

    def sell(
        self, status: str, lines: Mapping[int, int], *, ends: str | None = None, at_stripe: bool = False,
        order: int | None = None, buyer: UUID | None = None, **columns: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Add a charge with its order, receipt, guard row and postings. `ends` is its status after recovery."""
        buyer, amount = buyer or uuid4(), sum(PRICES[product] * pieces for product, pieces in lines.items())
        if order is None:
            order = self.order(buyer, lines, "open" if status in WITHOUT_MONEY else "placed")
        else:
            self.rows["orders"][order - 1].update(state="placed")
        receipt, token, has_ended = uuid4(), uuid4(), status not in PENDING
        link = f"http://127.0.0.1:8000/receipts/{receipt}"
        charge = {
            "token": token, "receipt": receipt, "order_id": order, "status": status, "amount": amount,
            "currency": "EUR", "refunded": 0, "email": f"{buyer.hex}@example.org", "name": "Zoë Ödegård 🦊",
            "last4": "4242", "link": link, "arrivals": 1, "rivals": 0, "gateway": "sandbox", "account": "sandbox",
            "reference": None, "request": None, "action_url": None, "reason": None, "note": None,
            "ask_at": self.ago(0.1), "asked": 2, "created_at": self.ago(0.2),
            "ended_at": self.ago(0.15) if has_ended else None,
        }  # fmt: skip
        if at_stripe:
            charge |= {"gateway": "stripe", "account": "test", "last4": None}
            charge["request"] = _request(token, order, amount, charge["email"], link, int(self.now.timestamp()))
        self.data.add("charge", **(charge | columns))
        stored = self.rows["charge"][-1]
        personal = (stored["email"], stored["name"])
        self.data.receipts[receipt] = Receipt(
            buyer, order, amount, has_ended, ends or status, personal, stored["last4"]
        )
        fingerprint = sha256(receipt.bytes).hexdigest()
        self.data.add("same_order", fingerprint=fingerprint, charge_id=stored["id"])
        if status == "succeeded":
            self.post(stored, amount, "sales")
            if not at_stripe:
                self.world.ask_bank(token, amount, link)
        return stored

    def wait_for_shopper(self, *, ends: str, confirmed: bool = False, days: float = 0.01) -> None:
        charge = self.sell("requires_action", {MUG: 1}, ends=ends, last4="3155", created_at=self.ago(days))
        charge["action_url"] = self.world.wait_at_bank(
            charge["token"], charge["amount"], charge["link"], confirmed=confirmed
        )

    def order(self, buyer: UUID, lines: Mapping[int, int], state: str) -> int:
        identity = self.data.add(
            "orders", buyer=buyer, state=state, version=len(lines) + 1, currency="EUR", created_at=self.ago(4)
        )
        for product, pieces in lines.items():
            self.data.add(
                "order_line", order_id=identity, product_id=product, quantity=pieces, unit_price=PRICES[product]
            )
        return identity

    def buyer_of(self, charge: Mapping[str, Any]) -> UUID:
        return self.data.receipts[charge["receipt"]].buyer_id

    def refund(
        self, charge: dict[str, Any], amount: int, status: str, *, stray: bool = False, reason: str | None = None,
        note: str | None = None, known: bool = False,
    ) -> None:  # fmt: skip
        """Add a refund. `known`: the bank gave the money back although its answer was lost."""
        key, has_ended = uuid4(), status not in PENDING
        refund = self.data.add(
            "refund", charge_id=charge["id"], key=key, amount=amount, status=status, stray=stray, reason=reason,
            note=note, reference=None, ask_at=self.ago(0.1), asked=1, created_at=self.ago(0.2),
            ended_at=self.ago(0.1) if has_ended else None,
        )  # fmt: skip
        if status != "declined" and not stray:
            charge["refunded"] += amount
        if status == "succeeded":
            self.post(charge, -amount, "unexpected" if stray else "sales", refund)
        if status == "succeeded" or known:
            self.world.refund_at_bank(key, amount, charge["token"], charge["amount"])

    def post(self, charge: Mapping[str, Any], amount: int, account: str, refund: int | None = None) -> None:
        for name, signed in (("gateway", amount), (account, -amount)):
            self.data.add(
                "ledger_entry", charge_id=charge["id"], refund_id=refund, account=name, amount=signed,
                currency="EUR", created_at=self.ago(0.15),
            )  # fmt: skip

    def letter(self, charge: Mapping[str, Any], *, sent: bool, note: str | None = None) -> None:
        self.data.add(
            "letter", charge_id=charge["id"], message=uuid4(), send_at=self.ago(0.1), tries=1 if sent else 3,
            sent_at=self.ago(0.05) if sent else None, note=note,
        )  # fmt: skip
        if not sent:
            self.data.owed.add(charge["receipt"])

    def ago(self, days: float) -> datetime:
        return self.now - timedelta(days=days)


def _request(key: UUID, order: int, amount: int, email: str, link: str, made: int) -> dict[str, Any]:
    """Return a request for a Checkout Session as version 0003 stored it."""
    price = {"currency": "eur", "unit_amount": amount, "product_data": {"name": "Old thing “ä”"}}
    ours = {"payonce_charge": str(key)}
    params = {
        "mode": "payment", "allowed_payment_method_types": ["card"], "adaptive_pricing": {"enabled": False},
        "client_reference_id": str(key), "metadata": ours,
        "payment_intent_data": {"metadata": ours, "description": f"Order {order}"},
        "line_items": [{"quantity": 1, "price_data": price}], "success_url": link, "cancel_url": link,
        "expires_at": made + SESSION, "customer_email": email,
    }  # fmt: skip
    return {"version": "2026-10-28.endive", "made": made, "params": params}
