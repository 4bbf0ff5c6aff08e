"""Checkout forms ready to be sent: their orders in the database, tokens, cookies and CSRF made by the app itself."""

from collections.abc import Iterator
from urllib.parse import urlencode
from uuid import UUID

from flask import Flask, session
from flask_wtf.csrf import generate_csrf
from sqlalchemy import text
from werkzeug.wrappers import Response

from app import current
from app.database import transaction

# Each wants one of one product; neighbours want different ones, as shoppers of a whole catalogue do.
ORDERS = text("""
WITH shelf AS (
  SELECT count(*) AS kinds FROM product
), made AS (
  INSERT INTO orders (buyer_id, random_id, state, version, currency, created_at)
  SELECT gen_random_uuid(), gen_random_uuid(), 'open', 1, 'EUR', now() FROM generate_series(1, :count)
  RETURNING id, buyer_id, random_id
), filled AS (
  INSERT INTO order_line (order_id, product_id, quantity, unit_price)
  SELECT made.id, product.id, 1, product.price
  FROM made CROSS JOIN shelf JOIN product ON product.id = made.id % kinds + 1 RETURNING order_id, unit_price
)
SELECT made.id, made.buyer_id, made.random_id, filled.unit_price AS total
FROM made JOIN filled ON filled.order_id = made.id ORDER BY made.id
""")
MORE = text("""
INSERT INTO product (slug, name, description, image, price, currency, stock, stocked, on_sale)
SELECT slug || copy, name, description, image, price, currency, stock, stocked, on_sale
FROM product, generate_series(2, :copies) AS copy
""")
ENOUGH = text("UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000")


def stock(copies: int) -> None:
    """Each product of the seed so many times, and nothing is sold out while we measure."""
    with transaction() as tx:
        tx.execute(MORE, {"copies": copies})
        tx.execute(ENOUGH)


def orders(count: int) -> list[tuple[int, UUID, UUID, int]]:
    """So many new baskets: order, buyer, total in minor units."""
    with transaction() as tx:
        return [(row.id, row.buyer_id, row.random_id, row.total) for row in tx.execute(ORDERS, {"count": count})]


def forms(app: Flask, count: int) -> list[bytes]:
    """So many POSTs to /checkout, each for an order of its own, as a browser would send them."""
    with app.app_context():
        made = orders(count)
    return [_post(app, *order) for order in made]


def _post(app: Flask, order: int, buyer: UUID, random_id: UUID, total: int) -> bytes:
    """One filled form with its browser's cookie."""
    with app.test_request_context():
        session["buyer"], session.permanent = buyer.hex, True
        token = current.tokens().make(
            order_random_id=random_id, version=1, buyer_id=buyer, amount=total, currency="EUR"
        )
        fields = {
            "checkout_token": token,
            "csrf_token": generate_csrf(), "email": f"shopper{order}@example.com", "name": "Ada Lovelace",
            "card_number": "4242 4242 4242 4242", "card_expiry": "12/40", "card_cvc": "123",
        }  # fmt: skip
        answer = Response()
        app.session_interface.save_session(app, session, answer)  # type: ignore[arg-type]
    return request("POST", "/checkout", answer.headers["Set-Cookie"].split(";")[0], urlencode(fields))


def request(method: str, path: str, cookie: str = "", body: str = "") -> bytes:
    """An HTTP/1.1 request as bytes, with what a browser says of itself."""
    head = "\r\n".join(_head(method, path, cookie, body))
    return f"{head}\r\n\r\n{body}".encode()


def _head(method: str, path: str, cookie: str, body: str) -> Iterator[str]:
    yield f"{method} {path} HTTP/1.1"
    yield "Host: 127.0.0.1"
    yield "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    yield "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    yield "Accept-Language: en-GB,en;q=0.5"
    if cookie:
        yield f"Cookie: {cookie}"
    if body:
        yield "Content-Type: application/x-www-form-urlencoded"
        yield f"Content-Length: {len(body)}"
