"""Receipts: the truth about one payment, at an unguessable address, and all payments of this browser."""

from datetime import UTC, datetime

from flask import Blueprint, abort, jsonify, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from app import current, tries
from app.charges import forgetting, receipts, recovery
from app.charges.forgetting import PaymentPending
from app.charges.receipts import Receipt
from app.charges.rows import ChargeSnapshot
from app.charges.states import CANCELED, IN_DOUBT, PROCESSING, REQUIRES_ACTION
from app.database import Unreachable
from app.errors import PAYMENTS_UNREADABLE, RECEIPT_UNREADABLE, log_unreachable, refusal_page, unavailable
from app.places import NoPlace
from app.security import known_buyer_id
from app.shop.forms import CancelForm
from app.shop.pages import Page, to_receipt

blueprint = Blueprint("receipts", __name__)

STOP = 900
"""Seconds after which the waiting page no longer reloads itself."""


@blueprint.get("/receipts")
def index() -> Page:
    """GET /receipts: this browser's payments, for shoppers whose redirect was lost."""
    return _index()


@blueprint.post("/receipts/forget")
def forget() -> Page:
    """POST /receipts/forget: no cookie opens this browser's orders any more. 409 while a payment is pending."""
    if not CancelForm().validate():
        abort(400)
    if buyer_id := known_buyer_id():
        try:
            forgetting.forget(buyer_id)
        except PaymentPending as payment:
            return _index(409, pending=payment.receipt_id)
    session.clear()  # This also removes the cookie.
    return redirect(url_for("receipts.index", forgotten="yes"), 303)


def _index(status: int = 200, pending: str | None = None) -> Page:
    """Return the list. `pending` is the receipt of a payment because of which the browser could not be forgotten."""
    buyer_id = known_buyer_id()
    page = render_template(
        "shop/receipts.html", charges=receipts.of_buyer(buyer_id) if buyer_id else [], pending=pending,
        forget_form=CancelForm() if buyer_id else None, forgotten=buyer_id is None and "forgotten" in request.args,
    )  # fmt: skip
    return page, status


@blueprint.get("/receipts/<receipt_id:receipt_id>")
def show(receipt_id: str) -> Page:
    """GET /receipts/<id>: what became of the payment; without details if the browser is not the buyer's."""
    receipt = _find(receipt_id)
    if not (receipt.mine and receipt.status is REQUIRES_ACTION):
        return _page(receipt)
    asked = _ask_about(receipt)
    return _page(_find(receipt_id), asked=asked)


@blueprint.get("/receipts/<receipt_id:receipt_id>.json")
def show_json(receipt_id: str) -> Response:
    """GET /receipts/<id>.json: id, status, amount (minor units), currency and order."""
    receipt = _find(receipt_id)
    return jsonify(
        id=str(receipt.id),
        status=receipt.status,
        amount=receipt.amount,
        currency=receipt.currency,
        order=receipt.order_id,
    )


@blueprint.post("/receipts/<receipt_id:receipt_id>/give-up")  # The name of earlier versions; open pages still use it.
@blueprint.post("/receipts/<receipt_id:receipt_id>/cancel")
def cancel(receipt_id: str) -> Page:
    """POST /receipts/<id>/cancel: the buyer won't confirm at the gateway. Cancelled there first, then here."""
    if not _find(receipt_id).mine:
        abort(403)
    if not CancelForm().validate():
        abort(400)
    charge = receipts.find_charge(receipt_id)
    if charge is None or charge.status is not REQUIRES_ACTION:
        return to_receipt(receipt_id)
    if _cancel(charge):
        if _find(receipt_id).status is CANCELED:  # Else it was paid before.
            tries.count(tries.FRUITLESS)
        return to_receipt(receipt_id)
    return _page(_find(receipt_id), 503, cancel_failed=True)


@blueprint.errorhandler(Unreachable)
def _database_away(error: Unreachable) -> Response:
    """A receipt that can't be read must not read like a failed payment; its page reloads itself."""
    log_unreachable(error)
    if request.endpoint == "receipts.show":
        return unavailable(RECEIPT_UNREADABLE, refresh=5)
    return unavailable(PAYMENTS_UNREADABLE)


def _page(receipt: Receipt, status: int = 200, *, asked: bool = False, cancel_failed: bool = False) -> Page:
    """Return the receipt's page. `asked`: the gateway has just been asked about a payment that waits for its buyer."""
    page = render_template(
        "shop/receipt.html", charge=receipt, refresh=_refresh(receipt), cancel_form=CancelForm(),
        asked=asked, cancel_failed=cancel_failed,
    )  # fmt: skip
    return page, status


def _ask_about(receipt: Receipt) -> bool:
    """Ask the gateway what became of a payment that waits for its buyer. False if it was not asked or silent."""
    charge = receipts.find_charge(receipt.id)
    try:
        with current.places().take():
            return charge is not None and recovery.look(charge, current.gateways())
    except NoPlace:
        return False


def _cancel(charge: ChargeSnapshot) -> bool:
    """Cancel a payment that waits for its buyer. Return False if it is not known whether that succeeded."""
    try:
        with current.places().take():
            return recovery.cancel_for_shopper(charge, current.gateways(), current.settings().gateway_deadline)
    except NoPlace:
        return False


def _refresh(receipt: Receipt) -> int | None:
    """Return the seconds until the waiting page reloads itself: short at first, then longer, and None in the end."""
    waited = (datetime.now(UTC) - receipt.created_at).total_seconds()
    if receipt.status not in {PROCESSING, IN_DOUBT} or waited > STOP:
        return None
    return 3 if waited < 60 else 15


def _find(receipt_id: str) -> Receipt:
    return receipts.read(receipt_id, known_buyer_id()) or abort(make_response(refusal_page("receipt_unknown", 404)))
