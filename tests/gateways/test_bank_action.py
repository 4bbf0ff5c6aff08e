"""The bank's confirmation page (3-D Secure): it takes money at most once and always shows the true outcome."""

from collections.abc import Iterator

import httpx
import pytest

from app.gateways.base import Outcome, Payment
from app.gateways.sandbox.cards import Behaviour
from tests.gateways.bank import RETURN_URL, WITH_KEY, RunningBank, at_once, card, charge_body, new_payment

TIMEOUT = 20.0
CHARGE = [("charge", 2400)]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A browser that keeps no cookies and follows no redirects."""
    with httpx.Client(timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def payment() -> Payment:
    return new_payment()


@pytest.fixture
def action_page(bank: RunningBank, payment: Payment) -> str:
    """The URL of the page of a charge that waits for its shopper."""
    answer = bank.gateway.charge(payment, card(Behaviour.ASKS_SHOPPER), TIMEOUT)
    assert answer.outcome is Outcome.REQUIRES_ACTION and answer.action_url
    return answer.action_url


def press(http: httpx.Client, page: str, decision: str) -> str:
    """Press a button and return the URL to which the bank redirects."""
    answer = http.post(page, data={"decision": decision})
    assert answer.status_code == 303
    return answer.headers["Location"]


def outcome(bank: RunningBank, payment: Payment) -> Outcome:
    found = bank.gateway.lookup(payment, TIMEOUT)
    assert found
    return found.outcome


def test_opening_the_page_takes_no_money(
    bank: RunningBank, http: httpx.Client, action_page: str, payment: Payment
) -> None:
    text = http.get(action_page).text
    for words in ("Confirm your payment", "No money has been taken yet", "€24.00", "Test shop", "ending in 3155"):
        assert words in text
    assert outcome(bank, payment) is Outcome.REQUIRES_ACTION
    assert bank.moved(payment.key) == []


@pytest.mark.parametrize(
    ("decision", "result", "reason", "moved", "words"),
    [
        ("confirm", Outcome.SUCCEEDED, None, CHARGE, "€24.00 was taken once"),
        ("refuse", Outcome.DECLINED, "refused_by_shopper", [], "No money was taken"),
    ],
)
def test_a_decision_redirects_to_the_shop_and_is_final(
    bank: RunningBank,
    http: httpx.Client,
    action_page: str,
    payment: Payment,
    decision: str,
    result: Outcome,
    reason: str | None,
    moved: list[tuple[str, int]],
    words: str,
) -> None:
    assert press(http, action_page, decision) == press(http, action_page, decision) == RETURN_URL
    other = "refuse" if decision == "confirm" else "confirm"
    assert press(http, action_page, other) in action_page, "the other button redirects to the page with the outcome"
    page = http.get(action_page).text
    assert words in page and "<form" not in page and RETURN_URL in page
    found = bank.gateway.lookup(payment, TIMEOUT)
    assert found and (found.outcome, found.reason) == (result, reason)
    assert bank.gateway.cancel(payment, TIMEOUT).outcome is result
    assert bank.gateway.charge(payment, card(Behaviour.ASKS_SHOPPER), TIMEOUT).outcome is result
    assert bank.moved(payment.key) == moved


def test_a_confirmation_after_the_cancel_takes_nothing(
    bank: RunningBank, http: httpx.Client, action_page: str, payment: Payment
) -> None:
    assert bank.gateway.cancel(payment, TIMEOUT).outcome is Outcome.CANCELED
    assert press(http, action_page, "confirm") in action_page
    assert "Payment cancelled" in http.get(action_page).text
    assert outcome(bank, payment) is Outcome.CANCELED
    assert bank.moved(payment.key) == []


def test_simultaneous_decisions_and_cancels_agree_on_one_outcome(bank: RunningBank, http: httpx.Client) -> None:
    for _ in range(10):
        payment = new_payment()
        page = bank.gateway.charge(payment, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
        confirm, refuse = (lambda: press(http, page, "confirm")), (lambda: press(http, page, "refuse"))  # noqa: B023
        cancel = lambda: bank.gateway.cancel(payment, TIMEOUT).outcome  # noqa: B023, E731
        confirmed, _, _, refused, canceled, again = at_once(confirm, confirm, confirm, refuse, cancel, cancel)
        result = outcome(bank, payment)
        assert canceled == again == result
        assert (confirmed == RETURN_URL) == (result is Outcome.SUCCEEDED)
        assert (refused == RETURN_URL) == (result is Outcome.DECLINED)
        assert bank.moved(payment.key) == (CHARGE if result is Outcome.SUCCEEDED else [])


def test_only_the_return_url_of_the_charge_is_used(http: httpx.Client, action_page: str) -> None:
    elsewhere = "https://elsewhere.example/"
    answer = http.post(
        f"{action_page}?return_url={elsewhere}",
        data={"decision": "confirm", "return_url": elsewhere, "next": elsewhere},
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, RETURN_URL)


def test_a_repeated_request_does_not_change_the_return_url(bank: RunningBank, http: httpx.Client) -> None:
    payment = new_payment()
    page = bank.gateway.charge(payment, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
    replay = charge_body(payment, Behaviour.ASKS_SHOPPER, return_url="http://127.0.0.1:8/elsewhere")
    assert http.post(f"{bank.url}/v1/charges", json=replay, headers=WITH_KEY).json()["action_url"] == page
    assert press(http, page, "refuse") == RETURN_URL


FOREIGN = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
           {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}]  # fmt: skip


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_form_on_a_foreign_page_decides_nothing(
    bank: RunningBank, http: httpx.Client, action_page: str, payment: Payment, headers: dict[str, str]
) -> None:
    for decision in ("confirm", "refuse"):
        refused = http.post(action_page, data={"decision": decision}, headers=headers)
        assert (refused.status_code, "Request not understood" in refused.text) == (403, True)
    assert outcome(bank, payment) is Outcome.REQUIRES_ACTION
    own = {"Origin": bank.url, "Sec-Fetch-Site": "same-origin"}
    assert http.post(action_page, data={"decision": "confirm"}, headers=own).status_code == 303
    assert outcome(bank, payment) is Outcome.SUCCEEDED


def test_unknown_pages_and_unknown_decisions_are_refused(
    bank: RunningBank, http: httpx.Client, action_page: str
) -> None:
    for path in ("/", "/3ds/", "/3ds/" + "a" * 32, "/3ds/a%00b", "/nowhere"):
        missing = http.get(bank.url + path)
        assert (missing.status_code, "Page not found" in missing.text) == (404, True)
    assert http.post(f"{bank.url}/3ds/{'a' * 32}", data={"decision": "confirm"}).status_code == 404
    for data in ({}, {"decision": ""}, {"decision": "succeeded"}):
        refused = http.post(action_page, data=data)
        assert (refused.status_code, "moved no money" in refused.text) == (400, True)
    assert "Confirm your payment" in http.get(action_page).text


def test_every_response_has_security_headers_and_sets_no_cookie(
    bank: RunningBank, http: httpx.Client, action_page: str
) -> None:
    answers = [
        http.get(action_page),
        http.get(f"{bank.url}/static/bank.css"),
        http.get(f"{bank.url}/healthz"),
        http.get(f"{bank.url}/nowhere"),
        http.post(f"{bank.url}/v1/charges"),
        http.post(action_page, data={"decision": "confirm"}),
    ]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
    assert "form-action 'self' http://127.0.0.1:9" in answers[0].headers["Content-Security-Policy"]
    assert answers[0].headers["Cache-Control"] == "no-store"


def test_the_name_of_the_shop_is_escaped(bank: RunningBank, http: httpx.Client) -> None:
    body = charge_body(new_payment(), Behaviour.ASKS_SHOPPER, shop="<b>Shop</b>")
    page = http.post(f"{bank.url}/v1/charges", json=body, headers=WITH_KEY).json()["action_url"]
    assert "&lt;b&gt;Shop&lt;/b&gt;" in http.get(page).text


def test_action_ids_are_unguessable(bank: RunningBank) -> None:
    pages = {bank.gateway.charge(new_payment(), card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url for _ in range(3)}
    assert len(pages) == 3
    assert all(len(page.rpartition("/")[2]) == 32 for page in pages if page)
