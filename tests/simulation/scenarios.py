"""The scenarios that are explored: their actors, what exists at the start, and what can go wrong.

A scenario proves something only for the actors and failures that it names: two to five actors, and a few failures or
any number, as `bank_faults` and `storage_faults` say. The program's own protocol, recovery, refunds, webhooks, audit of
the bank's statement, and SQL statements run in it. Replaced are the clock, generated ids, logging, and the bank or the
provider; each transaction is one atomic step on SQLite in memory. So no scenario shows single statements and locks that
interleave on PostgreSQL, or a silent database. `random_runs` tries more actors.

A bank that ignores keys takes money each time it is asked. No program can be correct with it after a lost answer, so
these scenarios do not ask again within the request if the answer was lost or late. They still contain crashes,
recovery's lookups and fences, refused connections, 500s before anything was done, and every other request. Refunds are
repeated by design, so they only run with a bank that honours keys.
"""

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.bank import APPROVES, DECLINES, NEEDS_CONFIRMATION, UNTRUE_DECLINE
from lab.stage.forms import form
from lab.stage.scenario import Loses, Scenario
from tests.simulation import back_in_time, hosted, page_refunds, pages
from tests.simulation.refund_scenarios import refund_repeated, refund_rivals, refund_twins

if TYPE_CHECKING:
    from lab.stage.stage import Stage


def twins(stage: "Stage") -> dict[str, Script]:
    return {name: actors.shopper(stage, name, form(1)) for name in ("A", "B")} | {"R": actors.worker(stage)}


def tabs(stage: "Stage") -> dict[str, Script]:
    return {tab: actors.shopper(stage, tab, form(1, tab)) for tab in ("A", "B")} | {"R": actors.worker(stage)}


def two_workers(stage: "Stage") -> dict[str, Script]:
    workers = {name: actors.worker(stage) for name in ("R", "S")}
    return {"A": actors.shopper(stage, "A", form(1)), **workers}


def twin_workers(stage: "Stage") -> dict[str, Script]:
    return {"B": actors.shopper(stage, "B", form(1)), **two_workers(stage)}


def triplets(stage: "Stage") -> dict[str, Script]:
    return {"C": actors.shopper(stage, "C", form(1)), **twins(stage)}


def three_tabs(stage: "Stage") -> dict[str, Script]:
    return {"C": actors.shopper(stage, "C", form(1, "C")), **tabs(stage)}


def back_with_another_card(stage: "Stage") -> dict[str, Script]:
    return {
        "A": actors.shopper(stage, "A", form(1), DECLINES),
        "B": actors.shopper(stage, "B", form(1), APPROVES),
        "R": actors.worker(stage),
    }


def much_later(stage: "Stage") -> dict[str, Script]:
    later = actors.two_days_later(stage, actors.shopper(stage, "B", form(1)), form(1).key)
    return {"A": actors.shopper(stage, "A", form(1), DECLINES), "B": later}


def only_workers(stage: "Stage") -> dict[str, Script]:
    return {name: actors.worker(stage) for name in ("R", "S")}


def refusal(stage: "Stage") -> dict[str, Script]:
    return {
        "A": actors.shopper(stage, "A", form(1), DECLINES),
        "N": actors.shopper(stage, "N", form(1, "N")),
        "W": actors.bank_webhook(stage, form(1).key),
        "R": actors.worker(stage),
    }


def late_success(stage: "Stage") -> dict[str, Script]:
    return {
        "A": actors.shopper(stage, "A", form(1)),
        "W": actors.bank_webhook(stage, form(1).key, times=2),
        "R": actors.worker(stage),
    }


def untrue_decline(stage: "Stage") -> dict[str, Script]:
    def corrects_answer() -> object:
        stage.when("the bank corrects its answer", lambda: str(form(1).key) in stage.bank.outcomes)
        stage.bank.correct_answers()
        actors.send_event(stage, form(1).key)
        return None

    return {
        "A": actors.shopper(stage, "A", form(1), UNTRUE_DECLINE),
        "W": corrects_answer,
        "R": actors.worker(stage, turns=2),
        "S": actors.worker(stage, turns=2),
    }


def secure(stage: "Stage") -> dict[str, Script]:
    return {
        "A": actors.shopper(stage, "A", form(1), NEEDS_CONFIRMATION),
        "V": actors.visitor(stage, form(1).key, confirm=True),
        "G": actors.canceler(stage, form(1).key),
        "R": actors.worker(stage, window=0),
    }


def secure_tabs(stage: "Stage") -> dict[str, Script]:
    shoppers = {tab: actors.shopper(stage, tab, form(1, tab), NEEDS_CONFIRMATION) for tab in ("A", "B")}
    visitors = {"V" + tab: actors.visitor(stage, form(1, tab).key, confirm=True) for tab in ("A", "B")}
    return shoppers | visitors | {"R": actors.worker(stage, window=0)}


def two_shoppers(stage: "Stage") -> dict[str, Script]:
    emails = {1: "ada@example.org", 2: "bob@example.org"}
    shoppers = {f"A{n}": actors.shopper(stage, f"A{n}", form(n), email=email) for n, email in emails.items()}
    return shoppers | {"R": actors.worker(stage)}


