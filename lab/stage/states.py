"""The identity of a state. If two moments are the same state, the same can follow, so it is explored only once.

A state consists of the stored rows (times only if something depends on them) and those of a copy, the bank's records,
the questions that the network holds back, and the position of each actor: the program's functions that it is in, the
instruction that each has reached, and their variables.
"""

import dis
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from app.charges.recovery import Due
from app.charges.refund_rows import ARRIVES_WITHIN, FRESH
from app.charges.rows import ChargeSnapshot
from lab.stage.actors import RECEIPT_IDS
from lab.stage.steps import PROGRAM_MODULES, Actor
from lab.stage.storage import PENDING

if TYPE_CHECKING:
    from lab.stage.stage import Stage

PLAIN = (str, int, float, bytes, bool, type(None))

STORED = (
    "SELECT id, upper(key), upper(receipt_id), order_id, status, gateway_reference, refunded, reason, note IS NULL, "
    "created_at < ?, wanted_at IS NULL, hold_until IS NOT NULL AND ask_at <= ? FROM charge",
    "SELECT id, charge_id, upper(key), amount, status, stray, note IS NULL, times_asked, "
    f"created_at < strftime('', 'now', '{-FRESH} s'), send_until < strftime('', 'now', '0 s'), "
    f"send_until < strftime('', 'now', '{-ARRIVES_WITHIN} s') FROM refund",
    "SELECT charge_id, refund_id, account, amount FROM ledger_entry ORDER BY id",
    "SELECT id, stock, stocked FROM product",
    "SELECT id, state, version FROM orders",
    "SELECT order_id, product_id, quantity, unit_price FROM order_line",
    "SELECT fingerprint FROM same_order",
    "SELECT charge_id FROM same_order_charge",
    "SELECT charge_id, product_id, quantity, unit_price FROM charge_line",
    "SELECT charge_id FROM outbox_email",
    "SELECT event_id, effect, charge_id FROM webhook_event",
)


def stored(stage: "Stage") -> str:
    """Return the stored rows and the bank's records, without the actors."""
    storage = stage.storage
    copy = _rows(stage, storage.rows_of_copy) if storage.copy else None
    return repr((_rows(stage, storage.rows), copy, storage.times_gone_back, stage.bank.state()))


def _rows(stage: "Stage", read: Callable[..., list[Any]]) -> list[object]:
    now = stage.storage.at(stage.storage.clock)
    return [*(read(sql, *[now] * sql.count("?")) for sql in STORED), _waiting(stage, read)]


def _waiting(stage: "Stage", read: Callable[..., list[Any]]) -> list[object]:
    """Return when recovery can ask about each row.

    If time passes and only one row waits, its time changes nothing: recovery takes that row next in any case.
    """
    found: list[object] = []
    least = 2 if stage.scenario.time_passes else 1
    for table, pending in PENDING.items():
        rows = read(f"SELECT id, ask_at, times_asked FROM {table} WHERE {pending}")
        found.append([(id_, stage.storage.since(at), asked) for id_, at, asked in rows] if len(rows) >= least else [])
    return found


def spellings(name: str, tokens: list[UUID]) -> list[str]:
    """Return every spelling of this actor's own receipt ids and key."""
    ids = [uuid5(RECEIPT_IDS, f"{name}{attempt}") for attempt in range(3)] + tokens
    return [text for each in ids for text in (each.hex.upper(), str(each))]


def position(actor: Actor) -> object:
    """Return the position of an actor with its variables. It is cached: it does not change while the actor pauses."""
    if actor.position is None:
        asked = actor.next_step.kind == "pause" and actor.question_fate
        actor.position = _ended(actor) if actor.dead else (actor.next_step[:2], asked, _frames(actor.gr_frame))
    return actor.position


def _ended(actor: Actor) -> object:
    return "ended", plain(actor.result), plain(actor.error)


def _frames(frame: FrameType | None) -> list[object]:
    found: list[object] = []
    while frame:
        if frame.f_globals["__name__"].startswith(tuple(PROGRAM_MODULES)):
            known = [(name, plain(value)) for name, value in sorted(frame.f_locals.items())]
            found.append((frame.f_code.co_name, _instruction(frame), known))
        frame = frame.f_back
    return found


def _instruction(frame: FrameType) -> int:
    """Return the offset of the instruction that the frame has reached.

    Once a call has run often, Python 3.11 joins its two instructions, and then the frame is at the first of them.
    """
    return _joined_calls(frame.f_code).get(frame.f_lasti, frame.f_lasti)


@cache
def _joined_calls(code: CodeType) -> dict[int, int]:
    """Return the offset of each CALL that follows a PRECALL, with the offset of that PRECALL."""
    instructions = list(dis.get_instructions(code))
    return {
        call.offset: before.offset for before, call in pairwise(instructions) if before.opname == "PRECALL"
    }  # fmt: skip


def plain(value: object) -> object:
    """Return the parts of a value that something can depend on. Of other objects, return only the type."""
    if isinstance(value, ChargeSnapshot):
        value = value._replace(arrivals=0, other_arrivals=0)  # Nothing depends on these.
    if isinstance(value, Due):
        value = value._replace(times_asked=0)  # Only the time until the next question depends on it, see `_waiting`.
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    if isinstance(value, Exception):
        return type(value).__name__, getattr(value, "reason", None), getattr(value, "again", None)
    if isinstance(value, (*PLAIN, UUID, Enum)):
        return str(value)
    return repr(value) if is_dataclass(value) and not isinstance(value, type) else type(value).__name__
