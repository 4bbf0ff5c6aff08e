"""Long random runs from a seed: many shoppers, orders, cards, crashes and clock jumps; bank and storage fail.

The explorer tries every order of the steps of a few actors. This tries some orders of many. The clock runs, leases may
run out, shoppers return a day later with an old form, and the stock gets low.
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
from lab.stage.actors import Story
from lab.stage.bank import APPROVES, ASKS, DECLINES
from lab.stage.forms import BUYERS, FORMS
from lab.stage.scenario import Scenario
from lab.stage.stage import Stage
from lab.stage.steps import Actor, Choice
from tests.simulation import invariants
from tests.simulation.invariants import Facts, Stand

ORDERS, STOCK, CROWD = 12, 9, 8
"""The number of buyers with a basket each, of pieces in stock, and of actors at the same time."""

FAULTY, CRASHES, COMES, SLEEPS, STOCKS = 0.25, 0.02, 0.25, 0.05, 0.01
"""How likely it is, at each step, that it fails, an actor is killed, one is added, time jumps, or new stock comes."""

JUMPS = (1.0, 5.0, 16.0, 30.0, 700.0, 4000.0, 90_000.0)
"""Seconds: within a deadline, past it, past a lease, past the same order's ten minutes, past ACTION_WINDOW, a day."""

CARDS = (APPROVES, APPROVES, APPROVES, DECLINES, ASKS)

RANDOM = Scenario(
    "random", "whoever comes, whatever happens", lambda _stage: {}, orders=ORDERS, stock=STOCK, time_passes=False,
    refusals=frozenset({"SoldOut", "OrderChanged", "OrderedBefore", "Busy"}), bank_faults=1e9, storage_faults=1e9,
)  # fmt: skip


class Lost(Exception):
    """A random run that broke the program. Its seed repeats it."""

    def __init__(self, seed: int, step: int, last: list[str], why: Exception) -> None:
        again = f"python -m tests.simulation --random {seed} --steps {step}"
        super().__init__("\n".join([f"{type(why).__name__}: {why}", *(f"  {line}" for line in last), again]))


@dataclass
class Tally:
    """What happened in a run."""

    seed: int
    steps: int = 0
    came: int = 0
    crashes: int = 0
    faults: int = 0
    charges: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.charges.items()))
        return (
            f"seed {self.seed}: {self.steps:,} steps, {self.came} came, {self.crashes} crashes, {self.faults} faults; "
            f"charges: {ended}; {self.steps / max(self.seconds, 0.001):,.0f} steps a second"
        )


