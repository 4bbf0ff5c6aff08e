"""Answers of the bank that are no answer: in doubt with the reason noted, whatever they claim, and then found out."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.factories import MUG, ready_to_pay
from tests.healing import heal, recover
from tests.shops import Shop

Change = Callable[[bytes], tuple[int, bytes]]


class Tampered(httpx.BaseTransport):
    """The way to the bank: what is asked arrives there, what comes back goes through `change`."""

    def __init__(self, shop: Shop, change: Change) -> None:
        self.bank = httpx.WSGITransport(app=shop.bank)
        self.change = change

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        status, content = self.change(self.bank.handle_request(request).read())
        return httpx.Response(status, stream=httpx.ByteStream(content))


def say(content: str, status: int = 200) -> Change:
    """Something else entirely."""
    return lambda answer: (status, content.encode())


def claim(**changes: Any) -> Change:
    """The true answer, but for these fields."""
    return lambda answer: (200, json.dumps(json.loads(answer) | changes).encode())


ENDLESS = '{"status": "succeeded", "x": "' + "x" * 100_000 + '"}'
BAD = {
    "a page": (say("<h1>succeeded</h1>"), "the bank answered 200 with something unreadable"),
    "nothing": (say(""), "the bank answered 200 with something unreadable"),
    "a list": (say("[]"), "the bank answered 200 with something unreadable"),
    "deep": (say("[" * 50_000), "the bank answered 200 with something unreadable"),
    "too large": (say(ENDLESS), "the bank's answer was too large"),
    "no outcome": (claim(status="paid"), "the bank answered with no outcome"),
    "null": (claim(status=None), "the bank answered with no outcome"),
    "another amount": (claim(amount=1), "the bank answered for another amount"),
    "the amount as text": (claim(amount="2400"), "the bank answered for another amount"),
    "another currency": (claim(currency="USD"), "the bank answered for another amount"),
    "another key": (claim(key="another"), "the bank answered for another key"),
    "a page elsewhere": (
        claim(status="requires_action", action_url="https://evil.example/3ds/1"),
        "the bank named no page of its own for the shopper",
    ),
    "a redirect": (say("{}", 302), "the bank answered 302"),
    "forbidden": (say('{"status": "declined"}', 403), "the bank answered 403"),
    "too many": (say('{"status": "declined"}', 429), "the bank answered 429"),
    "reused": (say('{"error": "key_reused"}', 422), "the bank answered 422"),
}


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(gateway_deadline=0.5)


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_is_none_leaves_a_doubt_that_is_found_out(shop: Shop, name: str) -> None:
    change, reason = BAD[name]
    shopper, before = shop.shopper(), shop.stock(MUG)
    form = ready_to_pay(shopper)
    shop.way_to_bank(Tampered(shop, change))
    page = form.submit()
    assert (page.statuses, page.heading) == ([303, 200], "Your payment is still being confirmed")
    assert "Please do not pay again." in page.text
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", reason)]

    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", reason)]
    assert (shop.value("SELECT count(*) FROM ledger_entry"), shop.stock(MUG)) == (0, before - 1)

    shop.way_to_bank(httpx.WSGITransport(app=shop.bank))
    heal(shop)
    assert page.reload().heading == "Paid: €24.00"
    assert len(shop.statement()) == 1


@pytest.mark.parametrize("word", ["succeeded", "declined", "canceled", "requires_action"])
def test_a_404_that_is_not_the_banks_own_word_fences_nothing(shop: Shop, word: str) -> None:
    """A proxy's "not found" must not pass for "the bank never heard of the key"."""
    form = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0055")
    form.submit()
    shop.way_to_bank(Tampered(shop, say(json.dumps({"error": "not_found", "status": word}), 404)))
    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", "the bank answered 404")]
    shop.way_to_bank(httpx.WSGITransport(app=shop.bank))
    heal(shop)
    assert shop.charges() == {"succeeded": 1}
