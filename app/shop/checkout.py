"""The form that pays. It is shown with a token, and every way through it ends at a receipt.

The order of the checks matters. A token that is already claimed, or whose order is being paid, leads to its receipt
before anything else in the form is checked: a shopper who has paid must never read that nothing was charged.
"""

from collections.abc import Mapping
from contextlib import suppress
from time import time
from typing import Any
from uuid import UUID

import structlog
from flask import Blueprint, g, make_response, redirect, render_template, request, url_for

from app import current, limiter, logs, measures, tries, visits
from app.charges import arrivals, holds, protocol, receipts
from app.charges.protocol import Purchase
from app.charges.rows import ChargeSnapshot, RowLost
from app.charges.same_order import OrderedBefore
from app.charges.states import DECLINED, REQUIRES_ACTION
from app.charges.tokens import BadToken, Token, new_receipt_id
from app.database import Unreachable, reading, transaction
from app.errors import refusal_page
from app.gateways.base import Gateway, HostedGateway, HostedPayment, NotPayable, PaymentLine
from app.gateways.sandbox.cards import CARDS, last_four
from app.locale import locale
from app.orders import basket, stock, unused
from app.orders.models import Order
from app.places import NoPlace
from app.security import buyer_id, known_buyer_id
from app.shop import changes, texts
from app.shop.basket import basket_page
from app.shop.forms import CardCheckoutForm, CheckoutForm
from app.shop.pages import Page, open_order, to_receipt
from app.tries import TooManyTries

blueprint = Blueprint("checkout", __name__)
log = structlog.get_logger()


@blueprint.get("/checkout")
def show() -> Page:
    """GET /checkout: the order and the form with a new token, which is not stored."""
    if live := receipts.live_charge_of_buyer(buyer_id()):
        return to_receipt(live.receipt_id)
    order = _order_in_use()
    if order is None:
        return redirect(url_for("basket.show"), 303)
    return _form_page(order, _form(formdata=None), new_token(order))


@blueprint.post("/checkout")
def pay() -> Page:
    """POST /checkout: 303 to the receipt of the charge, whether this request made it or an earlier one did."""
    try:
        token = current.tokens().read(request.form.get("checkout_token", ""))
    except BadToken:
        return refusal_page("bad_token", 400)
    if charge := _repeated(token):
        return to_receipt(charge.receipt_id)
    if token.buyer_id != known_buyer_id():
        return refusal_page("foreign_token", 403)
    if current.settings().closed:
        return _closed(token)
    if token.order_random_id is None:
        return _changed(token, _form())  # A form of an earlier version: the same order, shown anew.
    return _pay_with(token, _form())


def _repeated(token: Token) -> ChargeSnapshot | None:
    """Return the charge that already holds this token or its order."""
    charge = arrivals.record_repeat(token)
    if charge:
        visits.arrived(charge, token.key)
    return charge


def _pay_with(token: Token, form: CheckoutForm) -> Page:
    """Check CSRF and fields, then pay. What fails before the claim shows the form again, with the same token."""
    if not form.validate():
        logs.note_refusal("forged" if form.forged else "fields_invalid")
        return _again(token, form, 400 if form.forged else 422, texts.STALE_FORM if form.forged else None)
    try:
        with logs.noted_refusals():
            purchase = _purchase(token, form)
            return _after(purchase, _counted(purchase))
    except TooManyTries as refusal:
        if charge := _repeated(token):
            return to_receipt(charge.receipt_id)  # A copy of the form was faster.
        return _again(token, form, 429, texts.NETWORK_BUSY if refusal.network else texts.TOO_MANY_TRIES)
    except NotPayable as refusal:
        return _again(token, form, 422, texts.not_payable(refusal, token.currency, locale()))
    except NoPlace as full:
        log.warning("payment_refused", reason=str(full))
        return _later(_again(token, form, 503, texts.NO_PLACE), 60)
    except protocol.Busy:
        return _later(_again(token, form, 503, texts.BUSY), 5)
    except OrderedBefore as before:
        measures.DUPLICATES.labels("same_order").inc()
        return _again(token, form, 409, before=before)
    except holds.NetworkFull as full:
        return _again(token, form, 409 if full.alone else 429, texts.network_full(full, current.settings().hold))
    except stock.SoldOut:
        return _sold_out(token, form)
    except basket.OrderChanged:
        return _changed(token, form)
    except basket.OrderUnknown:
        return _unknown_order(token)
    except RowLost:
        return _lost_order(token)


