"""The catalogue and the page of one product."""

from flask import Blueprint, abort, render_template
from sqlalchemy import select

from app.database import objects, reading
from app.orders.models import Product
from app.shop.forms import BasketForm
from app.shop.pages import Page, open_order

blueprint = Blueprint("catalogue", __name__)


@blueprint.get("/")
def index() -> Page:
    """GET /: everything on sale."""
    with reading() as tx:
        products = objects(tx).scalars(select(Product).where(Product.on_sale).order_by(Product.id)).all()
    return render_template("shop/catalogue.html", products=products)


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
    order = open_order()
    in_basket = next((line.quantity for line in order.lines if line.product_id == product.id), 0) if order else 0
    form = form or BasketForm(formdata=None, product=slug, quantity=in_basket or 1)
    return render_template("shop/product.html", product=product, form=form, in_basket=in_basket), status
