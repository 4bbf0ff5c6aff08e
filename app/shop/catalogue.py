"""The catalogue and the page of one product."""

from flask import Blueprint, abort, render_template
from sqlalchemy import select

from app import current
from app.charges import holds
from app.database import objects, reading
from app.orders.basket import MOST_OF_ONE
from app.orders.models import Product
from app.shop import texts
from app.shop.forms import BasketForm
from app.shop.pages import Page, open_order

blueprint = Blueprint("catalogue", __name__)


@blueprint.get("/")
def index() -> Page:
    """GET /: everything on sale."""
    with reading() as tx:
        products = objects(tx).scalars(select(Product).where(Product.on_sale).order_by(Product.id)).all()
        gone = [product.id for product in products if product.stock == 0]
        held = holds.all_that_may_come_back(tx, gone) if gone else {}
    return render_template("shop/catalogue.html", products=products, held=held)


@blueprint.get("/products/<slug>")
def product(slug: str) -> Page:
    """GET /products/<slug>: one product and the form that puts it into the basket."""
    return product_page(slug)


def product_page(slug: str, status: int = 200, form: BasketForm | None = None) -> Page:
    """Return the product's page, with the form as the shopper sent it if there is one; 404 if it is not on sale."""
    with reading() as tx:
        product = objects(tx).scalars(select(Product).where(Product.slug == slug, Product.on_sale)).first()
        if product is None:
            abort(404)
        held = 0 if product.stock else holds.may_come_back(tx, product.id)
    order = open_order()
    in_basket = next((line.quantity for line in order.lines if line.product_id == product.id), 0) if order else 0
    form = form or BasketForm(formdata=None, product=slug, quantity=in_basket or 1)
    page = render_template(
        "shop/product.html", product=product, form=form, in_basket=in_basket,
        most=min(product.stock + held, MOST_OF_ONE),
        held=texts.held(product.name, 0, current.settings().hold) if held else None,
    )  # fmt: skip
    return page, status
