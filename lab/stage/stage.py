"""The stage: it runs the program's real code step by step, with a database, clock, bank and scheduler of its own.

Every actor (a shopper's request, a recovery worker, a webhook) runs until it is about to begin a transaction or to
ask the bank. There it pauses. The schedule chooses which actor continues, and how that step ends (its fate). Between
two steps an actor only computes, so the schedules cover every order of these steps.

A step is atomic: a transaction that has begun is committed or rolled back before any other actor continues. SQLite's
BEGIN IMMEDIATE allows nothing else. A crash needs no step of its own: a process that is killed before a step is an
actor that never continues, and a process that is killed within a transaction leaves nothing behind.

The stage runs the program's own code of `app.charges` (protocol, recovery, refunds and the audit of the bank's
statement), `app.orders`, `app.ledger`, the outbox of `app.mail` and `app.webhooks.receive`, with its own SQL statements
and schema. In the scenarios with a payment page, the real gateway to the provider runs too.

`stand_ins` and `Storage` list what is replaced: the clock, the deadline of one request, random numbers and generated
ids, the bank or the provider, the database (SQLite in memory, one whole transaction per step) and logging. Views,
forms, HTTP, sending e-mails, and the signatures of tokens and webhooks are not part of it. The claim's own deadline
runs on the real clock, so it never passes here. Evidence for people (`evidence.store`) is not written.

So the stage can't show what happens if single statements and locks of PostgreSQL interleave, if a database does not
answer at all, or if a COMMIT takes effect after its connection was lost. It also shows nothing about more actors than
those of a scenario.

`tests/isolation` interleaves the statements of a few actors on PostgreSQL. `tests/faults` tries lost commits, silent
standbys and failovers on real servers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid5

from greenlet import getcurrent
from sqlalchemy.exc import OperationalError

import app.database
import app.leases
from app.charges import arrivals, evidence, outcomes, protocol, recovery, refunds
from app.gateways import questions
from app.gateways.stripe import requests
from app.mail import outbox
from app.orders import basket
from app.webhooks import receive
from lab.stage.actors import Script
from lab.stage.forms import ORDER_IDS, Shown, form
from lab.stage.scenario import Scenario
from lab.stage.states import spellings
from lab.stage.steps import Actor, Broken, Choice, NextStep, step_name
from lab.stage.storage import Saved as SavedStorage
from lab.stage.storage import Storage

NEW_KEYS = UUID(int=4)
Saved = tuple[SavedStorage, Any]


class Stage:
    """One scenario. It can be started again for every schedule."""

    def __init__(self, scenario: Scenario, change_schema: Callable[[str], str] = lambda sql: sql) -> None:
        self.scenario, self.storage = scenario, Storage(change_schema)
        self.bank, self.gateway = scenario.bank(self)
        self.actors: list[Actor] = []
        self.shown: dict[UUID, Shown] = {}
        """By key, what each form that was ever sent showed."""
        self.bank_faults, self.storage_faults = scenario.bank_faults, scenario.storage_faults
        self.spellings = {name: spellings(name, [form(1, name).key]) for name in scenario.symmetric}

    @contextmanager
    def open(self) -> Iterator["Stage"]:
        """Let the program use this stage instead of its own surroundings until the block ends."""
        with ExitStack() as stack:
            stack.callback(self.storage.close)
            stack.callback(self.clear)
            for owner, name, stand_in in stand_ins(self):
                stack.enter_context(patch.object(owner, name, stand_in))
            self.scenario.set_up(self)
            self.first = self.save()
            yield self

    def save(self) -> Saved:
        """Return a copy of storage, bank and clock. It does not contain the actors."""
        return self.storage.save(), self.bank.copy()

    def restore(self, saved: Saved) -> None:
        storage, bank = saved
        self.storage.restore(storage)
        self.bank = bank.copy()

    def new_key(self) -> UUID:
        """Return a unique id for the next row. The same schedule always gets the same ids."""
        counts = self.storage.rows("SELECT (SELECT count(*) FROM refund), count(*) FROM outbox_email")
        return uuid5(NEW_KEYS, f"{counts}{self._again}")

    def order_random_id(self) -> UUID:
        """Return the random id for an order that is about to begin."""
        count = self.storage.rows("SELECT count(*) FROM orders")[0][0]
        return uuid5(ORDER_IDS, f"{count + 1}{self._again}")

    def order_version(self) -> int:
        """Return a version that no order has."""
        latest = self.storage.rows("SELECT coalesce(max(version), 0) FROM orders")[0][0]
        return int(latest) + 1 + 1000 * self.storage.times_gone_back

    @property
    def _again(self) -> str:
        """Return a text that makes ids differ from those that were made before the database went back."""
        return "again" * self.storage.times_gone_back

    def host_clock(self) -> float:
        """Return the time on the host of this actor. Every actor has a host of its own."""
        actor = getcurrent()
        ahead = dict(self.scenario.clocks).get(actor.name, 0.0) if isinstance(actor, Actor) else 0.0
        return self.storage.clock + ahead

    # For actors

    def step(self, kind: str, label: str, ready: Callable[[], bool] | None = None) -> str:
        """Pause until the schedule chooses this actor, and return the step's fate. Outside of actors, return "ok"."""
        if self.storage.connection.in_transaction:
            raise Broken(f"{label}: a step while a transaction is open")
        actor = getcurrent()
        return actor.wait(NextStep(kind, label, ready)) if isinstance(actor, Actor) else "ok"

    def when(self, label: str, ready: Callable[[], bool]) -> None:
        """Pause until `ready` returns true. The schedule decides how much later the actor continues."""
        self.step("when", label, ready)

    def before_transaction(self, kind: str) -> None:
        fate = self.step(kind, step_name(sys._getframe(2)))
        actor = getcurrent()
        if isinstance(actor, Actor) and actor.next_step.leases and self.scenario.time_passes:
            self.storage.until_due(actor.next_step.leases)
        if fate == "failed":
            raise OperationalError("BEGIN", None, Exception("the storage is not reachable"))
        self.storage.connection.begin(lose_answer=fate == "lost")

    # For the scheduler

    def begin(self) -> None:
        """Reset everything. Every actor pauses before its first step."""
        self.clear()
        self.restore(self.first)
        self.begin_with(self.scenario.scripts(self))

    def begin_with(self, scripts: dict[str, Script]) -> None:
        self.bank_faults, self.storage_faults = self.scenario.bank_faults, self.scenario.storage_faults
        for name, script in scripts.items():
            self.enter(name, script)

    def begin_alone(self, name: str) -> Actor:
        """Start only one of the actors, before its first step. Call `restore` next."""
        self.clear()
        self.enter(name, self.scenario.scripts(self)[name])
        return self.actors[0]

    def enter(self, name: str, script: Script) -> None:
        """Add an actor and run it to its first step."""
        actor = Actor(name, script)
        self.actors.append(actor)
        actor.switch()

    def clear(self) -> None:
        """End every actor, wherever it is."""
        for actor in self.actors:
            actor.kill()
        self.actors = []

    def choices(self) -> list[Choice]:
        """Return every step that can be next."""
        waiting = [actor for actor in self.actors if not actor.dead]
        waiting = [actor for actor in waiting if actor.next_step.immediate][:1] or waiting
        found = [Choice(actor.name, fate) for actor in waiting for fate in self._fates(actor)]
        if waiting and waiting[0].next_step.immediate:
            return found
        return found + [Choice("network", str(number)) for number in range(len(self.bank.held))]

    def _fates(self, actor: Actor) -> tuple[str, ...]:
        ready = bool(actor.next_step.ready and actor.next_step.ready())
        return self.scenario.fates(
            actor.next_step, actor.question_fate, ready, self.bank_faults > 0, self.storage_faults > 0
        )

    def take(self, choice: Choice) -> None:
        """Take one step."""
        if choice.actor == "network":
            self.bank.arrive(self.bank.held.pop(int(choice.fate)))
            return
        actor = self.actor(choice.actor)
        self.bank_faults -= actor.next_step.uses_bank_fault(choice.fate)
        self.storage_faults -= actor.next_step.uses_storage_fault(choice.fate)
        actor.resume(choice.fate)

    def actor(self, name: str) -> Actor:
        return next(actor for actor in self.actors if actor.name == name)

    def describe(self, choice: Choice) -> str:
        """Return the step in words, for a person who reads a schedule."""
        if choice.actor == "network":
            return f"network: {self.bank.held[int(choice.fate)].verb} arrives"
        return f"{choice.actor}: {self.actor(choice.actor).next_step.label} {choice.fate}"

    def deliver(self) -> None:
        """Deliver everything that was held back in the network."""
        while self.bank.held:
            self.bank.arrive(self.bank.held.pop(0))


