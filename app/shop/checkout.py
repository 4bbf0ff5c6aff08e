"""The one form that pays. It is shown with a token; whatever becomes of it, the way leads on to a receipt.

The order of the checks matters: a token that is claimed already, or whose order is being paid, leads to its
receipt before anything else about the form is looked at. Who has paid must never read that nothing was charged.
"""

from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

from flask import current_app, redirect, render_template, request, url_for

from app.charges import protocol, receipts
from app.charges.protocol import Purchase
from app.charges.rows import Seen
from app.charges.same_order import OrderedBefore
from app.charges.states import DECLINED, REQUIRES_ACTION
from app.charges.tokens import BadToken, Token, Tokens
from app.errors import refusal_page
from app.gateways.base import Gateway, Hosted, Line, NotPayable, Sale
from app.gateways.sandbox.cards import CARDS, last_four
from app.locale import locale
from app.orders import basket, stock
from app.orders.models import Order
from app.security import TooManyDeclines, buyer, check_declines, count_decline, known_buyer
from app.settings import Settings
from app.shop import bp, changes, texts
from app.shop.forms import CardCheckoutForm, CheckoutForm
from app.shop.views import Page, basket_page, open_order, to_receipt


@bp.get("/checkout")
def checkout() -> Page:
    """GET /checkout: the order and the form with a new token. Writes nothing."""
    if live := receipts.live_of_buyer(buyer()):
        return to_receipt(live.receipt)
    order = open_order()
    if order is None:
        return redirect(url_for("shop.show_basket"), 303)
    return _form_page(order, _form(formdata=None), new_token(order))


@bp.post("/checkout")
def pay() -> Page:
    """POST /checkout: 303 to the receipt of the charge, this request's own or the one that was there before it."""
    try:
        token = tokens().read(request.form.get("checkout_token", ""))
    except BadToken:
        return refusal_page("bad_token", 400)
    if charge := protocol.already(token):
        return to_receipt(charge.receipt)
    if token.buyer != known_buyer():
        return refusal_page("foreign_token", 403)
    return _pay_with(token, _form())


def _pay_with(token: Token, form: CheckoutForm) -> Page:
    """From the CSRF check on: what fails before the claim shows the form again, with the same token."""
    if not form.validate():
        return _again(token, form, 400 if form.forged else 422, texts.STALE_FORM if form.forged else None)
    try:
        purchase = _purchase(token, form)
        check_declines()
        return _answer(purchase, protocol.pay(purchase, gateway(), settings().gateway_deadline))
    except TooManyDeclines:
        return _again(token, form, 429, texts.TOO_MANY_DECLINES)
    except NotPayable as refusal:
        return _again(token, form, 422, texts.not_payable(refusal, token.currency, locale()))
    except protocol.Busy:
        return _again(token, form, 503, texts.BUSY)
    except OrderedBefore as before:
        return _again(token, form, 409, before=before)
    except (basket.OrderChanged, stock.SoldOut):
        return _changed(token, form)


def _answer(purchase: Purchase, charge: Seen) -> Page:
    """Where the shopper goes: to the receipt, or first to the gateway's own page where it just asked for them."""
    if charge.receipt == purchase.receipt:
        if charge.status is DECLINED:
            count_decline()
        if charge.status is REQUIRES_ACTION and charge.action_url:
            return redirect(charge.action_url, 303)
    return to_receipt(charge.receipt)


def _again(
    token: Token, form: CheckoutForm, status: int, problem: str | None = None, before: OrderedBefore | None = None
) -> Page:
    """The form as it was filled in, but for the card, with the token that it came with: still good for one charge."""
    order = open_order()
    if order is None or (order.version, order.total) != (token.version, token.amount):
        return _changed(token, form)
    return _form_page(order, form, request.form["checkout_token"], status, problem=problem, before=before)


def _changed(token: Token, form: CheckoutForm) -> Page:
    """What the form showed is not what would be paid now: say so, and show what would, under a new token."""
    if charge := protocol.already(token):
        return to_receipt(charge.receipt)
    order = open_order()
    said = changes.since_shown(order, token.version, token.amount, token.currency, locale())
    if order is None or not changes.payable(order):
        return basket_page(409, said)
    return _form_page(order, form, new_token(order), 409, said=said)


def _form_page(
    order: Order, form: CheckoutForm, token: str, status: int = 200, *,
    said: list[str] | None = None, problem: str | None = None, before: OrderedBefore | None = None,
) -> Page:  # fmt: skip
    form.checkout_token.data = token
    told = before is not None and before.buyer == buyer()
    same = before and {"at": before.at if told else None, "total": before.total if told else None}
    page = render_template(
        "shop/checkout.html", order=order, form=form, takes_cards=gateway().takes_cards, problem=problem,
        changes=said if said is not None else changes.since_added(order, locale()), same_order=same,
        test_cards=[(card.number, card.words) for card in CARDS],
    )  # fmt: skip
    return page, status


def new_token(order: Order) -> str:
    """A token for this showing of the form, bound to just what it shows."""
    return tokens().make(
        order=order.id, version=order.version, buyer=order.buyer, amount=order.total, currency=order.currency
    )


def _purchase(token: Token, form: CheckoutForm) -> Purchase:
    receipt, card = uuid4(), form.card
    link = url_for("shop.receipt", receipt=receipt, _external=True)
    email = str(form.email.data)
    return Purchase(
        token=token, receipt=receipt, email=email, name=str(form.name.data), card=card,
        last4=last_four(card.number) if card else None, order_again=bool(form.order_again.data),
        link=link, request=_prepared(token, email, link),
    )  # fmt: skip


def _prepared(token: Token, email: str, link: str) -> Mapping[str, Any] | None:
    """What a gateway with a page of its own must be asked, whole: it is stored with the claim. Raises NotPayable.

    Its lines are what the form showed: the claim fails where the order's version is another by then.
    """
    current = gateway()
    if current.takes_cards or not isinstance(current, Hosted):
        return None
    order = open_order()
    lines = [Line(line.product.name, line.quantity, line.price) for line in order.lines] if order else []
    return current.prepare(Sale(str(token.key), token.amount, token.currency, token.order, email, link, lines))


def _form(**kwargs: Any) -> CheckoutForm:
    return CardCheckoutForm(**kwargs) if gateway().takes_cards else CheckoutForm(**kwargs)


def tokens() -> Tokens:
    made: Tokens = current_app.extensions["tokens"]
    return made


def gateway() -> Gateway:
    """The gateway that takes new charges."""
    current: Gateway = current_app.extensions["gateways"].current
    return current


def settings() -> Settings:
    return cast(Settings, current_app.config["SETTINGS"])
