"""Any body at any address that takes forms: never a 500, never a charge that the bank does not know, nothing lost."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes

import pytest
from flask import Flask, url_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.factories import API_KEY, APPROVES, ASKS_SHOPPER, DECLINES, MUG, ready_to_pay
from tests.shops import Shop

pytestmark = pytest.mark.slow

BOUNDARY = b"part-of-a-form"

NAMES = ["checkout_token", "csrf_token", "email", "name", "card_number", "card_expiry", "card_cvc", "order_again",
         "product", "quantity", "cells", "decision", "", "odd"]  # fmt: skip

values = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=30).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"", b"\x00", b"1", b"-1", b"9" * 5000, b"\xff\xfe", b"ada@example.org", MUG.encode(), b"12/49",
                     APPROVES.encode(), DECLINES.encode(), ASKS_SHOPPER.encode(), b"123", b"a" * 3000, b"\xed\xa0\x80",
                     b"%00", b"on", b"confirm", "４２".encode()]),
)  # fmt: skip


class Body(NamedTuple):
    """A request's body and its Content-Type."""

    content_type: str
    content: bytes


class Field(NamedTuple):
    name: str
    value: bytes


fields = st.builds(Field, st.sampled_from(NAMES), values)


def mixed(draw: DrawFn, right: dict[str, str]) -> list[Field]:
    """Return the right fields, some of them left out, changed or doubled, and others."""
    kept = [Field(name, value.encode()) for name, value in right.items() if draw(st.integers(0, 9))]
    return draw(st.permutations(kept + draw(st.lists(fields, max_size=4))))


def urlencoded(draw: DrawFn, right: dict[str, str]) -> Body:
    parts = [f"{name}={quote_from_bytes(value)}".encode() for name, value in mixed(draw, right)]
    parts += draw(st.lists(st.sampled_from([b"%", b"name=%zz", b"email=%ff%fe", b"a=%0", b"=", b"", b"name", b"a=b=c",
                                            b"csrf_token=%ED%A0%80", b"name=\xff", b";", b"name=%00"]),
                           max_size=3))  # fmt: skip
    charset = draw(st.sampled_from(["", "; charset=utf-16", "; charset=utf-7", "; charset=none", "; charset="]))
    return Body(f"application/x-www-form-urlencoded{charset}", b"&".join(parts))


HEADERS = [b"", b"; filename=a.txt", b'; filename="', b"; filename*=utf-8''%ff", b'; name="email"', b'; filename=""',
           b"\r\nContent-Type: text/plain; charset=utf-16", b"\r\nContent-Type: multipart/mixed; boundary=x",
           b"\r\nContent-Type: text/plain; charset=nonsense", b"\r\nContent-Transfer-Encoding: base64",
           b"\r\nContent-Length: 99999", b"\r\n folded: yes", b"\r\nno colon", b"\r\n: empty", b"\xff"]  # fmt: skip


def multipart(draw: DrawFn, right: dict[str, str]) -> Body:
    """Return parts, some of them files, some broken, with a boundary that need not be the one announced."""
    content = b""
    for name, value in mixed(draw, right):
        more = draw(st.sampled_from(HEADERS)) if not draw(st.integers(0, 3)) else b""
        disposition = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + more
        content += b"--" + BOUNDARY + b"\r\n" + disposition + b"\r\n\r\n" + value + b"\r\n"
    content += b"--" + BOUNDARY + b"--\r\n"
    boundary = f"; boundary={BOUNDARY.decode()}"
    if draw(st.sampled_from([True, False, False, False])):
        content = content[: draw(st.integers(0, len(content)))] + draw(st.sampled_from([b"", b"--", b"\r\n\r\n"]))
        boundary = draw(st.sampled_from([boundary, "", "; boundary=", "; boundary=\xff"]))
    return Body(f"multipart/form-data{boundary}", content)


def anything(draw: DrawFn, _right: dict[str, str]) -> Body:
    types = ["", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=a",
             "application/json", "text/plain", "x", "application/x-www-form-urlencoded;" * 20]  # fmt: skip
    json = [b"[" * 5000, b"{}", b"null", b'{"a": 1e999}', b'"\\ud800"']
    return Body(draw(st.sampled_from(types)), draw(st.one_of(st.binary(max_size=200), st.sampled_from(json))))


@st.composite
def bodies(draw: DrawFn, right: dict[str, str]) -> Body:
    return draw(st.sampled_from([urlencoded, multipart, anything]))(draw, right)


def posts(app: Flask) -> list[str]:
    """Return the address of every route that takes a POST, with something in place of its arguments."""
    arguments = {"receipt_id": "0" * 36, "defence": 1, "path": "pay", "gateway_name": "stripe", "key": "k",
                 "action_id": "a" * 32}  # fmt: skip
    rules = [rule for rule in app.url_map.iter_rules() if rule.methods and "POST" in rule.methods]
    with app.test_request_context():
        return [url_for(rule.endpoint, **{name: arguments[name] for name in rule.arguments}) for rule in rules]


def post(app: Flask, path: str, body: Body, **headers: str) -> Any:
    client = app.test_client(use_cookies=False)
    return client.post(path, data=body.content, content_type=body.content_type, headers=headers)


def checked(examples: int) -> Callable[..., Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
        print_blob=True,
    )


REFUSALS = {400, 403, 404, 405, 409, 413, 415, 422, 429}


def test_no_body_is_a_500_and_the_form_stays_payable(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper(), card_number=DECLINES)
    original = dict(form.fields)
    cookies = "; ".join(f"{name}={value}" for name, value in form.page.shopper.client.cookies.items())
    paths = posts(shop.app)
    assert {"/checkout", "/basket"} <= set(paths)
    receipts: set[str] = set()

    @checked(300)
    @given(data=st.data())
    def try_one(data: Any) -> None:
        path = data.draw(st.sampled_from([*paths, "/checkout", "/checkout", "/basket"]))
        right = {**original, "product": MUG, "quantity": "1"} if path in {"/checkout", "/basket"} else {}
        response = post(shop.app, path, data.draw(bodies(right)), Cookie=cookies)
        assert response.status_code in REFUSALS | {303}, response.text
        if "/receipts/" in response.headers.get("Location", ""):
            receipts.add(response.headers["Location"])

    try_one()
    known = {row.receipt_id for row in shop.rows("SELECT receipt_id FROM charge")}
    assert {link.rpartition("/")[2] for link in receipts} <= known, "every receipt that was shown exists"
    assert shop.charges()["succeeded"] == len(shop.statement())
    assert not shop.rows("SELECT id FROM charge WHERE status IN ('processing', 'in_doubt')")
    form.fields = original
    again = form.post()
    assert again.status_code in {303, 409, 422, 429}, "the basket and its form are still there"


def test_no_body_is_a_500_at_the_bank(shop: Shop) -> None:
    paths = posts(shop.bank)
    right = {"key": "k", "amount": 1, "currency": "EUR", "card": {"number": APPROVES, "expiry": "12/49", "cvc": "1"},
             "return_url": "http://127.0.0.1/r", "shop": "s"}  # fmt: skip
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    )

    @checked(200)
    @given(data=st.data())
    def try_one(data: Any) -> None:
        path = data.draw(st.sampled_from(paths))
        if data.draw(st.booleans()):
            changed = data.draw(st.dictionaries(st.sampled_from([*right, "shop_id", "order_id", "charge"]), odd))
            body = Body("application/json", json.dumps(right | changed).encode())
        else:
            body = data.draw(bodies({}))
        response = post(shop.bank, path, body, Authorization=f"Bearer {API_KEY}")
        assert response.status_code < 500, response.text

    try_one()
