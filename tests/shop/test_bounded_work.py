"""No header, cookie or field makes a request cost many times its normal work, however it is filled.

Work is counted in calls of functions, Python's own and those of C, so that no clock is needed.
"""

import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.factories import MUG, ready_to_pay
from tests.shops import Shop

LONGEST = 8190
"""Bytes of a header field that gunicorn accepts by default (limit_request_field_size)."""

TIMES = 5
"""How many times a normal request's work the worst header may cost."""

TIMES_FIELD = 45
"""The same for fields. They may be eight times as long, and each % takes two (short) calls to decode."""

FILLINGS = ["x", ",", "a,", "xx-yy;q=0.5,", "a=b; ", ";", '"', "10.0.0.1, ", "%41", "=?utf-8?q?a?=", "1-2,", "(", "/*",
            "é", "*/*;q=0.1,", "bytes=0-1,", "a/b;c=d,", '"x", ', "W/"]  # fmt: skip

HEADERS = ["Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Cookie",
           "Content-Type", "Date", "Forwarded", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "Origin",
           "Pragma", "Range", "Referer", "User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
           "X-Request-Id", "Sec-Fetch-Site"]  # fmt: skip


def work(act: Callable[[], Any]) -> int:
    """Return how many functions are called while `act` runs."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls


@pytest.fixture
def engine_name() -> str:
    """Run these tests on one engine, because they are about requests."""
    return "sqlite"


@pytest.fixture
def behind_proxies(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(trusted_proxies=("10.0.0.0/8", "192.168.0.0/16"))


def environ(header: str, value: str) -> dict[str, Any]:
    name = header.upper().replace("-", "_")
    key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
    return {"REMOTE_ADDR": "10.0.0.1", key: value}


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_makes_much_work(behind_proxies: Shop, header: str) -> None:
    client = behind_proxies.app.test_client(use_cookies=False)

    def get(value: str) -> None:
        response = client.get(f"/products/{MUG}", environ_overrides=environ(header, value))
        assert response.status_code < 500

    get("x")  # What is cached is cached now.
    normal = work(lambda: get("x"))
    for filling in FILLINGS:
        value = (filling * LONGEST).encode()[:LONGEST].decode("latin-1")
        assert work(lambda value=value: get(value)) < TIMES * normal, filling  # type: ignore[misc]


FIELDS = [
    "",
    "checkout_token",
    "csrf_token",
    "email",
    "name",
    "card_number",
    "card_expiry",
    "card_cvc",
    "order_again",
    "odd",
]
TEXTS = ["x", "=", "&", "a&", "a=&", "a=b&", "%41", "%", "+", "é", ".", "@", "4", " ", "a.", "\x00", "x@", "xn--", "-"]


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_makes_much_work(shop: Shop, field: str) -> None:
    """With a form that is otherwise right, so that every field is looked at."""
    form = ready_to_pay(shop.shopper(), card_number="4000 0000 0000 0002")
    cookie = "; ".join(f"{name}={value}" for name, value in form.page.shopper.client.cookies.items())
    client = shop.app.test_client(use_cookies=False)
    others = {name: value for name, value in form.fields.items() if name != field}

    def post(more: str) -> int:
        body = f"{urlencode(others)}&{field + '=' if field else ''}{more}".encode()[: 64 * 1024]
        response = client.post("/checkout", data=body, content_type="application/x-www-form-urlencoded",
                               headers={"Cookie": cookie})  # fmt: skip
        assert response.status_code < 500
        return response.status_code

    post("")
    normal = work(lambda: post(""))
    for text in TEXTS:
        more = text * (64 * 1024)
        spent = work(lambda more=more: post(more))
        assert spent < TIMES_FIELD * normal, text
