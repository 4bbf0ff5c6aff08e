"""A scenario: its actors, what exists at the start, and what can go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from app.database import transaction
from app.orders import basket
from app.orders.models import Product
from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.bank import Bank, SimulatedGateway
from lab.stage.forms import PRICE, form
from lab.stage.steps import BANK, UNSURE, NextStep

if TYPE_CHECKING:
    from lab.stage.stage import Stage

Scripts = Callable[["Stage"], dict[str, Script]]


def sandbox(stage: "Stage") -> tuple[Any, Any]:
    """Return the simulation's bank and the gateway to it."""
    bank = Bank(stage.scenario.honours_keys, stage.scenario.fences)
    return bank, SimulatedGateway(lambda: stage.bank, stage.step)


class Loses(Enum):
    """What the database loses if it goes back."""

    NOTHING = auto()
    """It never goes back."""
    UNCONFIRMED = auto()
    """A synchronous standby takes its place: it has every COMMIT that waited for it and returned."""
    CONFIRMED = auto()
    """An asynchronous standby or a backup takes its place: the latest transactions are lost, any number of them."""


@dataclass(frozen=True)
class Scenario:
    """The actors, what exists at the start, and which failures can happen.

    `bank_faults` and `storage_faults` limit how often the bank's connection and the storage fail in one schedule.
    """

    name: str
    about: str
    scripts: Scripts
    bank: Callable[["Stage"], tuple[Any, Any]] = sandbox
    """Return the bank or provider, and the gateway to it."""
    orders: int = 1
    stock: int = 5
    refusals: frozenset[str] = frozenset()
    """The names of the exceptions with which a form can be refused in this scenario. Then nothing was charged."""
    honours_keys: bool = True
    fences: bool = True
    truthful: bool = True
    """False if the bank gives untrue answers, so that it can take money for a charge that ended without money."""
    bank_faults: float = inf
    storage_faults: float = 0
    time_passes: bool = True
    """True if recovery can run late enough for leases to expire. False if everything happens in one moment."""
    symmetric: tuple[str, ...] = ()
    """Actors that differ only in their names."""
    most_live: int | None = None
    """The most charges that may be live at once, in all orders together."""
    most_paid: int | None = None
    """The most charges that may have succeeded, in all orders together."""
    most_lookups: int | None = None
    """The most rows that recovery may look up, in all workers together."""
    one_open_refund: bool = False
    """True if two refunds of the same amount must never be open at once."""
    abandoned: bool = False
    """True if the first order's request died before the start, right after its claim."""
    paid: bool = False
    """True if the first order was paid before the start."""
    pay: Callable[["Stage"], object] = lambda stage: actors.shopper(stage, "before", form(1))()
    """Pay the first order before the start."""
    events_repeat: bool = False
    """True if the bank repeats its events until they are accepted. If not, all of them can be lost."""
    clocks: tuple[tuple[str, float], ...] = ()
    """Pairs of an actor and the seconds by which its host's clock is ahead of the database's and the provider's."""
    loses: Loses = Loses.NOTHING
    copied_empty: bool = False
    """True if the first backup is older than every basket."""
    long: bool = False
    """True if only `make soak` explores it."""

    def fates(self, at: NextStep, asked: str, ready: bool, bank_fails: bool, storage_fails: bool) -> tuple[str, ...]:
        """Return the possible fates of an actor's next step. If there are none, the actor has to wait.

        `asked` is the fate of its last question to the bank.
        """
        if at.kind == "when":
            return ("ok",) if ready else ()
        if at.kind == "pause":
            # A bank that ignores keys takes money each time it is asked. With such a bank, nothing is asked again.
            return ("enough",) if asked in UNSURE and not self.honours_keys else ("again", "enough")
        if at.kind in {"tx", "read"}:
            failing: tuple[str, ...] = () if at.immediate else ("failed",) if at.kind == "read" else ("lost", "failed")
            return ("ok", *(failing if storage_fails else ()))
        # All missing answers to a lookup are equal. A refused connection differs from a 500 only for a charge.
        failing = {"lookup": ("lost",), "charge": BANK}.get(at.label, BANK[:3])
        return ("ok", *(failing if bank_fails else ()))

    def set_up(self, stage: "Stage") -> None:
        """Store what exists at the start: two products, and a basket with one of the first for each order."""
        with transaction() as tx:
            row = {"description": "", "image": "", "price": PRICE, "currency": "EUR", "on_sale": True}
            for slug in ("thing", "other thing"):
                tx.execute(insert(Product).values(slug=slug, name=slug, stock=self.stock, stocked=self.stock, **row))
        if self.copied_empty:
            stage.storage.keep()
        with transaction() as tx:
            for order in range(1, self.orders + 1):
                basket.put(tx, form(order).buyer_id, "thing", 1, "EUR")
        if self.paid:
            self.pay(stage)
        if self.abandoned:
            stage.begin_with({"before": actors.shopper(stage, "before", form(1))})
            while stage.actors[0].next_step.label != "charge":
                stage.take(stage.choices()[0])
            stage.clear()
            stage.storage.clock += 1000
        if self.loses is Loses.UNCONFIRMED:
            stage.storage.replicate()
        elif self.loses is Loses.CONFIRMED and not self.copied_empty:
            stage.storage.keep()
