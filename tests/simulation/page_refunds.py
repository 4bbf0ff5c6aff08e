"""The actors of scenarios with refunds, stray payments and events of the provider."""

from typing import TYPE_CHECKING
from uuid import uuid5

from app.gateways.base import EventSubject
from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.forms import KEYS, PRICE, form
from lab.stage.steps import PROGRAM_MODULES
from tests.simulation import pages
from tests.stripe.provider import refunds
from tests.stripe.provider.state import Refusal

if TYPE_CHECKING:
    from lab.stage.stage import Stage

PROGRAM_MODULES.append(__name__)

PART = 1000
REFUND_KEY = uuid5(KEYS, "refund")


def pay(stage: "Stage") -> None:
    """Pay the first order on the provider's page, and record it."""
    pages.shopper(stage, "before", form(1))()
    pages.payer(stage, form(1).key)()


def refunds_by_hand(stage: "Stage", amount: int) -> Script:
    """Refund this amount on the provider's own pages, at any moment."""

    def script() -> object:
        stage.when("refund by hand", lambda: True)
        (charge,) = stage.bank.books.charges.values()
        try:
            refunds.create(stage.bank.books, {"payment_intent": charge["payment_intent"], "amount": amount})
        except Refusal:
            return "too little is left"
        return "refunded"

    return script


def events(stage: "Stage", subject: EventSubject, times: int = 2) -> Script:
    """Deliver each event about this subject `times` times, late and in any order with those of other actors."""

    def script() -> object:
        for _ in range(times):
            stage.when("event", lambda: bool(_found(stage, subject)))
            for event in _found(stage, subject):
                actors.deliver(stage, event)
        return None

    return script


def _found(stage: "Stage", subject: EventSubject) -> list[actors.GatewayEvent]:
    return [event for event in stage.bank.events() if event.subject is subject]


def corrects(stage: "Stage") -> Script:
    """Take the money for a session that the provider had called expired."""

    def script() -> object:
        stage.when("the provider takes the money", lambda: stage.bank.ended(str(form(1).key)))
        stage.bank.correct_answers()
        return None

    return script


# Scenarios


def refund(stage: "Stage") -> dict[str, Script]:
    """A refund here, and one by hand that leaves too little for both."""
    return {
        "O": actors.refunder(stage, form(1), PRICE, REFUND_KEY),
        "H": refunds_by_hand(stage, PART),
        "W": events(stage, EventSubject.REFUND),
        "R": actors.worker(stage),
    }


def forgotten(stage: "Stage") -> dict[str, Script]:
    """A part is refunded. A day later, the provider has forgotten the key, but not the refund."""
    return {
        "O": actors.refunder(stage, form(1), PART, REFUND_KEY),
        "T": pages.next_day(stage, form(1).key),
        "R": actors.worker(stage, turns=2),
        "S": actors.worker(stage),
    }


def out_of_order(stage: "Stage") -> dict[str, Script]:
    """Paid and refunded by hand, before the shop knows of either. Each event comes twice, in any order."""
    key = form(1).key

    def pays_and_refunds() -> object:
        pages.payer(stage, key)()
        return refunds_by_hand(stage, PART)()

    return {
        "A": pages.shopper(stage, "A", form(1)),
        "V": pays_and_refunds,
        "P": events(stage, EventSubject.PAYMENT),
        "W": events(stage, EventSubject.REFUND),
    }


def stray(stage: "Stage") -> dict[str, Script]:
    """Given up here, but the provider takes the money all the same."""
    key = form(1).key
    return {
        "A": pages.shopper(stage, "A", form(1)),
        "G": pages.canceler(stage, key),
        "X": corrects(stage),
        "P": events(stage, EventSubject.PAYMENT),
        "R": actors.worker(stage),
    }
