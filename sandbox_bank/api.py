"""The bank's HTTP API for shops: JSON requests and responses. Charges and refunds carry an idempotency key.

Each request under /v1 names its account by an API key, and sees only the books of that account.
"""

import json
import time
from collections.abc import Iterator

from flask import Blueprint, Response, current_app, g, jsonify, request, url_for
from sqlalchemy import Engine, text

from app.gateways.sandbox.cards import Behaviour
from sandbox_bank import charges, faults, refunds
from sandbox_bank.accounts import account_id, open_account
from sandbox_bank.requests import (
    BadRequest,
    BankChargeRequest,
    check_return_host,
    parse_api_key,
    parse_charge,
    parse_key,
    parse_refund,
)
from sandbox_bank.statement import entry_json, statement
from sandbox_bank.storage import Status, reading

api = Blueprint("api", __name__)

SILENT = (Behaviour.SILENT_TAKES, Behaviour.SILENT_TAKES_NOTHING)

BATCH = 500
"""Lines of the statement per chunk of the response."""


def books() -> Engine:
    """Return the engine of the bank's database."""
    engine: Engine = current_app.config["BOOKS"]
    return engine


@api.before_request
def _find_account() -> None:
    """Open the account of the API key if it is new. Raises NoAccount."""
    if request.path.startswith("/v1/"):
        g.account = account_id(parse_api_key(request.headers.get("Authorization", "")))
        known: set[str] = current_app.config["ACCOUNTS"]
        if g.account not in known:
            open_account(books(), g.account)
            known.add(g.account)


@api.post("/v1/charges")
def charge() -> Response | tuple[Response, int]:
    """POST /v1/charges: charge a card. The outcome is committed before this responds, or fails to respond."""
    charge_request = parse_charge(_body(), request.headers.get("Idempotency-Key"))
    check_return_host(charge_request.return_url, current_app.config["RETURN_HOSTS"].get(g.account, ()))
    if charge_request.card.behaviour is Behaviour.SLOW and charges.find(books(), g.account, charge_request.key) is None:
        time.sleep(current_app.config["SLOW_SECONDS"])
    return _respond(charge_request, charges.charge(books(), g.account, charge_request))


@api.get("/v1/charges/<key>")
def find_charge(key: str) -> Response | tuple[Response, int]:
    """GET /v1/charges/<key>: the charge, or 404 with "unknown_key"."""
    row = charges.find(books(), g.account, parse_key(key))
    return _unknown_key(key) if row is None else _charge_json(row)


@api.post("/v1/charges/<key>/cancel")
def cancel(key: str) -> Response:
    """POST /v1/charges/<key>/cancel: fence the key. Return the outcome that won."""
    return _charge_json(charges.cancel(books(), g.account, parse_key(key)))


@api.post("/v1/refunds")
def refund() -> Response:
    """POST /v1/refunds: give money back, once per key."""
    refund_request = parse_refund(_body(), request.headers.get("Idempotency-Key"))
    return _refund_json(refunds.refund(books(), g.account, refund_request))


@api.get("/v1/refunds/<key>")
def find_refund(key: str) -> Response | tuple[Response, int]:
    """GET /v1/refunds/<key>: the refund, or 404 with "unknown_key"."""
    row = refunds.find(books(), g.account, parse_key(key))
    return _unknown_key(key) if row is None else _refund_json(row)


@api.get("/v1/statement")
def show_statement() -> Response:
    """GET /v1/statement: the account's movements of money, oldest first, streamed as one JSON object per line."""
    return Response(_lines(books(), g.account), mimetype="application/x-ndjson")


@api.get("/healthz")
def healthz() -> Response:
    """GET /healthz: 200 if the bank can reach its database, otherwise 503."""
    with reading(books()) as tx:
        tx.execute(text("SELECT 1"))
    return jsonify(status="ok")


def _body() -> object:
    """Return the JSON of the body, or None if it is not valid JSON."""
    try:
        return request.get_json(silent=True)
    except RecursionError:
        return None


@api.errorhandler(BadRequest)
def _bad_request(error: BadRequest) -> tuple[Response, int]:
    return jsonify(error=error.code, message=error.message), error.status


def _respond(charge_request: BankChargeRequest, row: charges.Charge) -> Response | tuple[Response, int]:
    """Return the charge as JSON, or fail to respond in the way of this test card."""
    behaviour = charge_request.card.behaviour
    if behaviour in SILENT:
        return faults.stay_silent(current_app.config["HOLD_SECONDS"])
    if row.status == Status.RECEIVED:
        return _failure()
    if row.status == Status.SUCCEEDED and row.calls == 1:
        if behaviour is Behaviour.LOSES_FIRST_ANSWER:
            return faults.close_connection()
        if behaviour is Behaviour.FAILS_AFTER_TAKING:
            return _failure()
    return _charge_json(row)


def _charge_json(row: charges.Charge) -> Response:
    action_url = url_for("pages.action", action_id=row.action_id, _external=True) if row.action_id else None
    return jsonify(
        key=row.key,
        status=row.status,
        reason=row.reason,
        amount=row.amount,
        currency=row.currency,
        action_url=action_url if row.status == Status.REQUIRES_ACTION else None,
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


def _unknown_key(key: str) -> tuple[Response, int]:
    return jsonify(error="unknown_key", key=key), 404


def _failure() -> tuple[Response, int]:
    return jsonify(error="internal_error", message="The bank fails because this test card makes it fail."), 500


def _lines(engine: Engine, account: str) -> Iterator[str]:
    lines: list[str] = []
    for entry in statement(engine, account):
        more = {"shop_id": entry.shop_id, "charge": entry.payment_reference}
        lines.append(json.dumps(entry_json(entry) | more) + "\n")
        if len(lines) == BATCH:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)
