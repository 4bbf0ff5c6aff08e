"""The basket. Each POST ends in a redirect, or in the same form again with what is wrong."""

from flask import Blueprint, redirect, render_template, request, url_for
from limits import parse

from app import current, limiter, networks
from app.charges import holds, receipts
from app.charges.rows import ChargeSnapshot
from app.charges.states import SUCCEEDED
from app.database import reading, transaction
from app.locale import locale
from app.orders import basket
from app.security import buyer_id
from app.shop import changes, texts
from app.shop.catalogue import product_page
from app.shop.forms import BasketForm
from app.shop.pages import Page, open_order, to_receipt

blueprint = Blueprint("basket", __name__)

NEW_BASKETS = parse("120 per minute")
"""Per network. Shoppers at one address do not begin more baskets than that; a program can begin 190 a second."""


@blueprint.get("/basket")
def show() -> Page:
    """GET /basket: the open order; a redirect to the receipt if a charge holds it."""
    live = receipts.live_charge_of_buyer(buyer_id())
    return to_receipt(live.receipt_id) if live else basket_page()


@blueprint.post("/basket")
def change() -> Page:
    """POST /basket: set the `quantity` of a `product`; 0 removes it."""
    form = BasketForm()
    live = receipts.live_charge_of_buyer(buyer_id())
    if live and live.status is not SUCCEEDED:
        return to_receipt(live.receipt_id)
    if not form.validate():
        return _refused(form, 400 if form.forged else 422)
    if _begins_too_many(live):
        form.quantity.errors = [texts.MANY_BASKETS]
        return _refused(form, 429)
    try:
        with transaction() as tx:
            currency = current.settings().shop_currency
            paid = live.order_id if live else None
            basket.put(tx, buyer_id(), form.product.data, form.quantity.data, currency, paid, holds.may_come_back)
    except basket.OrderPlaced:
        pass  # A claim was faster: the basket page redirects to its receipt.
    except (basket.NotOnSale, basket.NotEnough, basket.BasketFull) as refusal:
        form.quantity.errors = [_text(refusal)]
        return _refused(form, 422)
    return redirect(url_for("basket.show"), 303)


def _begins_too_many(live: ChargeSnapshot | None) -> bool:
    """Count the order if this request begins one. Return whether its network has begun too many.

    Loopback is not counted: it is the address of a proxy that TRUSTED_PROXIES lacks, so all shoppers have it.
    """
    if networks.is_loopback(request.remote_addr):
        return False
    with reading() as tx:
        begins = live is not None or not basket.has_open(tx, buyer_id())
    return begins and not limiter.count(NEW_BASKETS, "baskets", limiter.network())


def basket_page(status: int = 200, notices: list[str] | None = None, refused: BasketForm | None = None) -> Page:
    """Return the basket with a form per line. `notices` come before what has changed since the lines were added."""
    order = open_order()
    forms = {
        line.product.slug: BasketForm(formdata=None, product=line.product.slug, quantity=line.quantity)
        for line in (order.lines if order else [])
    }
    if refused:
        forms[str(refused.product.data)] = refused
    changed = (notices or []) + (changes.since_added(order, locale()) if order else [])
    return render_template("shop/basket.html", order=order, forms=forms, changes=changed), status


def _refused(form: BasketForm, status: int) -> Page:
    """Return the page that the form came from: the basket if the product is in it, else the product's page."""
    order = open_order()
    slugs = {line.product.slug for line in order.lines} if order else set()
    if form.product.data in slugs:
        return basket_page(status, refused=form)
    return product_page(str(form.product.data), status, form)


def _text(refusal: Exception) -> str:
    match refusal:
        case basket.NotEnough(left=0):
            return texts.NONE_LEFT
        case basket.NotEnough(left=left):
            return texts.NOT_ENOUGH.format(left=left)
        case basket.BasketFull():
            return texts.BASKET_FULL
        case _:
            return texts.NOT_ON_SALE