def held_goods(stage: "Stage") -> dict[str, Script]:
    """The time for which A's unconfirmed payment holds the last item is over, and B needs the item."""
    return {
        "A": actors.shopper(stage, "A", form(1), NEEDS_CONFIRMATION, hold=0),
        "V": actors.visitor(stage, form(1).key, confirm=True),
        "B": actors.shopper(stage, "B", form(2), email="bob@example.org"),
        "R": actors.worker(stage, turns=2),
    }


def two_devices(stage: "Stage") -> dict[str, Script]:
    emails = {1: "ada@example.org", 2: " ADA@example.org"}
    return {f"A{n}": actors.shopper(stage, f"A{n}", form(n), email=email) for n, email in emails.items()}


def three_devices(stage: "Stage") -> dict[str, Script]:
    """The second device says that it is another order, and is declined: the first one's payment still counts."""
    return {
        "A": actors.shopper(stage, "A", form(1)),
        "B": actors.shopper(stage, "B", form(2), DECLINES, again=True),
        "C": actors.shopper(stage, "C", form(3)),
    }


def other_basket(stage: "Stage") -> dict[str, Script]:
    return {
        "A": actors.shopper(stage, "A", form(1)),
        "C": actors.basket_changer(form(1), 2),
        "R": actors.worker(stage),
    }


SOLD_OUT, CHANGED, BEFORE = frozenset({"SoldOut"}), frozenset({"OrderChanged"}), frozenset({"OrderedBefore"})
AB, RS = ("A", "B"), ("R", "S")

WITH_KEYS = (
    Scenario("twins", "one form sent twice at once, recovery", twins, symmetric=AB),
    Scenario("tabs", "two tabs of one order, the last item in stock, recovery", tabs, stock=1, symmetric=AB),
    Scenario("workers", "a request and two recovery workers", two_workers, symmetric=RS),
    Scenario("other card", "declined; the same form again with another card, recovery", back_with_another_card),
    Scenario("refusal", "a refusal, its webhook, another tab that pays, recovery", refusal, bank_faults=1),
    Scenario("late success", "a request, the same webhook twice, recovery", late_success),
    Scenario("last item", "two shoppers, one last item, recovery", two_shoppers, orders=2, stock=1, refusals=SOLD_OUT,
             most_live=1),
    Scenario("devices", "the same order from two devices at once", two_devices, orders=2, refusals=BEFORE, most_live=1),
    Scenario("much later", "declined; the same form again two days later", much_later),
    Scenario("one lookup", "two workers, one abandoned charge, all within one moment", only_workers, abandoned=True,
             time_passes=False, most_lookups=1, symmetric=RS),
    Scenario("basket", "a request, another tab changes the basket, recovery", other_basket, refusals=CHANGED),
    Scenario("confirm", "3-D Secure: confirmed, given up and expired at once", secure, bank_faults=1),
    Scenario("confirm tabs", "3-D Secure in two tabs, both confirmed, recovery", secure_tabs, bank_faults=1),
)  # fmt: skip
"""Each of these runs with a bank that honours keys and with one that ignores them."""

ONLY_WITH_KEYS = (
    Scenario("held goods", "3-D Secure: another shopper needs the last item, recovery", held_goods, orders=2, stock=1,
             refusals=SOLD_OUT, most_live=1, bank_faults=1),
    Scenario("untrue decline", "the bank says declined but takes the money; two workers", untrue_decline,
             truthful=False, symmetric=RS, bank_faults=1),
    Scenario("three devices", "the same order from three devices, the second is confirmed and declined", three_devices,
             orders=3, refusals=BEFORE, most_paid=1, bank_faults=1),
    Scenario("refund twins", "one refund requested twice at once, recovery", refund_twins, paid=True, symmetric=AB),
    Scenario("refund rivals", "two refunds that exceed the charge, recovery", refund_rivals, paid=True),
    Scenario("refund repeated", "a refund command, repeated with --key and without, recovery", refund_repeated,
             paid=True, symmetric=AB, one_open_refund=True, bank_faults=1),
)  # fmt: skip

LOST = frozenset({"OrderUnknown", "OrderChanged", "RowLost"})

BACK_IN_TIME = (
    Scenario("restore, stranger", "an old form, and a new order that gets the lost one's id", back_in_time.stranger,
             copied_empty=True, loses=Loses.CONFIRMED, refusals=LOST, bank_faults=0),
    Scenario("restore, same buyer", "an old form, and the same buyer's new basket of the same price",
             back_in_time.same_buyer, copied_empty=True, loses=Loses.CONFIRMED, refusals=LOST, bank_faults=0),
    Scenario("promotion, under way", "two requests while a lagging standby takes over", back_in_time.under_way,
             orders=2, loses=Loses.CONFIRMED, refusals=LOST, bank_faults=0),
    Scenario("promotion, again", "a form and the same form again after a lagging standby took over",
             back_in_time.lagging, loses=Loses.CONFIRMED, refusals=LOST, bank_faults=1),
    Scenario("promotion, refund", "a refund and its repetition while a lagging standby takes over",
             back_in_time.refund, paid=True, loses=Loses.CONFIRMED, bank_faults=1),
    Scenario("promotion, stray", "a stray payment is refunded, lost and found again", back_in_time.stray,
             truthful=False, loses=Loses.CONFIRMED, refusals=LOST, bank_faults=0),
    Scenario("failover, twins", "one form twice, and a synchronous standby takes over", back_in_time.twins,
             loses=Loses.UNCONFIRMED, symmetric=AB, bank_faults=0, storage_faults=1),
    Scenario("failover, tabs", "two tabs of one order, and a synchronous standby takes over", back_in_time.tabs,
             loses=Loses.UNCONFIRMED, symmetric=AB, bank_faults=0, storage_faults=1),
)  # fmt: skip
"""The database goes back to an earlier moment."""

