"""The token: only this shop can make one, changed tokens are refused, and tokens never expire."""

import string
import time
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.charges.tokens import LONGEST, BadToken, Tokens, new_key, new_receipt_id
from tests.factories import SECRET

BUYER = UUID(int=7)
ORDER = uuid4()


def make(tokens: Tokens, **changes: object) -> str:
    values = {"order_random_id": ORDER, "version": 3, "buyer_id": BUYER, "amount": 4800, "currency": "EUR", **changes}
    return tokens.make(**values)  # type: ignore[arg-type]


def test_a_token_contains_what_it_was_made_for() -> None:
    token = Tokens(SECRET).read(make(Tokens(SECRET)))
    assert (token.order_random_id, token.version, token.buyer_id, token.amount, token.currency) == (
        ORDER,
        3,
        BUYER,
        4800,
        "EUR",
    )
    assert abs(token.issued - time.time()) < 60


def test_every_token_has_its_own_key() -> None:
    tokens = Tokens(SECRET)
    assert len({tokens.read(make(tokens)).key for _ in range(100)}) == 100


@given(position=st.floats(0, 1), length=st.integers(0, 5), other=st.text(st.characters(codec="utf-8"), max_size=5))
@settings(deadline=None)
def test_any_change_to_the_text_is_refused(position: float, length: int, other: str) -> None:
    tokens = Tokens(SECRET)
    text = make(tokens)
    start = round(position * len(text))
    changed = text[:start] + other + text[start + length :]
    if changed == text:
        return
    with pytest.raises(BadToken):
        tokens.read(changed)


def test_the_last_character_cannot_be_replaced() -> None:
    text = make(Tokens(SECRET))
    for last in string.ascii_letters + string.digits + "-_=.":
        if last != text[-1]:
            with pytest.raises(BadToken):
                Tokens(SECRET).read(text[:-1] + last)


@given(st.text(max_size=LONGEST + 10) | st.binary(max_size=300).map(lambda b: b.decode("latin-1")))
@settings(deadline=None)
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(BadToken):
        Tokens(SECRET).read(text)


@pytest.mark.parametrize("text", ["", ".", "..", "\x00", "é", "x" * 1_000_000, "e30.e30", "[]", "null.x.y"])
def test_unusual_texts_are_refused(text: str) -> None:
    with pytest.raises(BadToken):
        Tokens(SECRET).read(text)


def test_a_token_signed_with_another_secret_is_refused() -> None:
    with pytest.raises(BadToken):
        Tokens(SECRET).read(make(Tokens("the secret of another shop")))


def test_a_text_signed_for_another_purpose_is_refused() -> None:
    other = Tokens(SECRET)
    other._signer.salt = b"cookie-session"
    with pytest.raises(BadToken):
        Tokens(SECRET).read(make(other))


def test_tokens_signed_with_an_earlier_secret_are_read() -> None:
    old = make(Tokens("the secret of last year"))
    rotated = Tokens(SECRET, ["the secret of last year", "one that is older still"])
    assert rotated.read(old).order_random_id == ORDER
    assert Tokens(SECRET).read(make(rotated)).order_random_id == ORDER, "new tokens must be signed with the new secret"
    with pytest.raises(BadToken):
        Tokens("the secret of last year").read(make(rotated))


def test_tokens_never_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(SECRET)
    monkeypatch.setattr("app.charges.tokens.time", lambda: 0.0)
    old_token = make(tokens)
    monkeypatch.undo()
    assert tokens.read(old_token).issued == 0


def test_an_unknown_format_is_refused() -> None:
    tokens = Tokens(SECRET)
    later = tokens._signer.dumps([3, uuid4().hex, 12, 3, BUYER.hex, 4800, "EUR", 0])
    with pytest.raises(BadToken):
        tokens.read(str(later))


def test_a_token_of_the_earlier_format_is_read_without_its_order() -> None:
    key = uuid4()
    earlier = Tokens(SECRET)._signer.dumps([1, key.hex, 12, 3, BUYER.hex, 4800, "EUR", 0])
    token = Tokens(SECRET).read(str(earlier))
    assert (token.key, token.order_random_id, token.buyer_id) == (key, None, BUYER)


def test_new_keys_and_receipt_ids_are_sorted_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for make_id in (lambda: str(new_key()), new_receipt_id):
        made = []
        for second in range(0, 2_000_000_000, 100_000_000):
            monkeypatch.setattr("app.identifiers.time", lambda second=second: float(second))
            made.append(make_id())
        assert made == sorted(made)
        assert {len(each) for each in made} == {36}


def test_the_longest_token_is_well_below_the_limit() -> None:
    largest = make(Tokens(SECRET), version=2**63 - 1, amount=2**63 - 1)
    assert len(largest) < LONGEST / 2
