"""What is played on the stage: who takes part, what they have, and what may go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

from app.database import transaction
from app.orders import basket
from app.orders.models import Product
from lab.stage import actors
from lab.stage.actors import Story
from lab.stage.bank import Bank, SimulatedGateway
from lab.stage.forms import PRICE, form
from lab.stage.steps import BANK, UNSURE, Stop

if TYPE_CHECKING:
    from lab.stage.stage import Stage

Cast = Callable[["Stage"], dict[str, Story]]


def sandbox(stage: "Stage") -> tuple[Any, Any]:
    """The bank of the simulation's own, and the line to it."""
    bank = Bank(stage.scenario.honours_keys, stage.scenario.fences)
    return bank, SimulatedGateway(lambda: stage.bank, stage.step)


@dataclass(frozen=True)
class Scenario:
    """`bank_faults` and `storage_faults`: how often, in one schedule, the bank's line or the storage may fail."""

    name: str
    about: str
    cast: Cast
    bank: Callable[["Stage"], tuple[Any, Any]] = sandbox
    """Makes who takes the money, and the gateway to them."""
    orders: int = 1
    stock: int = 5
    refusals: frozenset[str] = frozenset()
    """Why a form may be refused here, with nothing charged."""
    honours_keys: bool = True
    fences: bool = True
    truthful: bool = True
    """Whether the bank's answers are true. One that is not may take money for a charge that ended without."""
    bank_faults: float = inf
    storage_faults: float = 0
    time_passes: bool = True
    """Whether recovery comes as late as it likes, so that leases run out; else all happens in one moment."""
    symmetric: tuple[str, ...] = ()
    """Actors who differ in nothing but their names."""
    most_live: int | None = None
    """How many charges may be live at once, all orders together."""
    most_looks: int | None = None
    """How many rows recovery may look after, all workers together."""
    abandoned: bool = False
    """Whether the first order's request died, long before, when it had claimed."""
    paid: bool = False
    """Whether the first order was paid before."""
    long: bool = False
    """Only in `make soak`."""

    def fates(self, at: Stop, asked: str, ready: bool, bank_fails: bool, storage_fails: bool) -> tuple[str, ...]:
        """What may become of the step that an actor stands before; nothing: it has to wait. `asked` is what became
        of its last question to the bank."""
        if at.kind == "when":
            return ("ok",) if ready else ()
        if at.kind == "pause":
            # A bank that ignores keys takes money twice where it is asked twice: there, nothing is asked again.
            return ("enough",) if asked in UNSURE and not self.honours_keys else ("again", "enough")
        if at.kind in {"tx", "read"}:
            failing: tuple[str, ...] = () if at.at_once else ("failed",) if at.kind == "read" else ("lost", "failed")
            return ("ok", *(failing if storage_fails else ()))
        # A missing answer is a missing answer to who only looks, and so is a refusal to who doesn't charge.
        failing = {"lookup": ("lost",), "charge": BANK}.get(at.label, BANK[:3])
        return ("ok", *(failing if bank_fails else ()))

    def set_up(self, stage: "Stage") -> None:
        """What was there before: the thing on the shelf, and a basket with one of it for each order."""
        with transaction() as tx:
            row = {"slug": "thing", "name": "Thing", "description": "", "image": "", "price": PRICE, "currency": "EUR"}
            tx.execute(insert(Product).values(**row, stock=self.stock, stocked=self.stock, on_sale=True))
            for order in range(1, self.orders + 1):
                basket.put(tx, form(order).buyer_id, "thing", 1, "EUR")
        if self.paid:
            actors.shopper(stage, "before", form(1))()
        if self.abandoned:
            stage.begin_with({"before": actors.shopper(stage, "before", form(1))})
            while stage.actors[0].at.label != "charge":
                stage.take(stage.choices()[0])
            stage.clear()
            stage.storage.clock += 1000
