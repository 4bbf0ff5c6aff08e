"""The bank's HTTP interface for shops: JSON in, JSON out, every question under an idempotency key."""

import json
import time
from collections.abc import Iterator

from flask import Blueprint, Response, current_app, jsonify, request, url_for
from sqlalchemy import Engine, text

from app.gateways.sandbox.cards import Behaviour
from sandbox_bank import charges, faults, refunds
from sandbox_bank.asked import BadRequest, ChargeAsked, charge_asked, key_asked, refund_asked
from sandbox_bank.statement import entry_json, statement
from sandbox_bank.storage import Status, reading

api = Blueprint("api", __name__)

SILENT = (Behaviour.SILENT_TAKES, Behaviour.SILENT_TAKES_NOTHING)


def books() -> Engine:
    """The bank's storage."""
    engine: Engine = current_app.config["BOOKS"]
    return engine


@api.post("/v1/charges")
def charge() -> Response | tuple[Response, int]:
    """Take the money, each card in its own way. The key is decided when this answers, or fails to."""
    asked = charge_asked(_body(), request.headers.get("Idempotency-Key"))
    if asked.card.behaviour is Behaviour.SLOW and charges.find(books(), asked.key) is None:
        time.sleep(current_app.config["SLOW_SECONDS"])
    return _answer(asked, charges.charge(books(), asked))


@api.get("/v1/charges/<key>")
def find_charge(key: str) -> Response | tuple[Response, int]:
    """What became of a key."""
    row = charges.find(books(), key_asked(key))
    return _never_heard_of(key) if row is None else _charge_json(row)


@api.post("/v1/charges/<key>/cancel")
def cancel(key: str) -> Response:
    """Fence a key for good; answers with whichever outcome won."""
    return _charge_json(charges.cancel(books(), key_asked(key)))


@api.post("/v1/refunds")
def refund() -> Response:
    """Give money back, once a key."""
    asked = refund_asked(_body(), request.headers.get("Idempotency-Key"))
    return _refund_json(refunds.refund(books(), asked))


@api.get("/v1/refunds/<key>")
def find_refund(key: str) -> Response | tuple[Response, int]:
    """What became of a refund's key."""
    row = refunds.find(books(), key_asked(key))
    return _never_heard_of(key) if row is None else _refund_json(row)


@api.get("/v1/statement")
def show_statement() -> Response:
    """Every movement of money, one JSON object a line, oldest first, streamed."""
    return Response(_lines(books()), mimetype="application/x-ndjson")


@api.get("/healthz")
def healthz() -> Response:
    """Whether the bank and its storage answer."""
    with reading(books()) as look:
        look.execute(text("SELECT 1"))
    return jsonify(status="ok")


def _body() -> object:
    """The body's JSON; None where it is none."""
    try:
        return request.get_json(silent=True)
    except RecursionError:
        return None


@api.errorhandler(BadRequest)
def _bad_request(error: BadRequest) -> tuple[Response, int]:
    return jsonify(error=error.code, message=error.words), error.status


def _answer(asked: ChargeAsked, row: charges.Charge) -> Response | tuple[Response, int]:
    """The charge's outcome, or the way in which this card's answer fails to arrive."""
    behaviour = asked.card.behaviour
    if behaviour in SILENT:
        return faults.hold(current_app.config["HOLD_SECONDS"])
    if row.status == Status.RECEIVED:
        return _failure()
    if row.status == Status.SUCCEEDED and row.calls == 1:
        if behaviour is Behaviour.LOSES_FIRST_ANSWER:
            return faults.hang_up()
        if behaviour is Behaviour.FAILS_AFTER_TAKING:
            return _failure()
    return _charge_json(row)


def _charge_json(row: charges.Charge) -> Response:
    action = url_for("pages.action", action_id=row.action_id, _external=True) if row.action_id else None
    return jsonify(
        key=row.key,
        status=row.status,
        reason=row.reason,
        amount=row.amount,
        currency=row.currency,
        action_url=action if row.status == Status.REQUIRES_ACTION else None,
    )


def _refund_json(row: refunds.Refund) -> Response:
    return jsonify(
        key=row.key,
        charge=row.charge,
        status=row.status,
        reason=row.reason,
        amount=row.amount,
        currency=row.currency,
    )


def _never_heard_of(key: str) -> tuple[Response, int]:
    return jsonify(error="unknown_key", key=key), 404


def _failure() -> tuple[Response, int]:
    return jsonify(error="internal_error", message="The bank failed, as this test card says."), 500


def _lines(engine: Engine) -> Iterator[str]:
    lines: list[str] = []
    for movement in statement(engine):
        lines.append(json.dumps(entry_json(movement)) + "\n")
        if len(lines) == 500:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)
