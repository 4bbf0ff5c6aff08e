"""The invariants: some must hold after every step, and all must hold once the bank answers and recovery has finished.

Broken is raised with a message that says what was broken. `audit` is the program's own and compares with the bank's
statement. The other checks are ours, so that a mistake in the audit can't hide a mistake in the protocol.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from app.charges import audit, recovery
from app.charges.audit import GRACE
from app.charges.states import PENDING, REFUND_PENDING, SUCCEEDED, WITHOUT_MONEY, RefundStatus, Status
from lab.stage import actors
from lab.stage.actors import ACTION_WINDOW, GATEWAY_DEADLINE, LookedUp, Redirected, RefundTold, Refused, StopAfter
from lab.stage.forms import Shown
from lab.stage.scenario import Scenario
from lab.stage.steps import Actor, Broken, NextStep
from tests.simulation import lost

if TYPE_CHECKING:
    from lab.stage.stage import Stage

ROUNDS = 100
"""Passes of recovery, with enough time between them, after which nothing may be in doubt.

A provider stores a failure under its key and returns it for a day. So from the tenth on, an hour passes before each.
"""


CHARGES = """
SELECT c.id, lower(c.key), receipt_id, order_id, status, lower(c.buyer_id), lower(o.buyer_id),
       (SELECT group_concat(product_id || '×' || quantity) FROM charge_line WHERE charge_id = c.id)
FROM charge c JOIN orders o ON o.id = order_id
"""


REFUNDS = "SELECT lower(key), status, amount FROM refund"


class ChargeRow(NamedTuple):
    """The parts of a charge that a shopper can have been told."""

    id: int
    key: str
    receipt_id: str
    order_id: int
    status: Status
    buyer_id: str
    order_buyer_id: str
    goods: str


@dataclass
class Records:
    """The stored rows that are checked, and the bank's records.

    `taken` counts how often money was taken, by key. `moved` is how much was taken and given back in all, by kind, and
    how many movements each key has. `refunds` are the status and amount of each refund here, by key. `held` is the
    number of questions that the network holds back. `shown` is what each form showed, by key.
    """

    charges: dict[int, ChargeRow]
    taken: Counter[str]
    moved: Counter[str]
    refunds: dict[str, tuple[str, int]]
    held: int
    times_gone_back: int
    shown: Mapping[UUID, Shown]


@dataclass
class Situation:
    """The position of an actor, or its result if it has ended (then `at` is None)."""

    at: NextStep | None
    asked: str
    result: object
    error: Exception | None

    @classmethod
    def of(cls, actor: Actor) -> "Situation":
        return cls(None if actor.dead else actor.next_step, actor.question_fate, actor.result, actor.error)


def read_records(stage: "Stage") -> Records:
    storage = stage.storage
    charges = {row[0]: ChargeRow(*row[:4], Status(row[4]), *row[5:]) for row in storage.rows(CHARGES)}
    moved = Counter[str]()
    for entry in stage.bank.statement():
        moved[entry.kind] += entry.amount
        moved[entry.key] += 1
    refunds = {key: (status, amount) for key, status, amount in storage.rows(REFUNDS)}
    return Records(
        charges, stage.bank.taken(), moved, refunds, len(stage.bank.held), storage.times_gone_back, stage.shown
    )


def check_step(scenario: Scenario, before: Records, now: Records) -> None:
    """Check the records after a step, and the change that the step made. Raises Broken."""
    if now.times_gone_back == before.times_gone_back:
        _charges_are_kept(before.charges, now.charges)
    _one_live_charge(now.charges)
    _as_shown(now)
    _money_moved_once(scenario, now)
    open_refunds = Counter(amount for status, amount in now.refunds.values() if status in REFUND_PENDING)
    if scenario.one_open_refund and any(count > 1 for count in open_refunds.values()):
        raise Broken(f"two refunds of the same amount are open: {now.refunds}")
    live = [row for row in now.charges.values() if row.status not in WITHOUT_MONEY]
    paid = [row for row in live if row.status is SUCCEEDED]
    if scenario.most_paid is not None and len(paid) > scenario.most_paid:
        raise Broken(f"more than {scenario.most_paid} charges have succeeded: {paid}")
    if scenario.most_live is not None and len(live) > scenario.most_live:
        raise Broken(f"more than {scenario.most_live} charges are live: {live}")


def _charges_are_kept(before: dict[int, ChargeRow], now: dict[int, ChargeRow]) -> None:
    """Check that each charge still exists, with its key and receipt id, and that an ended one has the same status."""
    for was in before.values():
        is_ = now.get(was.id)
        if is_ is None or is_[:4] != was[:4]:
            raise Broken(f"charge {was.id} was changed: {is_}")
        if was.status not in PENDING and is_.status != was.status:
            raise Broken(f"charge {was.id} had ended as {was.status} and is now {is_.status}")


def _one_live_charge(now: dict[int, ChargeRow]) -> None:
    keys = Counter(row.key for row in now.values())
    orders = Counter(row.order_id for row in now.values() if row.status not in WITHOUT_MONEY)
    for name, count in (*keys.items(), *orders.items()):
        if count > 1:
            raise Broken(f"{name} has {count} charges")


def _as_shown(now: Records) -> None:
    """Check that each charge is the buyer's own, for what the form showed, and that no order is paid without money."""
    taken = set(map(without_dashes, now.taken))
    for row in now.charges.values():
        shown = now.shown[UUID(row.key)]
        if {row.buyer_id, row.order_buyer_id} != {shown.buyer_id.hex}:
            raise Broken(f"{row} is not the order of the form's buyer {shown.buyer_id.hex}")
        if row.goods != shown.goods:
            raise Broken(f"{row} is not for what the form showed: {shown.goods}")
        if row.status is SUCCEEDED and row.key not in taken:
            raise Broken(f"{row} is paid, but the bank took nothing")