PAGES = (
    Scenario("page, twins", "one form sent twice at once, the provider's page, recovery", pages.twins, symmetric=AB),
    Scenario("page, return", "the return from the page, the webhook twice, recovery", pages.returned),
    Scenario("page, given up", "given up and expired while it is paid on the page", pages.given_up, bank_faults=1),
    Scenario("page, forgotten", "a day passes: only the list shows the session", pages.forgotten, bank_faults=1),
    Scenario("page, tabs", "two tabs, both pay on their page, recovery", pages.tabs, bank_faults=1,
             long=True),
)  # fmt: skip
PAGE_REFUNDS = (
    Scenario("page, refund", "a refund and one by hand that together exceed the charge, events, recovery",
             page_refunds.refund, paid=True, bank_faults=1),
    Scenario("page, refund forgotten", "a refund; a day passes; two workers", page_refunds.forgotten, paid=True,
             bank_faults=1, symmetric=()),
    Scenario("page, events", "paid and refunded by hand; the events twice, in any order", page_refunds.out_of_order,
             bank_faults=0),
    Scenario("page, stray", "given up, but the provider takes the money; the event twice, recovery",
             page_refunds.stray, truthful=False, bank_faults=0),
)  # fmt: skip
"""Refunds, stray payments and events. The provider repeats its events until they are accepted."""

DAY = 86_400.0
CLOCKS = tuple(
    Scenario(f"page, {whose}", f"one form twice, paid on the page, recovery; {whose}", pages.twins, symmetric=same,
             bank_faults=faults, clocks=((host, ahead),))
    for whose, host, ahead, same, faults in (
        ("the worker's clock is a day ahead", "R", DAY, AB, 1),
        ("the worker's clock is a day behind", "R", -DAY, AB, 1),
        ("a shop's clock is a day ahead", "A", DAY, (), 0),
        ("a shop's clock is a day behind", "A", -DAY, (), 0),
    )
)  # fmt: skip
"""Hosts whose clocks differ from those of the database and the provider."""

HOSTED = tuple(replace(scenario, bank=hosted.provider) for scenario in (*PAGES, *CLOCKS)) + tuple(
    replace(scenario, bank=hosted.provider, pay=page_refunds.pay, events_repeat=True) for scenario in PAGE_REFUNDS
)
"""The program's own gateway to a provider with a payment page. The provider honours keys for a limited time."""

SOAK = (
    Scenario("triplets", "one form sent three times, recovery", triplets, symmetric=("A", "B", "C"), long=True),
    Scenario("three tabs", "three tabs of one order, recovery", three_tabs, stock=1, symmetric=("A", "B", "C"),
             long=True),
    Scenario("twins, workers", "one form sent twice, two recovery workers", twin_workers, symmetric=AB, long=True),
)  # fmt: skip


def variants(scenario: Scenario, *, keyless: bool) -> list[Scenario]:
    """Return the scenario with a bank connection that fails, and with a storage that fails once.

    The connection fails any number of times unless the scenario sets a limit. For `make soak`, also return it with both
    kinds of failure, and without a limit. If `keyless`, return all of these with a bank that ignores keys too.
    """
    found = []
    for honours in (True, False) if keyless else (True,):
        same = replace(scenario, name=scenario.name + ("" if honours else ", keys ignored"), honours_keys=honours)
        storage = replace(same, name=same.name + ", storage", storage_faults=1, bank_faults=0)
        found += [
            same,
            replace(storage, long=scenario.long or not honours or scenario.events_repeat or bool(scenario.clocks)),
            replace(storage, name=storage.name + " and bank", bank_faults=2, long=True),
        ]
        if scenario.bank_faults < inf:
            found.append(replace(same, name=same.name + ", no bound", bank_faults=inf, long=True))
    return found


SCENARIOS = {
    variant.name: variant
    for scenario in (*WITH_KEYS, *ONLY_WITH_KEYS, *HOSTED, *SOAK)
    for variant in variants(scenario, keyless=scenario not in (*ONLY_WITH_KEYS, *HOSTED))
} | {
    variant.name: variant
    for scenario in BACK_IN_TIME
    for variant in (scenario, replace(scenario, name=scenario.name + ", faults", bank_faults=2, long=True))
}
SHORT = [scenario for scenario in SCENARIOS.values() if not scenario.long]
"""The scenarios of `make test`."""
