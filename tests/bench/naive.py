"""A naive handler, with which the checkout is compared: the same shop without protection. One ORM insert, then 303.

The form and its checks, the headers, logs and metrics are the shop's own, so that the ratio shows only the cost of the
guarantee. Like most simple handlers, it stores a payment for every POST that arrives.
"""

from flask import abort, redirect, url_for
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.wrappers import Response

from app import create_app
from app.database import Base, db, table
from app.shop.forms import CardCheckoutForm


class NaivePayment(Base):
    """A payment as a simple shop stores it."""

    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    amount: Mapped[int]


def pay() -> Response:
    form = CardCheckoutForm()
    if not form.validate():
        abort(422)
    payment = NaivePayment(email=form.email.data, name=form.name.data, amount=2400)
    db.session.add(payment)
    db.session.commit()
    return redirect(url_for("receipts.show", receipt_id=payment.id), 303)


app = create_app()
app.view_functions["checkout.pay"] = pay
with app.app_context():
    table(NaivePayment).create(db.engine)
    db.engine.dispose()