def stand_ins(stage: Stage) -> Iterator[tuple[object, str, object]]:
    """Yield what replaces the program's surroundings: owner, name and replacement.

    The protocol, recovery, refunds, webhooks and their SQL statements are not replaced.
    """

    class SteppingEngine:
        """Pauses before each transaction, reading or writing."""

        def connect(self) -> Any:
            stage.before_transaction("read")
            return stage.storage.engine.connect()

        def begin(self) -> Any:
            stage.before_transaction("tx")
            return stage.storage.engine.begin()

    class Deadline:
        """Allows one question to the gateway. The schedule decides whether there is time for another."""

        def __init__(self, seconds: float) -> None: ...

        def left(self) -> float:
            return 1.0

        def pause(self, seconds: float) -> bool:
            return stage.step("pause", "pause") == "again"

    quiet = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), lambda *_, **__: None))
    yield app.database, "db", SimpleNamespace(engine=SteppingEngine())
    yield app.leases, "uniform", lambda _least, most: most
    yield app.leases, "time", stage.host_clock
    yield protocol, "Deadline", Deadline
    yield requests, "time", stage.host_clock
    yield questions, "perf_counter", lambda: 0.0
    yield evidence, "store", lambda _found: None
    yield basket, "new_uuid", stage.order_random_id
    yield basket, "new_version", stage.order_version
    yield outbox, "uuid4", stage.new_key
    for module in (arrivals, outcomes, protocol, recovery, refunds, receive):
        yield module, "log", quiet
