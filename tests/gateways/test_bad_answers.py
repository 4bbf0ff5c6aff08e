"""Invalid answers of the bank: the charge stays in doubt, with the reason as its note, until recovery finds out."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.factories import MUG, ready_to_pay
from tests.recovery import recover, recover_and_audit
from tests.shops import Shop

Change = Callable[[bytes], tuple[int, bytes]]


class TamperingTransport(httpx.BaseTransport):
    """Passes requests to the bank unchanged, and its answers through `change`."""

    def __init__(self, shop: Shop, change: Change) -> None:
        self.bank = httpx.WSGITransport(app=shop.bank)
        self.change = change

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        status, content = self.change(self.bank.handle_request(request).read())
        return httpx.Response(status, stream=httpx.ByteStream(content))


def replaced(content: str, status: int = 200) -> Change:
    """Return a change that replaces the whole answer."""
    return lambda answer: (status, content.encode())


def with_fields(**changes: Any) -> Change:
    """Return a change that replaces some fields of the answer."""
    return lambda answer: (200, json.dumps(json.loads(answer) | changes).encode())


TOO_LARGE = '{"status": "succeeded", "x": "' + "x" * 100_000 + '"}'
BAD_ANSWERS = {
    "an HTML page": (replaced("<h1>succeeded</h1>"), "the bank answered 200 with an unreadable body"),
    "empty": (replaced(""), "the bank answered 200 with an unreadable body"),
    "a list": (replaced("[]"), "the bank answered 200 with an unreadable body"),
    "deeply nested": (replaced("[" * 50_000), "the bank answered 200 with an unreadable body"),
    "too large": (replaced(TOO_LARGE), "the bank's answer was too large"),
    "no outcome": (with_fields(status="paid"), "the bank answered with no outcome"),
    "outcome null": (with_fields(status=None), "the bank answered with no outcome"),
    "another amount": (with_fields(amount=1), "the bank answered with another amount"),
    "the amount as text": (with_fields(amount="2400"), "the bank answered with another amount"),
    "another currency": (with_fields(currency="USD"), "the bank answered with another amount"),
    "another key": (with_fields(key="another"), "the bank answered with another key"),
    "an action URL elsewhere": (
        with_fields(status="requires_action", action_url="https://evil.example/3ds/1"),
        "the bank answered with an action URL that is not its own",
    ),
    "a redirect": (replaced("{}", 302), "the bank answered 302"),
    "forbidden": (replaced('{"status": "declined"}', 403), "the bank answered 403"),
    "too many requests": (replaced('{"status": "declined"}', 429), "the bank answered 429"),
    "key reused": (replaced('{"error": "key_reused"}', 422), "the bank answered 422"),
}


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(gateway_deadline=0.5)


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_invalid_answer_leaves_the_charge_in_doubt_until_recovery_finds_out(shop: Shop, name: str) -> None:
    change, reason = BAD_ANSWERS[name]
    shopper, before = shop.shopper(), shop.stock(MUG)
    form = ready_to_pay(shopper)
    shop.use_transport(TamperingTransport(shop, change))
    page = form.submit()
    assert (page.statuses, page.heading) == ([303, 200], "Your payment is still being confirmed")
    assert "Please do not pay again." in page.text
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", reason)]

    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", reason)]
    assert (shop.value("SELECT count(*) FROM ledger_entry"), shop.stock(MUG)) == (0, before - 1)

    shop.use_transport(httpx.WSGITransport(app=shop.bank))
    recover_and_audit(shop)
    assert page.reload().heading == "Paid: €24.00"
    assert len(shop.statement()) == 1


@pytest.mark.parametrize("status", ["succeeded", "declined", "canceled", "requires_action"])
def test_a_404_of_something_else_than_the_bank_does_not_fence_the_key(shop: Shop, status: str) -> None:
    """A proxy's "not found" does not mean that the bank does not know the key."""
    form = ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0055")
    form.submit()
    shop.use_transport(TamperingTransport(shop, replaced(json.dumps({"error": "not_found", "status": status}), 404)))
    recover(shop)
    assert shop.rows("SELECT status, note FROM charge") == [("in_doubt", "the bank answered 404")]
    shop.use_transport(httpx.WSGITransport(app=shop.bank))
    recover_and_audit(shop)
    assert shop.charges() == {"succeeded": 1}
