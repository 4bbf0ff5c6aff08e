"""Catalogue and basket. Each POST ends in a redirect, or in the form again with what is wrong."""

from flask import abort, current_app, redirect, render_template, url_for
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response

from app.charges import receipts
from app.charges.states import SUCCEEDED
from app.database import Unreachable, objects, reading, transaction
from app.locale import locale
from app.orders import basket
from app.orders.models import OPEN, Order, Product
from app.security import buyer, known_buyer
from app.shop import bp, changes, texts
from app.shop.forms import BasketForm

Page = Response | str | tuple[str, int]


@bp.get("/")
def catalogue() -> Page:
    """GET /: everything on sale."""
    with reading() as tx:
        products = objects(tx).scalars(select(Product).where(Product.on_sale).order_by(Product.id)).all()
    return render_template("shop/catalogue.html", products=products)


@bp.get("/products/<slug>")
def product(slug: str) -> Page:
    """GET /products/<slug>: one product and the form that puts it into the basket."""
    return _product_page(slug)


@bp.get("/basket")
def show_basket() -> Page:
    """GET /basket: the open order, or the way to the receipt of the charge that holds it."""
    live = receipts.live_of_buyer(buyer())
    return to_receipt(live.receipt) if live else basket_page()


@bp.post("/basket")
def change_basket() -> Page:
    """POST /basket: `quantity` is the new number of `product` in the basket, 0 removes it."""
    form = BasketForm()
    live = receipts.live_of_buyer(buyer())
    if live and live.status is not SUCCEEDED:
        return to_receipt(live.receipt)
    if not form.validate():
        return _refused(form, 400 if form.forged else 422)
    try:
        with transaction() as tx:
            paid = live.order_id if live else None
            basket.put(tx, buyer(), form.product.data, form.quantity.data, currency(), paid)
    except basket.OrderPlaced:
        pass  # A claim was quicker: the basket page leads to its receipt.
    except (basket.NotOnSale, basket.NotEnough, basket.BasketFull) as refusal:
        form.quantity.errors = [_words(refusal)]
        return _refused(form, 422)
    return redirect(url_for("shop.show_basket"), 303)


def to_receipt(receipt: object) -> Response:
    """The one answer of a POST that paid, of its twins, and of everything that comes too late."""
    return redirect(url_for("shop.receipt", receipt=receipt), 303)


def currency() -> str:
    return str(current_app.config["SETTINGS"].shop_currency)


def open_order() -> Order | None:
    """This browser's basket, if there is something in it."""
    known = known_buyer()
    if known is None:
        return None
    with reading() as tx:
        order = basket.newest(tx, known)
    return order if order and order.state == OPEN and order.lines else None


def _refused(form: BasketForm, status: int) -> Page:
    """The page that the form stands on, again: the basket for what is in it, else the product's own."""
    order = open_order()
    slugs = {line.product.slug for line in order.lines} if order else set()
    if form.product.data in slugs:
        return basket_page(status, refused=form)
    return _product_page(str(form.product.data), status, form)


def _product_page(slug: str, status: int = 200, form: BasketForm | None = None) -> Page:
    with reading() as tx:
        product = objects(tx).scalars(select(Product).where(Product.slug == slug, Product.on_sale)).first()
    if product is None:
        abort(404)
    order = open_order()
    in_basket = next((line.quantity for line in order.lines if line.product_id == product.id), 0) if order else 0
    form = form or BasketForm(formdata=None, product=slug, quantity=in_basket or 1)
    return render_template("shop/product.html", product=product, form=form, in_basket=in_basket), status


def basket_page(status: int = 200, said: list[str] | None = None, refused: BasketForm | None = None) -> Page:
    """The basket with a form for each line; `said` comes before what changed since things were put in."""
    order = open_order()
    forms = {
        line.product.slug: BasketForm(formdata=None, product=line.product.slug, quantity=line.quantity)
        for line in (order.lines if order else [])
    }
    if refused:
        forms[str(refused.product.data)] = refused
    changed = (said or []) + (changes.since_added(order, locale()) if order else [])
    return render_template("shop/basket.html", order=order, forms=forms, changes=changed), status


def _words(refusal: Exception) -> str:
    match refusal:
        case basket.NotEnough(left=0):
            return texts.NONE_LEFT
        case basket.NotEnough(left=left):
            return texts.NOT_ENOUGH.format(left=left)
        case basket.BasketFull():
            return texts.BASKET_FULL
        case _:
            return texts.NOT_ON_SALE


def basket_count() -> int:
    """How many pieces are in this browser's basket, for the head of each page."""
    known = known_buyer()
    if known is None:
        return 0
    try:
        with reading() as tx:
            return basket.pieces(tx, known)
    except (Unreachable, SQLAlchemyError):
        return 0  # An error page has a head too.
