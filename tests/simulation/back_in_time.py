"""The actors of scenarios in which the database goes back to an earlier moment.

A backup or a standby is a copy of the database that was made after any of its transactions. The copy takes the place of
the database at any later step. The bank, the forms in the browsers and the secret that signs them stay, and requests
and workers that are under way continue with what they know. A restore, which ends them first, is a part of this,
because an actor that never continues is the same as one that was ended.
"""

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from app.charges.tokens import Token
from app.database import transaction
from app.orders import basket
from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.bank import UNTRUE_DECLINE
from lab.stage.forms import KEYS, PRICE, Shown, form
from lab.stage.steps import PROGRAM_MODULES

if TYPE_CHECKING:
    from lab.stage.stage import Stage

PROGRAM_MODULES.append(__name__)


def copier(stage: "Stage") -> Script:
    """Make another backup at any moment, or let the asynchronous standby follow until this moment."""

    def script() -> object:
        stage.when("copy", lambda: stage.storage.copy is not None)
        stage.storage.keep()
        return None

    return script


def returner(stage: "Stage") -> Script:
    """Put the copy in the place of the database, at any moment."""

    def script() -> object:
        stage.when("go back", lambda: True)
        stage.storage.go_back()
        return None

    return script


def newcomer(stage: "Stage", name: str, buyer_id: UUID, slug: str = "thing") -> Script:
    """After the database went back, fill a basket and pay it. The order gets an id that a lost order had."""

    def script() -> object:
        stage.when("visit", lambda: stage.storage.times_gone_back > 0)
        with transaction() as tx:
            basket.put(tx, buyer_id, slug, 1, "EUR")
            order = basket.newest(tx, buyer_id)
            assert order is not None
            goods = ",".join(f"{line.product_id}×{line.quantity}" for line in order.lines)
            token = Token(uuid5(KEYS, name), order.random_id, order.version, buyer_id, order.total, "EUR", issued=0)
        stage.shown[token.key] = Shown(buyer_id, goods)
        return actors.shopper(stage, name, token, email=f"{name}@example.org")()

    return script


def old_form(stage: "Stage", name: str, token: Token) -> Script:
    """Send this form again after the database went back."""

    def script() -> object:
        stage.when("send again", lambda: stage.storage.times_gone_back > 0)
        return actors.shopper(stage, name, token)()

    return script


# Scenarios


def stranger(stage: "Stage") -> dict[str, Script]:
    """A form, the same form again, and the new order of somebody else, which gets the lost order's id."""
    return {
        "A": actors.shopper(stage, "A", form(1), attempts=1),
        "B": old_form(stage, "B", form(1)),
        "S": newcomer(stage, "S", form(2).buyer_id),
        "L": returner(stage),
        "R": actors.worker(stage),
    }


def same_buyer(stage: "Stage") -> dict[str, Script]:
    """The buyer's new basket has other goods of the same price. Old and new form are sent."""
    return {
        "A": old_form(stage, "A", form(1)),
        "S": newcomer(stage, "S", form(1).buyer_id, "other thing"),
        "L": returner(stage),
        "R": actors.worker(stage),
    }


def under_way(stage: "Stage") -> dict[str, Script]:
    """Two shoppers pay while an asynchronous standby takes over: the later claim can get the lost one's id."""
    return {
        "A": actors.shopper(stage, "A", form(1), attempts=1),
        "B": actors.shopper(stage, "B", form(2), email="bob@example.org", attempts=1),
        "C": copier(stage),
        "L": returner(stage),
    }


def lagging(stage: "Stage") -> dict[str, Script]:
    """One form, the same form again after the loss, recovery; the standby followed until any moment."""
    return {
        "A": actors.shopper(stage, "A", form(1), attempts=1),
        "B": old_form(stage, "B", form(1)),
        "C": copier(stage),
        "L": returner(stage),
        "R": actors.worker(stage),
    }


def tabs(stage: "Stage") -> dict[str, Script]:
    """Two tabs and recovery, while the standby takes over that every COMMIT waits for."""
    shoppers = {tab: actors.shopper(stage, tab, form(1, tab)) for tab in ("A", "B")}
    return shoppers | {"L": returner(stage), "R": actors.worker(stage)}


def twins(stage: "Stage") -> dict[str, Script]:
    """One form twice and recovery, while the standby takes over that every COMMIT waits for."""
    twins = {name: actors.shopper(stage, name, form(1)) for name in ("A", "B")}
    return twins | {"L": returner(stage), "R": actors.worker(stage)}


def refund(stage: "Stage") -> dict[str, Script]:
    """A refund, and its repetition under the same key."""
    key = uuid5(KEYS, "refund")
    refunders = {name: actors.refunder(stage, form(1), PRICE, key) for name in ("A", "B")}
    return refunders | {"C": copier(stage), "L": returner(stage), "R": actors.worker(stage)}


def stray(stage: "Stage") -> dict[str, Script]:
    """The bank says declined but takes the money; the stray payment is found, and its refund lost and made again."""

    def corrects_answer() -> object:
        for _ in range(2):
            stage.when("the bank corrects its answer", lambda: str(form(1).key) in stage.bank.outcomes)
            stage.bank.correct_answers()
            actors.send_event(stage, form(1).key)
        return None

    return {
        "A": actors.shopper(stage, "A", form(1), UNTRUE_DECLINE, attempts=1),
        "W": corrects_answer,
        "C": copier(stage),
        "L": returner(stage),
        "R": actors.worker(stage, turns=2),
    }
