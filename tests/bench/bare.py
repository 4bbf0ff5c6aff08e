"""The smallest possible handler, for comparison: one ORM insert, then 303. It checks nothing, not even the form."""

import os

from flask import Flask, redirect, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.wrappers import Response


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class BarePayment(db.Model):  # type: ignore[name-defined]
    """A payment as a simple shop stores it."""

    __tablename__ = "payment"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    amount: Mapped[int]


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")
# The same pool size as the checkout's. With a smaller pool this handler would wait for connections.
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 20, "max_overflow": 0}
db.init_app(app)
with app.app_context():
    db.create_all()
    db.engine.dispose()


@app.post("/checkout")
def pay() -> Response:
    payment = BarePayment(email=request.form["email"], name=request.form["name"], amount=2400)
    db.session.add(payment)
    db.session.commit()
    return redirect(f"/receipts/{payment.id}", 303)
