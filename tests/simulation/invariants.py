"""What must hold: after every step, whatever was told; and once the bank answers and recovery has gone through, all.

Broken is raised with words that say what was broken. `audit` is the program's own and looks at the bank's statement;
the rest is ours, so that no mistake in the audit can hide one in the protocol.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from app.charges import audit, recovery
from app.charges.audit import GRACE
from app.charges.states import PENDING, SUCCEEDED, WITHOUT_MONEY, Status
from lab.stage import actors
from lab.stage.actors import SECONDS, WINDOW, Led, Looked, Refused, Turns
from lab.stage.forms import form
from lab.stage.scenario import Scenario
from lab.stage.steps import Actor, Broken, Stop

if TYPE_CHECKING:
    from lab.stage.stage import Stage

ROUNDS = 200
"""Passes of recovery, with all the time between them that it takes, after which nothing may be in doubt any more."""


class Row(NamedTuple):
    """A charge, as far as it was ever told to anybody."""

    id: int
    token: str
    receipt: str
    order: int
    status: Status


@dataclass
class Facts:
    """What is stored, as far as promises are checked against it; `taken` is how often money was, by key."""

    charges: dict[int, Row]
    taken: Counter[str]
    held: int


@dataclass
class Stand:
    """Where an actor stands, or (`at` is None) what it was told in the end."""

    at: Stop | None
    asked: str
    result: object
    error: Exception | None

    @classmethod
    def of(cls, actor: Actor) -> "Stand":
        return cls(None if actor.dead else actor.at, actor.asked, actor.result, actor.error)


def facts(stage: "Stage") -> Facts:
    return Facts(charges(stage), stage.bank.taken(), len(stage.bank.held))


def charges(stage: "Stage") -> dict[int, Row]:
    found = stage.storage.rows("SELECT id, lower(key), receipt_id, order_id, status FROM charge")
    return {row[0]: Row(*row[:4], Status(row[4])) for row in found}


def step(scenario: Scenario, before: Facts, now: Facts) -> None:
    """Check what is stored, and the step that led there."""
    _nothing_forgotten(before.charges, now.charges)
    _one_live_charge(now.charges)
    _money_moved_once(scenario, now)
    live = [row for row in now.charges.values() if row.status not in WITHOUT_MONEY]
    if scenario.most_live is not None and len(live) > scenario.most_live:
        raise Broken(f"more than {scenario.most_live} charges are live: {live}")


def _nothing_forgotten(before: dict[int, Row], now: dict[int, Row]) -> None:
    """A charge that is there stays there, with its token and receipt; how it ended stays so for good."""
    for was in before.values():
        is_ = now.get(was.id)
        if is_ is None or is_[:4] != was[:4]:
            raise Broken(f"charge {was.id} is not what it was: {is_}")
        if was.status not in PENDING and is_.status != was.status:
            raise Broken(f"charge {was.id} was {was.status} for good and is {is_.status}")


def _one_live_charge(now: dict[int, Row]) -> None:
    tokens = Counter(row.token for row in now.values())
    orders = Counter(row.order for row in now.values() if row.status not in WITHOUT_MONEY)
    for name, count in (*tokens.items(), *orders.items()):
        if count > 1:
            raise Broken(f"{name} has {count} charges")


def _money_moved_once(scenario: Scenario, now: Facts) -> None:
    """Money is only taken for a charge that was claimed before, and once an order."""
    order_of = {row.token: row.order for row in now.charges.values()}
    by_order: Counter[int] = Counter()
    for key, times in now.taken.items():
        if bare(key) not in order_of:
            raise Broken(f"the bank took money under {key}, for which there is no charge")
        by_order[order_of[bare(key)]] += times
    for order, times in by_order.items():
        if times > 1 and scenario.truthful:
            raise Broken(f"the bank took money {times} times for order {order}")


def bare(key: str) -> str:
    """As the database writes it."""
    return key.replace("-", "")


def told_the_truth(scenario: Scenario, stand: Stand, now: Facts) -> None:
    """What somebody was told in the end must be so now, and at any time later."""
    if stand.error:
        raise Broken(f"failed: {stand.error!r}") from stand.error
    if isinstance(stand.result, Refused):
        _refused_for_good(scenario, stand.result, now)
    if isinstance(stand.result, Led):
        _receipt_tells_the_same(scenario, stand.result, now)


def told_by_the_form(stand: Stand, now: Facts) -> None:
    """A form that is claimed leads to its own charge; to check when somebody was just led somewhere."""
    told = stand.result
    if not isinstance(told, Led):
        return
    if any(row.token == told.form.hex and row.receipt != told.receipt for row in now.charges.values()):
        raise Broken("led to another charge than that of the form")


def looked_once(scenario: Scenario, stands: list[Stand]) -> None:
    """What one worker looks after, no other one does at the same time."""
    rows = sum(stand.result.rows for stand in stands if isinstance(stand.result, Looked))
    if scenario.most_looks is not None and rows > scenario.most_looks:
        raise Broken(f"recovery looked {rows} times at what one look is enough for")


def _refused_for_good(scenario: Scenario, told: Refused, now: Facts) -> None:
    if told.why not in scenario.refusals:
        raise Broken(f"refused: {told.why}")
    if any(row.receipt == told.receipt for row in now.charges.values()):
        raise Broken(f"told that nothing was charged ({told.why}), but there is a charge")


def _receipt_tells_the_same(scenario: Scenario, told: Led, now: Facts) -> None:
    row = next((row for row in now.charges.values() if row.receipt == told.receipt), None)
    if row is None:
        raise Broken("led to a receipt that is not there")
    if told.status in PENDING:
        return
    if row.status != told.status:
        raise Broken(f"told {told.status}, but it is {row.status}")
    taken = row.token in map(bare, now.taken)
    if taken != (told.status is SUCCEEDED) and scenario.truthful:
        raise Broken(f"told {told.status}, but the bank took {'money' if taken else 'nothing'}")


def now(stage: "Stage") -> Facts:
    """Everything that can be checked without knowing what was before; answers what is stored."""
    found = facts(stage)
    _one_live_charge(found.charges)
    _money_moved_once(stage.scenario, found)
    for actor in stage.actors:
        if actor.dead:
            told_the_truth(stage.scenario, Stand.of(actor), found)
    return found


def at_rest(stage: "Stage") -> Facts:
    """Nobody moves any more (a power cut, say). The bank answers, recovery goes through, what was held back in the
    network arrives, recovery goes through again: then nothing is in doubt, the books agree with the bank, and nobody
    can pay any more for what has ended.

    Answers what is stored then; the stage is left as it was.
    """
    saved, before = stage.save(), now(stage)
    try:
        _recover(stage)
        stage.deliver()
        _recover(stage)
        stage.bank.everybody_pays()
        after = now(stage)
        _nothing_forgotten(before.charges, after.charges)
        if doubtful := [row for row in after.charges.values() if row.status in PENDING]:
            raise Broken(f"still not known: {doubtful}")
        _audit(stage)
        return after
    finally:
        stage.restore(saved)


def _recover(stage: "Stage") -> None:
    stage.storage.clock += WINDOW + 1
    if not stage.scenario.truthful:
        stage.bank.own_up()
        actors.tell(stage, form(1).key)  # A bank tells until it was heard.
    for _ in range(ROUNDS):
        stage.storage.until_due("charge")
        stage.storage.until_due("refund")
        if recovery.run(stage.line, SECONDS, WINDOW, Turns(ROUNDS)) == 0:
            return
    raise Broken("recovery finds no end")


def _audit(stage: "Stage") -> None:
    stage.storage.clock += 1
    report = audit.audit(stage.bank.statement(), overdue=SECONDS + GRACE)
    if report.broken or report.open or report.foreign:
        raise Broken(f"audit: {report}")
    if report.stray and stage.scenario.truthful:
        raise Broken(f"audit: money that should not be there: {report.stray}")
