"""Ask: a definite answer, or doubt. "No answer" is never "declined", and "not sent" is said only of the first try."""

import pytest

from app.charges.protocol import ask
from app.gateways.base import Answer, Card, Deadline, Outcome, Payment, Unknown
from tests.charges.gateways import APPROVED, DECLINED, LOST, NOT_SENT, REFUSED, ScriptedGateway

PAYMENT = Payment("a-key", 2400, "EUR")
CARD = Card("4242424242424242", "12/49", "123")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.charges.protocol.ASK_PAUSE", 0.0)


def question(gateway: ScriptedGateway, seconds: float = 5) -> Answer:
    return ask(gateway, PAYMENT, CARD, Deadline(seconds))


@pytest.mark.parametrize("answer", [APPROVED, DECLINED, Answer(Outcome.CANCELED), Answer(Outcome.REQUIRES_ACTION)])
def test_a_definite_answer_is_taken_as_it_is(answer: Answer) -> None:
    gateway = ScriptedGateway(answer)
    assert question(gateway) == answer
    assert len(gateway.asked) == 1


def test_after_a_lost_answer_the_same_key_is_asked_again() -> None:
    gateway = ScriptedGateway(LOST, LOST, APPROVED)
    assert question(gateway) == APPROVED
    assert gateway.asked == [PAYMENT] * 3


def test_what_could_not_be_sent_took_nothing() -> None:
    assert question(ScriptedGateway(NOT_SENT)) == Answer(Outcome.CANCELED, reason="not_sent", this_request_only=True)


def test_not_sent_after_something_was_sent_is_doubt() -> None:
    gateway = ScriptedGateway(LOST, NOT_SENT, NOT_SENT)
    with pytest.raises(Unknown):
        question(gateway, 0.2)
    assert len(gateway.asked) > 2, "and it is asked again as long as there is time"


def test_the_truth_may_come_after_both() -> None:
    assert question(ScriptedGateway(LOST, NOT_SENT, DECLINED)) == DECLINED


def test_a_refusal_is_doubt_at_once() -> None:
    gateway = ScriptedGateway(REFUSED)
    with pytest.raises(Unknown):
        question(gateway)
    assert len(gateway.asked) == 1


def test_all_tries_together_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.charges.protocol.ASK_PAUSE", 0.01)
    gateway = ScriptedGateway(LOST)  # For ever.
    with pytest.raises(Unknown):
        question(gateway, 0.3)
    assert len(gateway.asked) > 1


def test_a_card_is_never_shown_by_accident() -> None:
    assert "4242" not in repr(CARD) + str(CARD) + f"{CARD}"