def _counted(purchase: Purchase) -> ChargeSnapshot:
    """Pay. Count a fruitless try, against card testing and against finding out what others have ordered."""
    with tries.admitted(lambda: receipts.has_paid(buyer_id())) as this_try:
        try:
            with current.places().take():
                charge = protocol.pay(purchase, _gateway(), current.settings().gateway_deadline)
        except OrderedBefore as before:
            this_try.weight = tries.CONFLICT if before.buyer_id == buyer_id() else tries.FRUITLESS
            raise
        except (basket.OrderChanged, stock.SoldOut):
            this_try.weight = tries.CONFLICT
            raise
        if charge.receipt_id == purchase.receipt_id and charge.status is DECLINED:
            this_try.weight = tries.FRUITLESS
        return charge


def _after(purchase: Purchase, charge: ChargeSnapshot) -> Page:
    """Redirect to the receipt, or to the gateway's page if the gateway has just asked for the shopper."""
    claimed = charge.receipt_id == purchase.receipt_id
    visits.arrived(charge, purchase.token.key, claimed=claimed)
    if claimed and charge.status is REQUIRES_ACTION and charge.action_url:
        g.receipt = charge.receipt_id
        return redirect(charge.action_url, 303)
    return to_receipt(charge.receipt_id)


def _again(
    token: Token, form: CheckoutForm, status: int, problem: str | None = None, before: OrderedBefore | None = None
) -> Page:
    """Return the form as it was filled in, without the card, and with the same token, which is still unused."""
    order = _order_of(token)
    if order is None:
        return _changed(token, form)
    return _form_page(order, form, request.form["checkout_token"], status, problem=problem, before=before)


def _later(page: Page, seconds: int) -> Page:
    """Return the page. If it refuses the form for the moment, add after how many seconds to send it again."""
    response = make_response(page)
    if response.status_code == 503:
        response.headers["Retry-After"] = str(seconds)
    return response


def _order_of(token: Token) -> Order | None:
    """Return the buyer's open order if it is still what the form showed."""
    order = open_order()
    return order if order and (order.version, order.total) == (token.version, token.amount) else None


def _changed(token: Token, form: CheckoutForm) -> Page:
    """The order is not what the form showed: say what has changed, and show the present order with a new token."""
    if charge := _repeated(token):
        return to_receipt(charge.receipt_id)
    if token.order_random_id and _buyer_now(token) != token.buyer_id:
        return _unknown_order(token)
    order = _order_in_use()
    notices = changes.since_shown(order, token.version, token.amount, token.currency, locale())
    if order is None or not changes.payable(order):
        return basket_page(409, notices)
    return _form_page(order, form, new_token(order), 409, notices=notices)


def _sold_out(token: Token, form: CheckoutForm) -> Page:
    """If the goods that are missing may come back, return the filled form with the same token, to be sent again."""
    order = _order_of(token)
    held = changes.held(order) if order else []
    if order is None or not held:
        return _changed(token, form)
    problem = " ".join([*held, texts.HELD_TRY])
    return _form_page(order, form, request.form["checkout_token"], 409, notices=[], problem=problem)


def _order_in_use() -> Order | None:
    """Return this browser's basket to show its form. The database keeps it for as long as the form can be sent."""
    order = open_order()
    if order is not None and not unused.is_noted(order):
        with suppress(Unreachable), transaction() as tx:
            unused.keep(tx, order.id)
    return order


