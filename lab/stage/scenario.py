"""A scenario: its actors, what exists at the start, and what can go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
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
    most_lookups: int | None = None
    """The most rows that recovery may look up, in all workers together."""
    abandoned: bool = False
    """True if the first order's request died before the start, right after its claim."""
    paid: bool = False
    """True if the first order was paid before the start."""
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
        """Store what exists at the start: the product, and a basket with one of it for each order."""
        with transaction() as tx:
            row = {"slug": "thing", "name": "Thing", "description": "", "image": "", "price": PRICE, "currency": "EUR"}
            tx.execute(insert(Product).values(**row, stock=self.stock, stocked=self.stock, on_sale=True))
            for order in range(1, self.orders + 1):
                basket.put(tx, form(order).buyer_id, "thing", 1, "EUR")
        if self.paid:
            actors.shopper(stage, "before", form(1))()
        if self.abandoned:
            stage.begin_with({"before": actors.shopper(stage, "before", form(1))})
            while stage.actors[0].next_step.label != "charge":
                stage.take(stage.choices()[0])
            stage.clear()
            stage.storage.clock += 1000