def _money_moved_once(scenario: Scenario, now: Records) -> None:
    """Check that money was taken once per key, only for claimed charges, and at most once per order.

    If the database lost confirmed transactions, a claim can be missing. `_audit` checks that the audit lists it.
    """
    if now.moved["refund"] > now.moved["charge"]:
        raise Broken(f"more was given back than taken: {now.moved}")
    order_of = {row.key: row.order_id for row in now.charges.values()}
    by_order: Counter[int] = Counter()
    for key, times in now.taken.items():
        if times > 1 and scenario.honours_keys:
            raise Broken(f"the bank took money {times} times under {key}")
        if without_dashes(key) not in order_of:
            if lost.is_possible(scenario, now):
                continue
            raise Broken(f"the bank took money under {key}, for which there is no charge")
        by_order[order_of[without_dashes(key)]] += times
    for order, times in by_order.items():
        if times > 1 and scenario.truthful:
            raise Broken(f"the bank took money {times} times for order {order}")


def without_dashes(key: str) -> str:
    """Return the key as the database writes it: the hexadecimal digits without dashes."""
    return key.replace("-", "")


def check_told(scenario: Scenario, situation: Situation, now: Records) -> None:
    """Check that the result of an actor that has ended is true now. The caller repeats this in later states."""
    if situation.error:
        raise Broken(f"failed: {situation.error!r}") from situation.error
    if isinstance(situation.result, Refused):
        _refusal_stays_true(scenario, situation.result, now)
    if isinstance(situation.result, Redirected):
        _receipt_stays_the_same(scenario, situation.result, now)
    if isinstance(situation.result, RefundTold):
        _refund_stays_true(situation.result, now)


def _refund_stays_true(told: RefundTold, now: Records) -> None:
    moved = now.moved[str(told.key)]
    if (told.status == RefundStatus.SUCCEEDED and moved != 1) or moved > 1:
        raise Broken(f"told that {told.key} is {told.status}, but the bank refunded it {moved} times")


def check_own_receipt(situation: Situation, now: Records) -> None:
    """Check that a claimed form leads to its own charge. Call this when the actor has just been redirected."""
    told = situation.result
    if not isinstance(told, Redirected):
        return
    if not any(row.receipt_id == told.receipt_id for row in now.charges.values()):
        return  # `check_told` says whether that is possible.
    if any(row.key == told.key.hex and row.receipt_id != told.receipt_id for row in now.charges.values()):
        raise Broken("redirected to a charge that is not the form's")


