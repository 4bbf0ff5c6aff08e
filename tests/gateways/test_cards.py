"""Card numbers: which are test cards, which are valid at all, and the part that may be stored."""

import pytest

from app.gateways.sandbox.cards import BY_NUMBER, CARDS, Behaviour, find_card, is_card_number, last_four, normalise


def test_every_behaviour_has_one_card() -> None:
    assert [card.behaviour for card in CARDS] == list(Behaviour)
    assert len(BY_NUMBER) == len(CARDS) == 10


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.behaviour)
def test_every_test_card_is_a_valid_card_number(card: object) -> None:
    assert is_card_number(card.number)  # type: ignore[attr-defined]
    assert find_card(card.number) is card  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "typed",
    ["4242424242424242", "4242 4242 4242 4242", "4242-4242-4242-4242", " 4242\u00a04242\u202f4242\u20114242\t"],
)
def test_a_number_is_found_with_any_separators(typed: str) -> None:
    found = find_card(typed)
    assert found and found.behaviour is Behaviour.APPROVES
    assert is_card_number(typed)
    assert last_four(typed) == "4242"


def test_another_valid_card_number_is_not_a_test_card() -> None:
    assert is_card_number("5555 5555 5555 4444")
    assert find_card("5555 5555 5555 4444") is None


@pytest.mark.parametrize(
    "wrong", ["", "4242", "4242 4242 4242 4243", "4242x42424242424", "٤٢٤٢٤٢٤٢٤٢٤٢٤٢٤٢", "0" * 20, "4" * 11, "²" * 16]
)
def test_an_invalid_card_number_is_refused(wrong: str) -> None:
    assert not is_card_number(wrong)
    assert find_card(wrong) is None


def test_normalise_keeps_characters_that_are_no_separators() -> None:
    assert normalise("4242/4242") == "4242/4242"
