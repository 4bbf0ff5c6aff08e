"""Checkout forms that are ready to be sent. The app itself makes their orders, tokens, cookies and CSRF tokens."""

from collections.abc import Iterator
from urllib.parse import urlencode
from uuid import UUID

from flask import Flask, session
from flask_wtf.csrf import generate_csrf
from sqlalchemy import text
from werkzeug.wrappers import Response

from app import current
from app.database import transaction
from app.identifiers import new_uuid

# Each order has one piece of one product. Consecutive orders have different products.
ORDERS = text("""
WITH catalogue AS (
  SELECT count(*) AS kinds FROM product
), made AS (
  INSERT INTO orders (buyer_id, random_id, state, version, currency, created_at)
  SELECT buyer_id, random_id, 'open', 1, 'EUR', now()
  FROM unnest(CAST(:buyer_ids AS uuid[]), CAST(:random_ids AS uuid[])) AS ids (buyer_id, random_id)
  RETURNING id, buyer_id, random_id
), filled AS (
  INSERT INTO order_line (order_id, product_id, quantity, unit_price)
  SELECT made.id, product.id, 1, product.price
  FROM made CROSS JOIN catalogue JOIN product ON product.id = made.id % kinds + 1 RETURNING order_id, unit_price
)
SELECT made.id, made.buyer_id, made.random_id, filled.unit_price AS total
FROM made JOIN filled ON filled.order_id = made.id ORDER BY made.id
""")
COPY_PRODUCTS = text("""
INSERT INTO product (slug, name, description, image, price, currency, stock, stocked, on_sale)
SELECT slug || copy, name, description, image, price, currency, stock, stocked, on_sale
FROM product, generate_series(2, :copies) AS copy
""")
ADD_STOCK = text("UPDATE product SET stock = stock + 1000000, stocked = stocked + 1000000")


def stock(copies: int) -> None:
    """Copy each seeded product so that there are `copies` of it, with enough stock for any bench."""
    with transaction() as tx:
        tx.execute(COPY_PRODUCTS, {"copies": copies})
        tx.execute(ADD_STOCK)


def orders(count: int) -> list[tuple[int, UUID, UUID, int]]:
    """Create new baskets. Return (order_id, buyer_id, random_id, total in minor units) for each."""
    ids = {name: [str(new_uuid()) for _ in range(count)] for name in ("buyer_ids", "random_ids")}
    with transaction() as tx:
        return [(row.id, row.buyer_id, row.random_id, row.total) for row in tx.execute(ORDERS, ids)]


def forms(app: Flask, count: int) -> list[bytes]:
    """Create orders. Return a POST to /checkout for each, as a browser sends it."""
    with app.app_context():
        made = orders(count)
    return [_post(app, *order) for order in made]


def _post(app: Flask, order_id: int, buyer_id: UUID, random_id: UUID, total: int) -> bytes:
    """Return one filled-in form with its browser's cookie."""
    with app.test_request_context():
        session["buyer"], session.permanent = buyer_id.hex, True
        token = current.tokens().make(
            order_random_id=random_id, version=1, buyer_id=buyer_id, amount=total, currency="EUR"
        )
        fields = {
            "checkout_token": token,
            "csrf_token": generate_csrf(), "email": f"shopper{order_id}@example.com", "name": "Ada Lovelace",
            "card_number": "4242 4242 4242 4242", "card_expiry": "12/40", "card_cvc": "123",
        }  # fmt: skip
        response = Response()
        app.session_interface.save_session(app, session, response)  # type: ignore[arg-type]
    return request("POST", "/checkout", response.headers["Set-Cookie"].split(";")[0], urlencode(fields))


def request(method: str, path: str, cookie: str = "", body: str = "") -> bytes:
    """Return an HTTP/1.1 request as bytes, with the headers of a browser."""
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
