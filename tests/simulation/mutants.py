"""Broken versions of the program (mutants). Each removes one defence, and the explorer must catch every one.

For one exploration, broken functions, statements and schemas replace the program's own. The program itself contains no
code for this.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any
from unittest.mock import patch

from app.charges import arrivals, holds, outcomes, protocol, recovery, refund_rows, refunds, rows, same_order
from app.orders import basket, stock
from lab.stage.scenario import Scenario
from tests.simulation import broken
from tests.simulation.explorer import BrokenSchedule, explore
from tests.simulation.scenarios import SCENARIOS

Patch = tuple[object, str, Any]


@dataclass(frozen=True)
class Mutant:
    """A broken version of the program.

    `scenario` is the name of the scenario that catches it. `schema` changes each statement of the schema, or removes it
    by returning "". `changes` changes fields of the scenario.
    """

    name: str
    scenario: str
    patches: tuple[Patch, ...] = ()
    schema: Callable[[str], str] = str
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def broken_scenario(self) -> Scenario:
        return replace(SCENARIOS[self.scenario], **self.changes)

    def caught(self) -> BrokenSchedule | None:
        """Return the shortest schedule that shows the fault, or None if the mutant survived."""
        with self.applied():
            try:
                explore(self.broken_scenario, self.schema)
            except BrokenSchedule as caught:
                return caught
        return None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the program until the block ends."""
        with ExitStack() as stack:
            for owner, name, replacement in self.patches:
                stack.enter_context(patch.object(owner, name, replacement))
            yield


WORKERS, TWINS, TABS, OTHER = "workers", "twins", "tabs", "other card"

MUTANTS = (
    Mutant("claims only after it has asked", TABS, ((protocol, "pay", broken.ask_then_claim),)),
    Mutant("token not unique", OTHER, schema=broken.without(", \n\tCONSTRAINT uq_charge_key UNIQUE (\"key\")")),
    Mutant("no index of one live charge per order", TABS, schema=broken.without("uq_charge_one_live_per_order")),
    Mutant("compare-and-set dropped", WORKERS, ((rows, "COMPARE_AND_SET", broken.CAS_DROPPED),)),
    Mutant("compare-and-set and triggers dropped", WORKERS, ((rows, "COMPARE_AND_SET", broken.CAS_DROPPED),),
           schema=broken.without(broken.NO_TRIGGERS)),
    Mutant("a refused connection on a retry means nothing was sent", WORKERS,
           ((protocol, "ask", broken.refused_is_always_nothing_sent),)),
    Mutant("no answer means declined", WORKERS, ((protocol, "ask", broken.no_answer_is_declined),)),
    Mutant("the bank's cancel does not fence the key", WORKERS, changes={"fences": False}),
    Mutant("recovery cancels in the books only", WORKERS, ((recovery, "cancel", broken.cancels_in_the_books_only),)),
    Mutant("recovery takes a missing answer for no charge", WORKERS,
           ((recovery, "find_out", broken.no_answer_is_canceled),)),
    Mutant("expired and given up payments are canceled in the books only", "confirm",
           ((recovery, "cancel", broken.cancels_in_the_books_only),), changes={"bank_faults": 0}),
    Mutant("goods that others need are released in the books only", "held goods",
           ((recovery, "cancel", broken.cancels_in_the_books_only),), changes={"bank_faults": 0}),
    Mutant("a claim releases the goods that it needs by itself", "held goods",
           ((holds, "want", broken.releases_in_the_books_only),), changes={"bank_faults": 0}),
    Mutant("the key is not sent on", WORKERS, ((protocol, "ask", broken.another_key),)),
    Mutant("a new key on retry", WORKERS, ((protocol, "ask", broken.new_key_on_retry),)),
    Mutant("stock not given back", OTHER, ((basket, "reopen", broken.reopens_without_stock),)),
    Mutant("stock taken when it is paid, not when it is claimed", "last item",
           ((stock, "reserve", broken.reserves_nothing), (stock, "give_back", broken.nothing),
            (outcomes, "follow", broken.reserves_when_paid))),
    Mutant("the whole request is repeated after a conflict", OTHER, ((protocol, "pay", broken.again_until_it_wins),)),
    Mutant("the losing request asks too", "twins, keys ignored", ((protocol, "pay", broken.the_loser_asks_too),)),
    Mutant("recovery takes no lease", "one lookup", ((recovery, "LEASE_CHARGE", broken.NO_LEASE),)),
    Mutant("token forgotten after a day", "much later",
           ((protocol, "claim", broken.forgets_old_tokens), (arrivals, "record_repeat", broken.no_short_cut)),
           schema=broken.without(broken.NO_TRIGGERS)),
    Mutant("refunds' sum not checked", "refund rivals", ((refund_rows, "PROMISE", broken.PROMISE_UNCHECKED),),
           schema=broken.without(" AND refunded <= amount")),
    Mutant("a refund's key not sent on when asked again", "refund twins",
           ((refunds, "_ask", broken.refunds_under_new_keys),)),
    Mutant("the same order looked up beforehand, no guard row", "devices",
           ((protocol, "pay", broken.selects_before_it_claims), (same_order, "guard", broken.nothing))),
    Mutant("only the newest of the same orders counts", "three devices",
           ((same_order, "RECENT", broken.ONLY_THE_NEWEST),)),
    Mutant("doubt frees the order", TABS, ((protocol, "record_doubt", broken.doubt_frees_the_order),)),
    Mutant("a claim without an answer is taken for granted", "workers, storage",
           ((protocol, "claim", broken.unknown_claim_counts_as_committed),)),
    Mutant("a claim is asked for although recovery has handled it", "workers, storage",
           ((protocol, "pay", broken.asks_though_recovery_was_there),), changes={"bank_faults": inf}),
    Mutant("late money is ignored", "untrue decline", ((outcomes, "ended_before", broken.ignores_late_money),)),
    Mutant("what has ended is recorded again", "refusal", ((protocol, "record_within", broken.records_onto_anything),),
           changes={"bank_faults": 0}),
    Mutant("what follows is done whether it was recorded or not", WORKERS,
           ((protocol, "record_within", broken.follows_in_any_case),)),
    Mutant("the bank is asked within a transaction", TWINS, ((protocol, "pay", broken.asks_within_the_transaction),)),
)  # fmt: skip
