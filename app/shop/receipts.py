"""Receipts: the truth about one payment, by an unguessable link, and all payments of this browser."""

from datetime import UTC, datetime
from uuid import UUID

from flask import abort, current_app, jsonify, render_template
from werkzeug.wrappers import Response

from app.charges import receipts, recovery
from app.charges.receipts import Receipt
from app.charges.states import IN_DOUBT, PROCESSING, REQUIRES_ACTION
from app.security import known_buyer
from app.shop import bp
from app.shop.forms import GiveUpForm
from app.shop.views import Page, to_receipt

STOP = 900
"""Seconds after which the waiting page no longer looks again by itself."""


@bp.get("/receipts")
def receipt_list() -> Page:
    """GET /receipts: this browser's payments, for those whose redirect was lost."""
    known = known_buyer()
    return render_template("shop/receipts.html", charges=receipts.of_buyer(known) if known else [])


@bp.get("/receipts/<uuid:receipt>")
def receipt(receipt: UUID) -> Page:
    """GET /receipts/<id>: what became of the payment; bare for a browser that is not the buyer's."""
    found = _asked_about(_found(receipt))
    return render_template("shop/receipt.html", charge=found, refresh=_refresh(found), give_up_form=GiveUpForm())


@bp.get("/receipts/<uuid:receipt>.json")
def receipt_json(receipt: UUID) -> Response:
    """GET /receipts/<id>.json: id, status, amount (minor units), currency and order."""
    found = _found(receipt)
    return jsonify(
        id=str(found.id), status=found.status, amount=found.amount, currency=found.currency, order=found.order
    )


@bp.post("/receipts/<uuid:receipt>/give-up")
def give_up(receipt: UUID) -> Page:
    """POST /receipts/<id>/give-up: its buyer won't confirm at the bank; cancelled there first, then here."""
    found = _found(receipt)
    if not found.mine:
        abort(403)
    if not GiveUpForm().validate():
        abort(400)
    charge = receipts.seen(receipt)
    if charge and charge.status is REQUIRES_ACTION:
        recovery.give_up(charge, current_app.extensions["gateways"], current_app.config["SETTINGS"].gateway_deadline)
    return to_receipt(receipt)


def _asked_about(found: Receipt) -> Receipt:
    """The buyer's look at a payment that waits for them is the moment to ask whether they have confirmed."""
    if not (found.mine and found.status is REQUIRES_ACTION):
        return found
    if charge := receipts.seen(found.id):
        recovery.look(charge, current_app.extensions["gateways"])
    return _found(found.id)


def _refresh(found: Receipt) -> int | None:
    """Seconds until the waiting page looks again: often at first, then less, and in the end only when asked to."""
    waited = (datetime.now(UTC) - found.at).total_seconds()
    if found.status not in {PROCESSING, IN_DOUBT} or waited > STOP:
        return None
    return 3 if waited < 60 else 15


def _found(receipt: UUID) -> Receipt:
    return receipts.read(receipt, known_buyer()) or abort(404)
