"""The gateway against the provider's real edges: keys that are replayed, in use, misused and forgotten."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic, time
from uuid import uuid4

import pytest

from app.gateways.base import (
    Answer,
    Line,
    NotPayable,
    NotSent,
    Outcome,
    Payment,
    Repayment,
    Sale,
    Unknown,
)
from app.gateways.stripe import gateway as module
from app.gateways.stripe import requests
from app.gateways.stripe.gateway import StripeGateway
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY, DECLINES

CREATE = "POST /v1/checkout/sessions"
LIST = "GET /v1/checkout/sessions"
WINDOW = 3600.0


@pytest.fixture
def gateway(provider: Provider) -> StripeGateway:
    return StripeGateway(API_KEY, window=WINDOW, api_base=provider.origin, page_origin=provider.origin)


@pytest.fixture
def wait(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Let so many seconds go by, here and at the provider."""

    def go_by(seconds: float) -> None:
        provider.state.ahead += seconds

    monkeypatch.setattr(requests, "time", lambda: time() + provider.state.ahead)
    yield go_by


def sale(**changes: object) -> Sale:
    given = {
        "key": str(uuid4()), "amount": 4800, "currency": "EUR", "order": 7, "email": "ada@example.org",
        "return_url": "http://127.0.0.1:8000/receipts/1", "lines": [Line("Morning mug", 2, 2400)],
    }  # fmt: skip
    return Sale(**(given | changes))  # type: ignore[arg-type]


def payment(gateway: StripeGateway, **changes: object) -> Payment:
    """A payment as it is stored at the claim."""
    sold = sale(**changes)
    return Payment(sold.key, sold.amount, sold.currency, sold.return_url, request=gateway.prepare(sold))


def charged(gateway: StripeGateway, made: Payment) -> Payment:
    """The session made, and its id learnt."""
    return replace(made, reference=gateway.charge(made, None, 5).reference)