def check_lookups(scenario: Scenario, situations: list[Situation]) -> None:
    """Check that no two workers look up the same row at the same time."""
    rows = sum(situation.result.rows for situation in situations if isinstance(situation.result, LookedUp))
    if scenario.most_lookups is not None and rows > scenario.most_lookups:
        raise Broken(f"recovery looked up {rows} rows although one lookup is enough")


def _refusal_stays_true(scenario: Scenario, told: Refused, now: Records) -> None:
    if told.reason not in scenario.refusals:
        raise Broken(f"refused: {told.reason}")
    if any(row.receipt_id == told.receipt_id for row in now.charges.values()):
        raise Broken(f"told that nothing was charged ({told.reason}), but there is a charge")


def _receipt_stays_the_same(scenario: Scenario, told: Redirected, now: Records) -> None:
    row = next((row for row in now.charges.values() if row.receipt_id == told.receipt_id), None)
    if row is None:
        if lost.is_possible(scenario, now):
            return
        raise Broken("redirected to a receipt that does not exist")
    if row.buyer_id != told.buyer_id.hex:
        raise Broken("redirected to the receipt of somebody else")
    if told.status in PENDING:
        return
    if lost.is_possible(scenario, now) and (row.status in PENDING or not scenario.truthful):
        return
    if row.status != told.status:
        raise Broken(f"told {told.status}, but it is {row.status}")
    taken = row.key in map(without_dashes, now.taken)
    untrue = taken and told.status is Status.CANCELED and lost.is_possible(scenario, now)
    if taken != (told.status is SUCCEEDED) and scenario.truthful and not untrue:
        raise Broken(f"told {told.status}, but the bank took {'money' if taken else 'nothing'}")


def check_now(stage: "Stage") -> Records:
    """Check everything that does not depend on an earlier state. Return the records. Raises Broken."""
    found = read_records(stage)
    _one_live_charge(found.charges)
    _money_moved_once(stage.scenario, found)
    for actor in stage.actors:
        if actor.dead:
            check_told(stage.scenario, Situation.of(actor), found)
    return found


def check_after_recovery(stage: "Stage") -> Records:
    """Check what remains if no actor continues, for example after a power cut.

    Recovery runs, the network delivers the held questions, recovery runs again, and every shopper pays who still can.
    Then outcomes must be known, ended charges unchanged, and the books must agree with the bank's statement, after
    lost payments were adopted. Return the records before that. The stage is not changed. Raises Broken.
    """
    saved, before = stage.save(), check_now(stage)
    try:
        _recover(stage)
        stage.deliver()
        _recover(stage)
        stage.bank.confirm_all()
        after = check_now(stage)
        _charges_are_kept(before.charges, after.charges)
        if doubtful := [row for row in after.charges.values() if row.status in PENDING]:
            raise Broken(f"the outcome is still unknown: {doubtful}")
        _audit(stage)
        if lost.is_possible(stage.scenario, stage.storage):
            lost.adopt(stage)
            _recover(stage)
            _audit(stage, all_is_adopted=True)
        return after
    finally:
        stage.restore(saved)


def _recover(stage: "Stage") -> None:
    stage.storage.clock += ACTION_WINDOW + 1 + max((abs(ahead) for _, ahead in stage.scenario.clocks), default=0)
    if not stage.scenario.truthful:
        stage.bank.correct_answers()
    if stage.scenario.events_repeat or not stage.scenario.truthful:
        for event in list(stage.bank.events()):
            actors.deliver(stage, event)
    for number in range(ROUNDS):
        stage.storage.clock += 3600 if number > 9 else 0
        stage.storage.until_due("charge")
        stage.storage.until_due("refund")
        if recovery.run(stage.gateway, GATEWAY_DEADLINE, ACTION_WINDOW, StopAfter(ROUNDS)) == 0:
            return
    raise Broken("recovery does not finish")


def _audit(stage: "Stage", *, all_is_adopted: bool = False) -> None:
    stage.storage.clock += 1
    report = audit.audit(stage.bank.statement(), overdue=GATEWAY_DEADLINE + GRACE)
    if not all_is_adopted:
        lost.check_listed(stage, report)
    if report.broken or report.open or report.foreign:
        raise Broken(f"audit: {report}")
    if report.stray and stage.scenario.truthful and not lost.is_possible(stage.scenario, stage.storage):
        raise Broken(f"audit: stray payments: {report.stray}")
