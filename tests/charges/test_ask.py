"""Ask: `ask` returns a definite answer or raises Unknown.

A missing answer never becomes "declined", and "not sent" proves that nothing was taken only on the first try.
"""

import pytest

from app.charges.protocol import ask
from app.gateways.base import Answer, Card, Deadline, Outcome, Payment, Unknown
from tests.charges.gateways import APPROVED, DECLINED, LOST, NO_USE, NOT_SENT, REFUSED, ScriptedGateway

PAYMENT = Payment("a-key", 2400, "EUR")
CARD = Card("4242424242424242", "12/49", "123")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.charges.protocol.ASK_PAUSE", 0.0)


def call_ask(gateway: ScriptedGateway, seconds: float = 5) -> Answer:
    return ask(gateway, PAYMENT, CARD, Deadline(seconds))


@pytest.mark.parametrize("answer", [APPROVED, DECLINED, Answer(Outcome.CANCELED), Answer(Outcome.REQUIRES_ACTION)])
def test_a_definite_answer_is_returned_unchanged(answer: Answer) -> None:
    gateway = ScriptedGateway(answer)
    assert call_ask(gateway) == answer
    assert len(gateway.asked) == 1


def test_after_a_lost_answer_the_same_key_is_asked_again() -> None:
    gateway = ScriptedGateway(LOST, LOST, APPROVED)
    assert call_ask(gateway) == APPROVED
    assert gateway.asked == [PAYMENT] * 3


def test_a_payment_that_could_not_be_sent_is_canceled() -> None:
    assert call_ask(ScriptedGateway(NOT_SENT)) == Answer(Outcome.CANCELED, reason="not_sent", this_request_only=True)


def test_not_sent_after_a_lost_answer_is_in_doubt() -> None:
    gateway = ScriptedGateway(LOST, NOT_SENT, NOT_SENT)
    with pytest.raises(Unknown):
        call_ask(gateway, 0.2)
    assert len(gateway.asked) > 2, "it must ask again until the deadline"


def test_a_definite_answer_after_lost_and_unsent_tries_is_returned() -> None:
    assert call_ask(ScriptedGateway(LOST, NOT_SENT, DECLINED)) == DECLINED


def test_a_refusal_of_the_first_try_is_definite() -> None:
    assert call_ask(ScriptedGateway(REFUSED)) == REFUSED


def test_a_refusal_after_a_lost_answer_is_in_doubt() -> None:
    """The gateway may not store a refusal for the key, so the first try may have taken money, or may still do so."""
    gateway = ScriptedGateway(LOST, REFUSED, REFUSED)
    with pytest.raises(Unknown, match="an earlier one got no answer"):
        call_ask(gateway)
    assert len(gateway.asked) == 2


def test_a_failure_that_the_gateway_repeats_is_in_doubt_without_another_try() -> None:
    gateway = ScriptedGateway(NO_USE)
    with pytest.raises(Unknown):
        call_ask(gateway)
    assert len(gateway.asked) == 1


def test_all_tries_together_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.charges.protocol.ASK_PAUSE", 0.01)
    gateway = ScriptedGateway(LOST)
    with pytest.raises(Unknown):
        call_ask(gateway, 0.3)
    assert len(gateway.asked) > 1


def test_the_text_of_a_card_never_contains_its_number() -> None:
    assert "4242" not in repr(CARD) + str(CARD) + f"{CARD}"
