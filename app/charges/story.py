"""The story of one payment: everything that is known of it, on one timeline. It names no person."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, String, or_, select, text
from sqlalchemy.orm import Session

from app.charges.models import ArrivalRow, Charge, Dispute, QuestionRow, Refund
from app.charges.states import PENDING
from app.charges.tokens import REFERENCE_LENGTH, reference
from app.database import UtcDateTime, objects, reading
from app.mail.models import OutboxEmail
from app.money import format_money

EVENTS = text(
    "SELECT received_at, event_id, kind, effect, note FROM webhook_event WHERE charge_id = :charge_id ORDER BY id"
).columns(received_at=UtcDateTime(), event_id=String(), kind=String(), effect=String(), note=String())
"""As SQL, because the events belong to an entry point, which the core does not know."""


class Moment(NamedTuple):
    """Something that happened. `at` is in UTC, by the clock of the database or of the host that noted it."""

    at: datetime
    what: str
    detail: str


class Story(NamedTuple):
    """A charge and its moments, oldest first."""

    charge: Charge
    moments: list[Moment]


def tell(name: str) -> Story | None:
    """Return the story of the charge with this receipt id, reference or key, or with a refund under this key."""
    with reading(together=True) as tx:
        session = objects(tx)
        charge: Charge | None = session.scalar(_find(name))
        if charge is None:
            return None
        moments = [moment for part in PARTS for moment in part(session, charge)]
        return Story(charge, sorted(moments, key=lambda moment: moment.at))


def as_json(story: Story) -> dict[str, Any]:
    """Return the story for programs."""
    charge = story.charge
    return {
        "reference": reference(charge.receipt_id), "key": str(charge.key), "status": charge.status,
        "amount": charge.amount, "currency": charge.currency, "gateway": charge.gateway, "account": charge.account,
        "request_id": charge.request_id, "arrivals": charge.arrivals, "other_arrivals": charge.other_arrivals,
        "moments": [{**moment._asdict(), "at": moment.at.isoformat()} for moment in story.moments],
    }  # fmt: skip


def as_text(story: Story) -> str:
    """Return the story as lines for people."""
    charge = story.charge
    money = format_money(charge.amount, charge.currency)
    head = f"{reference(charge.receipt_id)}  {money}  {charge.status}  {charge.gateway} {charge.account}  {charge.key}"
    lines = [f"{each.at:%Y-%m-%d %H:%M:%S.%f}Z  {each.what:<14}  {each.detail}".rstrip() for each in story.moments]
    return "\n".join([head, *lines])


def _find(name: str) -> Select[Charge]:
    if len(name) == REFERENCE_LENGTH and name.isalnum():
        # Earlier ids begin with their reference. No index knows the end of an id, so this reads the whole table.
        ends = or_(Charge.receipt_id.endswith(name), Charge.receipt_id.startswith(f"{name}-"))
        return select(Charge).where(ends).order_by(Charge.id.desc()).limit(1)
    try:
        key = UUID(name)
    except ValueError:
        return select(Charge).where(Charge.receipt_id == name)
    of_refund = select(Refund.charge_id).where(Refund.key == key).scalar_subquery()
    return select(Charge).where(or_(Charge.receipt_id == name, Charge.key == key, Charge.id == of_refund))


def _words(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part not in (None, ""))


def _charge(_session: Session, charge: Charge) -> Iterator[Moment]:
    request_id = charge.request_id and f"request {charge.request_id}"
    yield Moment(charge.created_at, "claimed", _words(f"order {charge.order_id}", request_id))
    refused = charge.gateway_message and f"the gateway says: {charge.gateway_message}"
    if charge.ended_at:
        yield Moment(charge.ended_at, str(charge.status), _words(charge.reason, refused, charge.gateway_request_id))
    elif charge.asked_at:
        yield Moment(charge.asked_at, str(charge.status), _words(charge.note, charge.attention, refused))
    if charge.status in PENDING:
        tries = f"recovery has tried {charge.times_asked} times and asks again then"
        yield Moment(charge.ask_at, "next question", tries)


def _arrivals(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.scalars(select(ArrivalRow).where(ArrivalRow.charge_key == charge.key)):
        request_id = each.request_id and f"request {each.request_id}"
        yield Moment(each.arrived_at, "form arrived", _words(each.answer, each.browser, each.network, request_id))


def _questions(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.scalars(select(QuestionRow).where(QuestionRow.charge_key == charge.key)):
        took, key = f"after {each.seconds:.3f} s", each.refund_key and f"refund {each.refund_key}"
        said = _words(f"{each.result} {took}", each.note, f"by {each.asked_by}", key, each.provider_request_id)
        yield Moment(each.asked_at, f"ask {each.kind}", said)


def _refunds(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.scalars(select(Refund).where(Refund.charge_id == charge.id)):
        money = format_money(each.amount, charge.currency)
        stray = "of a stray payment" if each.stray else None
        yield Moment(each.created_at, "refund claimed", _words(money, stray, each.key))
        if each.ended_at:
            yield Moment(each.ended_at, f"refund {each.status}", _words(money, each.reason, each.attention, each.key))
        elif each.asked_at:
            yield Moment(each.asked_at, f"refund {each.status}", _words(money, each.note, each.attention, each.key))


def _disputes(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.scalars(select(Dispute).where(Dispute.charge_id == charge.id)):
        money = format_money(each.amount, charge.currency)
        yield Moment(each.created_at, "dispute opened", _words(money, each.reason, each.gateway_reference))
        if each.ended_at:
            yield Moment(each.ended_at, f"dispute {each.status}", _words(money, each.gateway_reference))


def _events(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.execute(EVENTS, {"charge_id": charge.id}):
        yield Moment(each.received_at, "event", _words(each.kind, each.effect, each.note, each.event_id))


def _emails(session: Session, charge: Charge) -> Iterator[Moment]:
    for each in session.scalars(select(OutboxEmail).where(OutboxEmail.charge_id == charge.id)):
        error = each.note and each.note.partition(":")[0]  # The rest may hold the e-mail address.
        if each.sent_at:
            yield Moment(each.sent_at, "e-mail sent", f"tries: {each.tries}")
        elif each.gave_up_at:
            yield Moment(each.gave_up_at, "e-mail given up", _words(f"tries: {each.tries}", error))
        else:
            yield Moment(each.send_at, "e-mail due", _words(f"tries: {each.tries}", error))


PARTS: tuple[Callable[[Session, Charge], Iterator[Moment]], ...] = (
    _charge, _arrivals, _questions, _refunds, _disputes, _events, _emails,
)  # fmt: skip
