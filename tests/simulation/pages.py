"""The actors of scenarios in which the provider has its own payment page."""

from typing import TYPE_CHECKING
from uuid import UUID

from app.charges import recovery
from app.charges.protocol import Purchase
from app.charges.states import Status
from app.charges.tokens import Token
from app.database import Unreachable
from app.gateways.base import EventSubject
from lab.stage import actors
from lab.stage.actors import GATEWAY_DEADLINE, Script
from lab.stage.forms import form
from lab.stage.steps import PROGRAM_MODULES
from tests.simulation.hosted import page_known
from tests.stripe.provider import payments
from tests.stripe.provider.state import APPROVES, KEY_LIFE

if TYPE_CHECKING:
    from lab.stage.stage import Stage

PROGRAM_MODULES.append(__name__)


def shopper(stage: "Stage", name: str, token: Token) -> Script:
    """Send the form of this token, which has no card."""
    purchase = Purchase(
        token=token, receipt_id="", email="ada@example.org", name="Ada", card=None, last4=None,
        order_again=False,
        receipt_url="http://shop/receipts/1", gateway_request=stage.gateway.request(token),
    )  # fmt: skip
    return actors.sender(stage, name, purchase)


def payer(stage: "Stage", key: UUID) -> Script:
    """Visit the provider's page as soon as we can have sent the shopper there, then the receipt."""

    def script() -> object:
        stage.when("page", lambda: page_known(stage, key))
        for session in stage.bank.sessions(str(key)):
            payments.pay(stage.bank.books, session, APPROVES)
        actors.read_receipt(stage, key)
        return None

    return script


def provider_webhook(stage: "Stage", key: UUID, times: int = 1) -> Script:
    """Deliver the event that a session has ended `times` times, each at any moment after its end."""

    def script() -> object:
        for _ in range(times):
            stage.when("webhook", lambda: stage.bank.ended(str(key)))
            (event,) = [each for each in stage.bank.events() if each.subject is EventSubject.PAYMENT]
            actors.deliver(stage, event)
        return None

    return script


def canceler(stage: "Stage", key: UUID) -> Script:
    """Press "give up" on the receipt. The provider's page can be open in another tab."""

    def script() -> object:
        stage.when("give up", lambda: page_known(stage, key))
        try:
            charge = actors.find_charge(key)
        except Unreachable:
            return None
        if charge is not None and charge.status is Status.REQUIRES_ACTION:
            recovery.cancel_for_shopper(charge, stage.gateway, GATEWAY_DEADLINE)
        return None

    return script


def next_day(stage: "Stage", key: UUID) -> Script:
    """Let a day pass once the provider may have been asked: it forgets its keys, and its sessions expire."""

    def script() -> object:
        stage.when("a day passes", lambda: claimed(stage, key))
        stage.storage.clock += KEY_LIFE + 1
        stage.bank.forget_requests()
        return None

    return script


def claimed(stage: "Stage", key: UUID) -> bool:
    return bool(stage.storage.rows("SELECT 1 FROM charge WHERE key = ?", key.hex))


# Scenarios


def twins(stage: "Stage") -> dict[str, Script]:
    twins = {name: shopper(stage, name, form(1)) for name in ("A", "B")}
    return twins | {"V": payer(stage, form(1).key), "R": actors.worker(stage)}


def tabs(stage: "Stage") -> dict[str, Script]:
    shoppers = {tab: shopper(stage, tab, form(1, tab)) for tab in ("A", "B")}
    payers = {"V" + tab: payer(stage, form(1, tab).key) for tab in ("A", "B")}
    return shoppers | payers | {"R": actors.worker(stage, window=0)}


def returned(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": shopper(stage, "A", form(1)),
        "V": payer(stage, key),
        "W": provider_webhook(stage, key, times=2),
        "R": actors.worker(stage),
    }


def given_up(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": shopper(stage, "A", form(1)),
        "V": payer(stage, key),
        "G": canceler(stage, key),
        "R": actors.worker(stage, window=0),
    }


def forgotten(stage: "Stage") -> dict[str, Script]:
    key = form(1).key
    return {
        "A": shopper(stage, "A", form(1)),
        "V": payer(stage, key),
        "T": next_day(stage, key),
        "R": actors.worker(stage, turns=2),
    }