class Run:
    """The run of one seed."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.random = stage, Random(seed)
        self.tally = Tally(seed)
        self.last: list[str] = []
        self.forms: list[Token] = []
        self.told: list[Stand] = []
        """What actors were told. It must stay true for ever. `new` are those of this step."""
        self.new: list[Stand] = []

    def play(self, steps: int) -> Tally:
        """Take so many steps and check everything after each. Then let recovery finish and audit. Raises Lost."""
        began = perf_counter()
        self.stage.begin()
        before = invariants.facts(self.stage)
        try:
            for self.tally.steps in range(1, steps + 1):
                self._step()
                before = self._check(before)
            self.stage.clear()
            rest = invariants.at_rest(self.stage)
            self._still_true(self.told, rest)
            self.tally.charges = Counter(row.status for row in rest.charges.values())
        except Exception as why:
            raise Lost(self.tally.seed, self.tally.steps, self.last, why) from why
        self.tally.seconds = perf_counter() - began
        return self.tally

    def _step(self) -> None:
        stage, random = self.stage, self.random
        if random.random() < SLEEPS:
            stage.storage.clock += random.choice(JUMPS)
        if random.random() < STOCKS:
            stage.storage.rows("UPDATE product SET stock = stock + 3, stocked = stocked + 3")
        if len(stage.actors) < CROWD and random.random() < COMES:
            self._somebody_comes()
        if stage.actors and random.random() < CRASHES:
            self.tally.crashes += 1
            self._leave(random.choice(stage.actors))
        choices = stage.choices()
        if choices:
            self._take(self._chosen(choices))
        for actor in [actor for actor in stage.actors if actor.dead]:
            self._leave(actor)

    def _chosen(self, choices: list[Choice]) -> Choice:
        """Choose an actor's step, which usually does not fail."""
        who = self.random.choice(sorted({choice.actor for choice in choices}))
        fates = [choice for choice in choices if choice.actor == who]
        if fates[0].fate == "ok" and self.random.random() > FAULTY:
            return fates[0]
        return self.random.choice(fates)

    def _take(self, choice: Choice) -> None:
        self.tally.faults += choice.actor != "network" and choice.fate not in {"ok", "again", "enough"}
        self.last = [*self.last[-30:], self.stage.describe(choice)]
        self.stage.take(choice)

    def _leave(self, actor: Actor) -> None:
        if actor.dead:
            self.new.append(Stand.of(actor))
        actor.kill()
        self.stage.actors.remove(actor)

    def _somebody_comes(self) -> None:
        self.tally.came += 1
        kinds = (self._shopper, self._basket, self._worker, self._page, self._refund, self._webhook)
        name, story = self.random.choices(kinds, weights=(8, 3, 2, 2, 1, 1))[0]()
        self.stage.enter(f"{name} {self.tally.came}", story)

    def _shopper(self) -> tuple[str, Story]:
        """Add a shopper with a new form of some order, or with one that was sent before."""
        token = self.random.choice(self.forms) if self.forms and self.random.random() < 0.4 else self._new_form()
        # Two buyers share an e-mail address: the same order from two devices.
        email = f"buyer{int(token.buyer_id) % (ORDERS - 1)}@example.org"
        again = self.random.random() < 0.5
        card = self.random.choice(CARDS)
        name = f"shopper of {token.order_random_id}"
        story = actors.shopper(self.stage, f"{name} {self.tally.came}", token, card, email=email, again=again)
        return name, story

    def _new_form(self) -> Token:
        buyer = uuid5(BUYERS, str(self.random.randint(1, ORDERS)))
        with reading() as tx:
            order = basket.newest(tx, buyer)
            assert order is not None
            key = uuid5(FORMS, f"random {len(self.forms)}")
            token = Token(key, order.random_id, order.version, buyer, order.total, "EUR", issued=0)
        self.forms.append(token)
        return token

    def _worker(self) -> tuple[str, Story]:
        return "recovery", actors.worker(self.stage, turns=4)

    def _refund(self) -> tuple[str, Story]:
        paid = self._form_in("succeeded")
        if paid is None:
            return self._worker()
        amount = self.random.choice((100, 1200, 2400))
        return "refund", actors.refunder(self.stage, paid, amount, uuid5(FORMS, f"refund {paid.key} {amount}"))

    def _basket(self) -> tuple[str, Story]:
        buyer = uuid5(BUYERS, str(self.random.randint(1, ORDERS)))
        return "basket", actors.fills_basket(buyer, self.random.choice((1, 1, 2)))

    def _webhook(self) -> tuple[str, Story]:
        token = self.random.choice(self.forms) if self.forms else self._new_form()
        return "webhook", actors.bank_tells(self.stage, token.key)

    def _page(self) -> tuple[str, Story]:
        waiting = self._form_in("requires_action")
        if waiting is None:
            return self._worker()
        if self.random.random() < 0.2:
            return "gives up", actors.gives_up(self.stage, waiting.key)
        return "page", actors.visitor(self.stage, waiting.key, confirm=self.random.random() < 0.7)

    def _form_in(self, status: str) -> Token | None:
        """Return a form whose charge has this status."""
        found = {key for (key,) in self.stage.storage.rows("SELECT key FROM charge WHERE status = ?", status)}
        forms = [token for token in self.forms if token.key.hex in found]
        return self.random.choice(forms) if forms else None

    def _check(self, before: Facts) -> Facts:
        """Check what is stored, everything that was told in this step, and a sample of what was told before."""
        now = invariants.facts(self.stage)
        invariants.step(self.stage.scenario, before, now)
        for stand in self.new:
            invariants.form_leads_to_its_charge(stand, now)
        self._still_true([*self.new, *self.random.sample(self.told, min(3, len(self.told)))], now)
        self.told += self.new
        self.new = []
        return now

    def _still_true(self, stands: list[Stand], now: Facts) -> None:
        for stand in stands:
            invariants.answers_are_true(self.stage.scenario, stand, now)


def run(seed: int, steps: int) -> Tally:
    """Raises Lost."""
    with Stage(RANDOM).open() as stage:
        return Run(stage, seed).play(steps)


def run_for(seconds: float, steps: int, seed: int, say: Callable[[str], None]) -> list[Tally]:
    """Run one seed after the other for this time. Raises Lost."""
    until, tallies = perf_counter() + seconds, []
    while perf_counter() < until:
        tallies.append(run(seed + len(tallies), steps))
        say(str(tallies[-1]))
    return tallies