def test_the_request_says_all_that_binds_the_session_to_the_charge(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    answer = gateway.charge(made, None, 5)
    assert answer == Answer(Outcome.REQUIRES_ACTION, provider.session["id"], None, provider.session["url"])
    method, path, key, params = provider.asked[-1]
    assert (f"{method} {path}", key) == (CREATE, made.key)
    assert params["client_reference_id"] == made.key
    assert params["metadata"] == params["payment_intent_data"]["metadata"] == {"payonce_charge": made.key}
    assert params["line_items"] == [
        {"quantity": "2",
         "price_data": {"currency": "eur", "unit_amount": "2400", "product_data": {"name": "Morning mug"}}}
    ]  # fmt: skip
    assert params["customer_email"] == "ada@example.org"
    assert params["allowed_payment_method_types"] == ["card"]
    assert provider.session["expires_at"] > time() + WINDOW
    assert len(provider.asked) == 1


@pytest.mark.parametrize(
    ("currency", "ours", "theirs"),
    [("EUR", 2400, 2400), ("JPY", 2400, 2400), ("ISK", 2400, 240000), ("UGX", 9000, 900000), ("KWD", 7320, 7320)],
)  # fmt: skip
def test_amounts_have_the_providers_exponent(
    provider: Provider, gateway: StripeGateway, currency: str, ours: int, theirs: int
) -> None:
    answer = gateway.charge(payment(gateway, amount=ours, currency=currency, lines=[Line("x", 1, ours)]), None, 5)
    assert answer.outcome is Outcome.REQUIRES_ACTION
    assert (provider.session["amount_total"], provider.session["currency"]) == (theirs, currency.lower())
    made = payment(gateway, amount=ours, currency=currency, lines=[Line("x", 1, ours)])
    del provider.state.sessions[str(answer.reference)]
    charged(gateway, made)
    provider.pay()
    assert [(line.amount, line.currency) for line in gateway.statement()] == [(ours, currency)]


@pytest.mark.parametrize(
    ("currency", "amount", "reason", "limit"),
    [("EUR", 49, "too_little", 50), ("GBP", 29, "too_little", 30), ("JPY", 49, "too_little", 50),
     ("EUR", 100_000_000, "too_much", 99_999_999), ("KWD", 7325, "step", 10)],
)  # fmt: skip
def test_what_the_provider_would_not_take_is_refused_before_anything_is_claimed(
    provider: Provider, gateway: StripeGateway, currency: str, amount: int, reason: str, limit: int
) -> None:
    with pytest.raises(NotPayable) as refusal:
        payment(gateway, amount=amount, currency=currency)
    assert (refusal.value.reason, refusal.value.limit) == (reason, limit)
    assert provider.asked == []


def test_lines_that_do_not_add_up_go_as_one(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(payment(gateway, lines=[Line("Morning mug", 1, 1)]), None, 5)
    assert provider.session["amount_total"] == 4800


def test_an_address_in_other_letters_is_left_to_the_page(provider: Provider, gateway: StripeGateway) -> None:
    gateway.charge(payment(gateway, email="adä@exämple.org"), None, 5)
    assert provider.session["customer_email"] is None


@pytest.mark.parametrize("kind", ["lost", "unheard", "fell_late", "fell", "busy", "in_use", "garbage"])
def test_no_answer_to_the_making_is_doubt_and_recovery_finds_the_one_session(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None], kind: str
) -> None:
    provider.fault(CREATE, kind)
    made = payment(gateway)
    with pytest.raises(Unknown):
        gateway.charge(made, None, 5)
    if kind == "fell":
        with pytest.raises(Unknown, match="no session for it yet"):
            gateway.lookup(made, 5)
        wait(WINDOW + 2 * requests.SLACK + 1)
        assert gateway.lookup(made, 5) is None
        assert gateway.cancel(made, 5).outcome is Outcome.CANCELED
        assert provider.state.sessions == {}
        return
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert answer.action_url == provider.session["url"]


def test_a_provider_that_is_not_there_took_nothing(provider: Provider) -> None:
    nowhere = StripeGateway(API_KEY, window=WINDOW, api_base="http://127.0.0.1:9", page_origin="http://127.0.0.1:9")
    with pytest.raises(NotSent):
        nowhere.charge(payment(nowhere), None, 2)


def test_the_library_never_tries_again_by_itself(provider: Provider, gateway: StripeGateway) -> None:
    for kind in ("fell", "busy", "in_use", "lost"):
        provider.fault(CREATE, kind)
        before = len(provider.asked)
        with pytest.raises(Unknown):
            gateway.charge(payment(gateway), None, 5)
        assert len(provider.asked) == before + 1


def test_a_dripping_provider_cannot_hold_us_beyond_the_deadline(provider: Provider, gateway: StripeGateway) -> None:
    fault = provider.fault(CREATE, "held")
    began = monotonic()
    with pytest.raises(Unknown, match="in time"):
        gateway.charge(payment(gateway), None, 0.3)
    assert monotonic() - began < 2
    fault.go.set()


def test_asking_again_helps_after_a_failure_but_not_after_a_remembered_one(
    provider: Provider, gateway: StripeGateway
) -> None:
    provider.fault(CREATE, "fell")
    made = payment(gateway)
    with pytest.raises(Unknown) as fresh:
        gateway.charge(made, None, 5)
    with pytest.raises(Unknown) as replayed:
        gateway.charge(made, None, 5)
    provider.fault(CREATE, "busy")
    with pytest.raises(Unknown) as busy:
        gateway.charge(payment(gateway), None, 5)
    assert (fresh.value.again, replayed.value.again, busy.value.again) == (True, False, False)


def test_twins_of_one_request_make_one_session(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    slow = provider.fault(CREATE, "slow")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, made, None, 5)
        assert slow.reached.wait(5)
        with pytest.raises(Unknown, match="409") as twin:
            gateway.charge(made, None, 5)
        slow.go.set()
        assert first.result().reference == gateway.charge(made, None, 5).reference == provider.session["id"]
    assert twin.value.again


def test_the_same_key_with_another_request_is_doubt(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    gateway.charge(made, None, 5)
    assert made.request is not None
    other = replace(made, request={**made.request, "params": {**made.request["params"], "cancel_url": "http://x/"}})
    with pytest.raises(Unknown, match="idempotency_error") as refusal:
        gateway.charge(other, None, 5)
    assert not refusal.value.again


def test_a_replay_is_a_memory_so_lookup_reads_the_session_as_it_is(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    gateway.charge(made, None, 5)
    provider.pay()
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert len(provider.state.sessions) == 1


def test_beyond_the_providers_memory_the_list_is_searched_and_nothing_made(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    mine = payment(gateway)
    gateway.charge(mine, None, 5)
    provider.pay()
    for _ in range(120):
        gateway.charge(payment(gateway), None, 5)
    wait(25 * 3600)
    before = provider.calls(CREATE)
    answer = gateway.lookup(mine, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED
    assert (provider.calls(CREATE), provider.calls(LIST)) == (before, 2 + 1)
    assert gateway.lookup(payment_of_another_day(mine), 5) is None
    assert provider.calls(CREATE) == before


def payment_of_another_day(mine: Payment) -> Payment:
    """As old, and never sent."""
    return replace(mine, key=str(uuid4()))


def test_a_request_held_back_for_a_day_can_make_nothing(
    provider: Provider, gateway: StripeGateway, wait: Callable[[float], None]
) -> None:
    made = payment(gateway)
    held = provider.fault(CREATE, "held")
    with pytest.raises(Unknown):
        gateway.charge(made, None, 0.2)
    wait(WINDOW + 2 * requests.SLACK + 1)
    assert gateway.lookup(made, 5) is None
    assert gateway.cancel(made, 5) == Answer(Outcome.CANCELED)
    held.go.set()
    while provider.calls(CREATE) > len(provider.state.keys) + 1:
        threading.Event().wait(0.01)
    assert provider.state.sessions == {}
    assert gateway.lookup(made, 5) is None


def test_cancel_fences_a_request_that_is_still_on_its_way(provider: Provider, gateway: StripeGateway) -> None:
    made = payment(gateway)
    held = provider.fault(CREATE, "held")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.charge, made, None, 10)
        assert held.reached.wait(5)
        assert gateway.cancel(made, 5).outcome is Outcome.CANCELED
        held.go.set()
        late = first.result()
    assert late.reference == provider.session["id"]
    assert (provider.session["status"], provider.pay()) == ("expired", "over")


def test_cancel_answers_with_what_won(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    provider.pay()
    assert gateway.cancel(made, 5).outcome is Outcome.SUCCEEDED
    assert len(provider.paid()) == 1


def test_paid_between_our_look_and_our_ending(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    held = provider.fault(CREATE + "/", "held")
    with ThreadPoolExecutor() as pool:
        giving_up = pool.submit(gateway.cancel, made, 10)
        assert held.reached.wait(5)
        assert provider.pay() == "paid"
        held.go.set()
        assert giving_up.result().outcome is Outcome.SUCCEEDED


def test_cancel_is_doubt_while_the_provider_does_not_end_it(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    for kind in ("fell", "busy", "unheard", "garbage"):
        provider.fault(CREATE + "/", kind)
        with pytest.raises(Unknown):
            gateway.cancel(made, 5)
    assert gateway.cancel(made, 5).outcome is Outcome.CANCELED


def test_declined_on_the_page_is_no_end(provider: Provider, gateway: StripeGateway) -> None:
    made = charged(gateway, payment(gateway))
    assert provider.pay(number=DECLINES) == "declined"
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.REQUIRES_ACTION
    assert provider.pay() == "paid"
    answer = gateway.lookup(made, 5)
    assert answer and answer.outcome is Outcome.SUCCEEDED


def test_an_amount_that_only_the_provider_knows_to_be_too_small(provider: Provider, gateway: StripeGateway) -> None:
    answer = gateway.charge(payment(gateway, amount=50, currency="ISK", lines=[]), None, 5)
    assert answer == Answer(Outcome.CANCELED, reason="amount_too_small")


@pytest.mark.parametrize(
    ("field", "value"),
    [("client_reference_id", "another"), ("amount_total", 1), ("amount_total", "4800"), ("amount_total", None),
     ("currency", "usd"), ("status", "odd"), ("payment_status", "odd"), ("url", None), ("url", "javascript:x"),
     ("id", None), ("status", {"a": 1})],
)  # fmt: skip
def test_answers_that_are_not_about_this_payment_are_doubt(
    provider: Provider, gateway: StripeGateway, field: str, value: object
) -> None:
    made = charged(gateway, payment(gateway))
    provider.session[field] = value
    with pytest.raises(Unknown):
        gateway.lookup(made, 5)


@pytest.mark.parametrize(
    "body", [b"[]", b'"x"', b"null", b"7", b"{}", b'{"id": 3}', b"\xff", b"[" * 10_000, b"{" + b" " * 5_000_000]
)
def test_answers_without_sense_are_doubt(provider: Provider, gateway: StripeGateway, body: bytes) -> None:
    made = charged(gateway, payment(gateway))
    fault = provider.fault("GET", "garbage")
    fault.body = body
    with pytest.raises(Unknown):
        gateway.lookup(made, 5)


def test_a_wrong_key_is_doubt_and_nobody_reads_it(provider: Provider) -> None:
    secret = "sk_test_" + "z" * 24
    wrong = StripeGateway(secret, window=WINDOW, api_base=provider.origin, page_origin=provider.origin)
    with pytest.raises(Unknown, match="401") as refusal:
        wrong.charge(payment(wrong), None, 5)
    assert secret not in repr(refusal.value) + str(refusal.value) + repr(refusal.value.__context__) + repr(wrong)


class TestRefunds:
    @pytest.fixture
    def paid(self, provider: Provider, gateway: StripeGateway) -> Payment:
        made = charged(gateway, payment(gateway))
        provider.pay()
        return made

    def test_a_refund_moves_money_once_a_key(self, provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
        part = Repayment(str(uuid4()), 1000, paid)
        assert gateway.lookup_refund(part, 5) is None
        first = gateway.refund(part, 5)
        assert first == gateway.refund(part, 5) == gateway.lookup_refund(part, 5)
        assert first.outcome is Outcome.SUCCEEDED
        assert [refund["amount"] for refund in provider.state.refunds.values()] == [1000]
        assert [(line.key, line.kind, line.amount) for line in gateway.statement()] == [
            (paid.key, "charge", 4800), (part.key, "refund", 1000)
        ]  # fmt: skip

    @pytest.mark.parametrize("kind", ["lost", "unheard", "fell", "fell_late", "busy", "in_use", "garbage"])
    def test_no_answer_is_doubt(
        self, provider: Provider, gateway: StripeGateway, paid: Payment, kind: str, wait: Callable[[float], None]
    ) -> None:
        all_ = Repayment(str(uuid4()), 4800, paid)
        provider.fault("POST /v1/refunds", kind)
        with pytest.raises(Unknown):
            gateway.refund(all_, 5)
        if kind == "fell":  # The failure is remembered for a day: until then nobody makes a second one.
            with pytest.raises(Unknown):
                gateway.refund(all_, 5)
            wait(25 * 3600)
        known = gateway.lookup_refund(all_, 5) or gateway.refund(all_, 5)
        assert known.outcome is Outcome.SUCCEEDED
        assert len(provider.state.refunds) == 1

    def test_what_the_provider_has_given_back_already_is_declined(
        self, provider: Provider, gateway: StripeGateway, paid: Payment
    ) -> None:
        provider.refund_by_hand(4000)
        assert gateway.refund(Repayment(str(uuid4()), 1000, paid), 5).outcome is Outcome.DECLINED
        assert gateway.refund(Repayment(str(uuid4()), 800, paid), 5).outcome is Outcome.SUCCEEDED
        assert gateway.refund(Repayment(str(uuid4()), 1, paid), 5).outcome is Outcome.DECLINED

    def test_a_refund_that_fails_or_waits(self, provider: Provider, gateway: StripeGateway, paid: Payment) -> None:
        provider.state.refund_status = "failed"
        failed = gateway.refund(Repayment(str(uuid4()), 1000, paid), 5)
        assert (failed.outcome, failed.reason) == (Outcome.DECLINED, "lost_or_stolen_card")
        provider.state.refund_status = "pending"
        waiting = Repayment(str(uuid4()), 1000, paid)
        for ask in (gateway.refund, gateway.lookup_refund):
            with pytest.raises(Unknown, match="pending"):
                ask(waiting, 5)
        for refund in provider.state.refunds.values():
            refund["status"] = "succeeded"
        answer = gateway.lookup_refund(waiting, 5)
        assert answer and answer.outcome is Outcome.SUCCEEDED

    def test_refunds_by_hand_have_a_key_of_their_own(
        self, provider: Provider, gateway: StripeGateway, paid: Payment
    ) -> None:
        ours = Repayment(str(uuid4()), 1000, paid)
        gateway.refund(ours, 5)
        by_hand = provider.refund_by_hand(300)
        found = {each.key: each for each in gateway.refunds_of(paid, 5)}
        assert (found.pop(ours.key).ours, len(found)) == (True, 1)
        (other,) = found.values()
        assert (other.ours, other.amount, other.reference) == (False, 300, by_hand["id"])
        assert {line.key for line in gateway.statement() if line.kind == "refund"} == {ours.key, other.key}


def test_the_statement_is_read_page_by_page(
    provider: Provider, gateway: StripeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    keys = []
    for _ in range(7):
        made = charged(gateway, payment(gateway))
        provider.pay(provider.state.sessions[str(made.reference)])
        keys.append(made.key)
    assert [line.key for line in gateway.statement()] == keys[::-1]
    assert provider.calls("GET /v1/charges") == 3