def _closed(token: Token) -> Page:
    """CLOSED is on: return the filled form, to be sent again later, or a page if its order is another one by now."""
    logs.note_refusal("closed")
    if _order_of(token):
        return _again(token, _form(), 503, texts.CLOSED)
    return refusal_page("closed", 503, str(token.key))


def _unknown_order(token: Token) -> Page:
    """The order is not this buyer's any more: the browser was forgotten, or the database does not have the order."""
    if _buyer_now(token):
        return refusal_page("foreign_token", 403)
    return _lost_order(token)


def _buyer_now(token: Token) -> UUID | None:
    """Return the present buyer of the form's order, or None if there is no such order."""
    if token.order_random_id is None:
        return None
    with reading() as tx:
        return basket.buyer_of(tx, token.order_random_id)


def _lost_order(token: Token) -> Page:
    """The database does not know an order that we have signed for: purged, or lost by a restore or a failover."""
    log.error("order_unknown", key=str(token.key), issued=token.issued)
    old = time() - token.issued > unused.PURGED_AFTER
    return refusal_page("order_cleared" if old else "order_lost", 410 if old else 404, str(token.key))


def _form_page(
    order: Order, form: CheckoutForm, token: str, status: int = 200, *,
    notices: list[str] | None = None, problem: str | None = None, before: OrderedBefore | None = None,
) -> Page:  # fmt: skip
    form.checkout_token.data = token
    told = before is not None and before.buyer_id == buyer_id()
    same = before and {"at": before.at if told else None, "total": before.total if told else None}
    page = render_template(
        "shop/checkout.html", order=order, form=form, takes_cards=_gateway().takes_cards, problem=problem,
        changes=notices if notices is not None else changes.since_added(order, locale()), same_order=same,
        test_cards=[(card.number, card.description) for card in CARDS],
    )  # fmt: skip
    return page, status


def new_token(order: Order) -> str:
    """Return a token for one showing of the form, bound to exactly what it shows."""
    return current.tokens().make(
        order_random_id=order.random_id,
        version=order.version,
        buyer_id=order.buyer_id,
        amount=order.total,
        currency=order.currency,
    )


def _purchase(token: Token, form: CheckoutForm) -> Purchase:
    receipt_id, card = new_receipt_id(), form.card
    base = current.settings().shop_url or request.host_url.rstrip("/")
    receipt_url = base + url_for("receipts.show", receipt_id=receipt_id)
    email = str(form.email.data)
    return Purchase(
        token=token, receipt_id=receipt_id, email=email, name=str(form.name.data), card=card,
        last4=last_four(card.number) if card else None, order_again=bool(form.order_again.data),
        receipt_url=receipt_url, gateway_request=_prepared(token, email, receipt_url),
        request_id=logs.request_id(),
        network=limiter.network_pseudonym(), hold=current.settings().hold,
    )  # fmt: skip


def _prepared(token: Token, email: str, receipt_url: str) -> Mapping[str, Any] | None:
    """Return the complete request for a gateway with a page of its own; it is stored with the claim. Raises NotPayable.

    Its lines are those that the form showed: if the order's version is another by then, the claim fails.
    """
    gateway = _gateway()
    if gateway.takes_cards or not isinstance(gateway, HostedGateway):
        return None
    order = open_order()
    if order is None or order.random_id != token.order_random_id:
        raise basket.OrderChanged
    lines = [PaymentLine(line.product.name, line.quantity, line.price) for line in order.lines]
    payment = HostedPayment(
        str(token.key), token.amount, token.currency, order.id, str(order.random_id), email, receipt_url, lines
    )  # fmt: skip
    return gateway.prepare(payment)


def _form(**kwargs: Any) -> CheckoutForm:
    return CardCheckoutForm(**kwargs) if _gateway().takes_cards else CheckoutForm(**kwargs)


def _gateway() -> Gateway:
    return current.gateways().current
