"""The bank's own page (3-D Secure): money at most once, whatever is clicked, and the page says the truth."""

from collections.abc import Iterator

import httpx
import pytest

from app.gateways.base import Outcome, Payment
from app.gateways.sandbox.cards import Behaviour
from tests.gateways.bank import RETURN_URL, RunningBank, at_once, card, charge_body, payment

TIMEOUT = 20.0
CHARGE = [("charge", 2400)]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """A browser without cookies or redirects."""
    with httpx.Client(timeout=TIMEOUT) as client:
        yield client


@pytest.fixture
def asked() -> Payment:
    return payment()


@pytest.fixture
def action_page(bank: RunningBank, asked: Payment) -> str:
    """The address of the page for a charge that waits for its shopper."""
    answer = bank.gateway.charge(asked, card(Behaviour.ASKS_SHOPPER), TIMEOUT)
    assert answer.outcome is Outcome.REQUIRES_ACTION and answer.action_url
    return answer.action_url


def press(http: httpx.Client, page: str, decision: str) -> str:
    """Press a button; where it leads."""
    answer = http.post(page, data={"decision": decision})
    assert answer.status_code == 303
    return answer.headers["Location"]


def outcome(bank: RunningBank, asked: Payment) -> Outcome:
    found = bank.gateway.lookup(asked, TIMEOUT)
    assert found
    return found.outcome


def test_the_page_asks_and_takes_nothing_by_being_opened(
    bank: RunningBank, http: httpx.Client, action_page: str, asked: Payment
) -> None:
    text = http.get(action_page).text
    for words in ("Confirm your payment", "No money has been taken yet", "€24.00", "Test shop", "ending in 3155"):
        assert words in text
    assert outcome(bank, asked) is Outcome.REQUIRES_ACTION
    assert bank.moved(asked.key) == []


@pytest.mark.parametrize(
    ("decision", "result", "reason", "moved", "words"),
    [
        ("confirm", Outcome.SUCCEEDED, None, CHARGE, "€24.00 was taken once"),
        ("refuse", Outcome.DECLINED, "refused_by_shopper", [], "No money was taken"),
    ],
)
def test_a_decision_leads_back_to_the_shop_and_stands(
    bank: RunningBank,
    http: httpx.Client,
    action_page: str,
    asked: Payment,
    decision: str,
    result: Outcome,
    reason: str | None,
    moved: list[tuple[str, int]],
    words: str,
) -> None:
    assert press(http, action_page, decision) == press(http, action_page, decision) == RETURN_URL
    other = "refuse" if decision == "confirm" else "confirm"
    assert press(http, action_page, other) in action_page, "the other button changes nothing and leads to the truth"
    again = http.get(action_page).text
    assert words in again and "<form" not in again and RETURN_URL in again
    found = bank.gateway.lookup(asked, TIMEOUT)
    assert found and (found.outcome, found.reason) == (result, reason)
    assert bank.gateway.cancel(asked, TIMEOUT).outcome is result
    assert bank.gateway.charge(asked, card(Behaviour.ASKS_SHOPPER), TIMEOUT).outcome is result
    assert bank.moved(asked.key) == moved


def test_a_confirmation_after_the_cancel_takes_nothing(
    bank: RunningBank, http: httpx.Client, action_page: str, asked: Payment
) -> None:
    assert bank.gateway.cancel(asked, TIMEOUT).outcome is Outcome.CANCELED
    assert press(http, action_page, "confirm") in action_page
    assert "Payment cancelled" in http.get(action_page).text
    assert outcome(bank, asked) is Outcome.CANCELED
    assert bank.moved(asked.key) == []


def test_everything_at_once_ends_in_one_truth(bank: RunningBank, http: httpx.Client) -> None:
    for _ in range(10):
        asked = payment()
        page = bank.gateway.charge(asked, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
        confirm, refuse = (lambda: press(http, page, "confirm")), (lambda: press(http, page, "refuse"))  # noqa: B023
        cancel = lambda: bank.gateway.cancel(asked, TIMEOUT).outcome  # noqa: B023, E731
        confirmed, _, _, refused, canceled, again = at_once(confirm, confirm, confirm, refuse, cancel, cancel)
        result = outcome(bank, asked)
        assert canceled == again == result
        assert (confirmed == RETURN_URL) == (result is Outcome.SUCCEEDED)
        assert (refused == RETURN_URL) == (result is Outcome.DECLINED)
        assert bank.moved(asked.key) == (CHARGE if result is Outcome.SUCCEEDED else [])


def test_the_way_back_is_only_the_one_given_with_the_charge(http: httpx.Client, action_page: str) -> None:
    elsewhere = "https://elsewhere.example/"
    answer = http.post(
        f"{action_page}?return_url={elsewhere}",
        data={"decision": "confirm", "return_url": elsewhere, "next": elsewhere},
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, RETURN_URL)


def test_a_replay_with_another_way_back_does_not_move_the_first(bank: RunningBank, http: httpx.Client) -> None:
    asked = payment()
    page = bank.gateway.charge(asked, card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url or ""
    replay = charge_body(asked, Behaviour.ASKS_SHOPPER, return_url="https://elsewhere.example/")
    assert http.post(f"{bank.url}/v1/charges", json=replay).json()["action_url"] == page
    assert press(http, page, "refuse") == RETURN_URL


def test_pages_that_are_not_there(bank: RunningBank, http: httpx.Client, action_page: str) -> None:
    for path in ("/", "/3ds/", "/3ds/" + "a" * 32, "/3ds/a%00b", "/nowhere"):
        missing = http.get(bank.url + path)
        assert (missing.status_code, "Page not found" in missing.text) == (404, True)
    assert http.post(f"{bank.url}/3ds/{'a' * 32}", data={"decision": "confirm"}).status_code == 404
    for data in ({}, {"decision": ""}, {"decision": "succeeded"}):
        refused = http.post(action_page, data=data)
        assert (refused.status_code, "moved no money" in refused.text) == (400, True)
    assert "Confirm your payment" in http.get(action_page).text


def test_every_answer_is_locked_down_and_sets_no_cookie(
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


def test_the_shop_s_name_is_text_never_markup(bank: RunningBank, http: httpx.Client) -> None:
    body = charge_body(payment(), Behaviour.ASKS_SHOPPER, shop="<b>Shop</b>")
    page = http.post(f"{bank.url}/v1/charges", json=body).json()["action_url"]
    assert "&lt;b&gt;Shop&lt;/b&gt;" in http.get(page).text


def test_pages_can_t_be_guessed(bank: RunningBank) -> None:
    pages = {bank.gateway.charge(payment(), card(Behaviour.ASKS_SHOPPER), TIMEOUT).action_url for _ in range(3)}
    assert len(pages) == 3
    assert all(len(page.rpartition("/")[2]) == 32 for page in pages if page)
