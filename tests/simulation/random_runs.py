"""Long random runs from a seed: many shoppers, orders, cards, crashes and clock jumps; bank and storage fail.

The explorer tries every order of the steps of a few actors. This tries a random sample of the orders of up to
MOST_ACTORS actors, so it can find faults but proves nothing. The clock jumps, leases may expire, shoppers return a day
later with an old form, and the stock gets low. It runs and replaces the same as the explorer.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from uuid import uuid5

from app.charges.tokens import Token
from app.database import reading
from app.orders import basket
from lab.stage import actors
from lab.stage.actors import Script
from lab.stage.bank import APPROVES, DECLINES, NEEDS_CONFIRMATION
from lab.stage.forms import BUYER_IDS, KEYS
from lab.stage.scenario import Scenario
from lab.stage.stage import Stage
from lab.stage.steps import Actor, Choice
from tests.simulation import invariants
from tests.simulation.invariants import Records, Situation

ORDERS, STOCK, MOST_ACTORS = 12, 9, 8
"""The number of buyers with one basket each, the number of items in stock, and the most actors at the same time."""

FAULT_RATE, CRASH_RATE, ARRIVAL_RATE, JUMP_RATE, RESTOCK_RATE = 0.25, 0.02, 0.25, 0.05, 0.01
"""The probability, per step, that it fails, an actor is killed, one is added, the clock jumps, or new stock arrives."""

JUMPS = (1.0, 5.0, 16.0, 30.0, 700.0, 4000.0, 90_000.0)
"""Clock jumps in seconds: within a deadline, past it, past a lease, past the ten minutes of `same_order`, past
ACTION_WINDOW, and past a day."""

CARDS = (APPROVES, APPROVES, APPROVES, DECLINES, NEEDS_CONFIRMATION)

RANDOM = Scenario(
    "random", "many actors of every kind; every kind of failure", lambda _stage: {},
    orders=ORDERS, stock=STOCK, time_passes=False,
    refusals=frozenset({"SoldOut", "OrderChanged", "OrderedBefore", "Busy"}), bank_faults=1e9, storage_faults=1e9,
)  # fmt: skip


class BrokenRun(Exception):
    """A random run that broke the program. Its seed repeats it."""

    def __init__(self, seed: int, step: int, last: list[str], why: Exception) -> None:
        again = f"python -m tests.simulation --random {seed} --steps {step}"
        super().__init__("\n".join([f"{type(why).__name__}: {why}", *(f"  {line}" for line in last), again]))


@dataclass
class Tally:
    """Counts of the events in a run."""

    seed: int
    steps: int = 0
    arrived: int = 0
    crashes: int = 0
    faults: int = 0
    charges: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.charges.items()))
        return (
            f"seed {self.seed}: {self.steps:,} steps, {self.arrived} actors, {self.crashes} crashes, "
            f"{self.faults} faults; charges: {ended}; {self.steps / max(self.seconds, 0.001):,.0f} steps per second"
        )


class Run:
    """The run of one seed."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.random = stage, Random(seed)
        self.tally = Tally(seed)
        self.last: list[str] = []
        self.forms: list[Token] = []
        self.told: list[Situation] = []
        """The results of all actors that have ended. They must stay true. `new` contains those of this step."""
        self.new: list[Situation] = []

    def play(self, steps: int) -> Tally:
        """Take `steps` steps and check everything after each. Then let recovery finish, and audit. Raises BrokenRun."""
        began = perf_counter()
        self.stage.begin()
        before = invariants.read_records(self.stage)
        try:
            for self.tally.steps in range(1, steps + 1):
                self._step()
                before = self._check(before)
            self.stage.clear()
            self._deliver_refunds()
            after = invariants.check_after_recovery(self.stage)
            self._still_true(self.told, after)
            self.tally.charges = Counter(row.status for row in after.charges.values())
        except Exception as why:
            raise BrokenRun(self.tally.seed, self.tally.steps, self.last, why) from why
        self.tally.seconds = perf_counter() - began
        return self.tally

    def _step(self) -> None:
        stage, random = self.stage, self.random
        if random.random() < JUMP_RATE:
            self._deliver_refunds()
            stage.storage.clock += random.choice(JUMPS)
        if random.random() < RESTOCK_RATE:
            stage.storage.rows("UPDATE product SET stock = stock + 3, stocked = stocked + 3")
        if len(stage.actors) < MOST_ACTORS and random.random() < ARRIVAL_RATE:
            self._add_actor()
        if stage.actors and random.random() < CRASH_RATE:
            self.tally.crashes += 1
            self._remove(random.choice(stage.actors))
        choices = stage.choices()
        if choices:
            self._take(self._chosen(choices))
        for actor in [actor for actor in stage.actors if actor.dead]:
            self._remove(actor)

    def _deliver_refunds(self) -> None:
        """Deliver the requests for refunds that are under way or held back. None takes ARRIVES_WITHIN."""
        while asking := [each for each in self.stage.choices() if self.stage.describe(each).endswith(": refund ok")]:
            self._take(asking[0])
        held = self.stage.bank.held
        for question in [each for each in held if each.verb == "refund"]:
            held.remove(question)
            self.stage.bank.arrive(question)

    def _chosen(self, choices: list[Choice]) -> Choice:
        """Choose an actor's step, which usually does not fail."""
        name = self.random.choice(sorted({choice.actor for choice in choices}))
        fates = [choice for choice in choices if choice.actor == name]
        if fates[0].fate == "ok" and self.random.random() > FAULT_RATE:
            return fates[0]
        return self.random.choice(fates)

    def _take(self, choice: Choice) -> None:
        self.tally.faults += choice.actor != "network" and choice.fate not in {"ok", "again", "enough"}
        self.last = [*self.last[-30:], self.stage.describe(choice)]
        self.stage.take(choice)

    def _remove(self, actor: Actor) -> None:
        if actor.dead:
            self.new.append(Situation.of(actor))
        actor.kill()
        self.stage.actors.remove(actor)

    def _add_actor(self) -> None:
        self.tally.arrived += 1
        kinds = (self._shopper, self._basket, self._worker, self._page, self._refund, self._webhook)
        name, script = self.random.choices(kinds, weights=(8, 3, 2, 2, 1, 1))[0]()
        self.stage.enter(f"{name} {self.tally.arrived}", script)

    def _shopper(self) -> tuple[str, Script]:
        """Add a shopper with a new form of some order, or with one that was sent before."""
        token = self.random.choice(self.forms) if self.forms and self.random.random() < 0.4 else self._new_form()
        # Two buyers share an e-mail address: the same order from two devices.
        email = f"buyer{int(token.buyer_id) % (ORDERS - 1)}@example.org"
        again = self.random.random() < 0.5
        card = self.random.choice(CARDS)
        name = f"shopper of {token.order_random_id}"
        script = actors.shopper(self.stage, f"{name} {self.tally.arrived}", token, card, email=email, again=again)
        return name, script

    def _new_form(self) -> Token:
        buyer = uuid5(BUYER_IDS, str(self.random.randint(1, ORDERS)))
        with reading() as tx:
            order = basket.newest(tx, buyer)
            assert order is not None
            key = uuid5(KEYS, f"random {len(self.forms)}")
            token = Token(key, order.random_id, order.version, buyer, order.total, "EUR", issued=0)
        self.forms.append(token)
        return token

    def _worker(self) -> tuple[str, Script]:
        return "recovery", actors.worker(self.stage, turns=4)

    def _refund(self) -> tuple[str, Script]:
        paid = self._form_in("succeeded")
        if paid is None:
            return self._worker()
        amount = self.random.choice((100, 1200, 2400))
        return "refund", actors.refunder(self.stage, paid, amount, uuid5(KEYS, f"refund {paid.key} {amount}"))

    def _basket(self) -> tuple[str, Script]:
        buyer = uuid5(BUYER_IDS, str(self.random.randint(1, ORDERS)))
        return "basket", actors.basket_filler(buyer, self.random.choice((1, 1, 2)))

    def _webhook(self) -> tuple[str, Script]:
        token = self.random.choice(self.forms) if self.forms else self._new_form()
        return "webhook", actors.bank_webhook(self.stage, token.key)

    def _page(self) -> tuple[str, Script]:
        waiting = self._form_in("requires_action")
        if waiting is None:
            return self._worker()
        if self.random.random() < 0.2:
            return "gives up", actors.canceler(self.stage, waiting.key)
        return "page", actors.visitor(self.stage, waiting.key, confirm=self.random.random() < 0.7)

    def _form_in(self, status: str) -> Token | None:
        """Return a form whose charge has this status."""
        found = {key for (key,) in self.stage.storage.rows("SELECT key FROM charge WHERE status = ?", status)}
        forms = [token for token in self.forms if token.key.hex in found]
        return self.random.choice(forms) if forms else None

    def _check(self, before: Records) -> Records:
        """Check the records, every result of this step, and a sample of the earlier results."""
        now = invariants.read_records(self.stage)
        invariants.check_step(self.stage.scenario, before, now)
        for situation in self.new:
            invariants.check_own_receipt(situation, now)
        self._still_true([*self.new, *self.random.sample(self.told, min(3, len(self.told)))], now)
        self.told += self.new
        self.new = []
        return now

    def _still_true(self, situations: list[Situation], now: Records) -> None:
        for situation in situations:
            invariants.check_told(self.stage.scenario, situation, now)


def run(seed: int, steps: int) -> Tally:
    """Run one seed. Raises BrokenRun if the program breaks an invariant."""
    with Stage(RANDOM).open() as stage:
        return Run(stage, seed).play(steps)


def run_for(seconds: float, steps: int, seed: int, report: Callable[[str], None]) -> list[Tally]:
    """Run one seed after the other for `seconds`. Raises BrokenRun if the program breaks an invariant."""
    until, tallies = perf_counter() + seconds, []
    while perf_counter() < until:
        tallies.append(run(seed + len(tallies), steps))
        report(str(tallies[-1]))
    return tallies
