"""The merchant's check of the real service: it passes where all is as we wrote it for, and names what is not."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.stripe import verify
from tests.stripe.provider import payments, questions
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY

CREATE = "POST /v1/checkout/sessions"


@pytest.fixture
def environ(provider: Provider) -> dict[str, str]:
    return {"STRIPE_SECRET_KEY": API_KEY, "STRIPE_API_BASE": provider.origin}


def test_all_holds_at_the_stand_in(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main(environ) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1)[1] for line in said if line.startswith("ok ")] == list(verify.CHECKS)
    assert provider.calls("GET /v1/checkout/sessions") > provider.calls("GET /v1/checkout/sessions/")
    assert (provider.session["status"], provider.paid()) == ("expired", [])


@pytest.mark.parametrize("currency", ["JPY", "HUF", "ISK", "KWD"])
def test_in_any_currency(environ: dict[str, str], currency: str) -> None:
    assert verify.main({**environ, "SHOP_CURRENCY": currency}) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"STRIPE_SECRET_KEY": "sk_live_" + "k" * 24},
        {"STRIPE_SECRET_KEY": "rk_live_" + "k" * 24},
        {"STRIPE_SECRET_KEY": f"{API_KEY},sk_live_" + "k" * 24},
        {"STRIPE_SECRET_KEY": ""},
        {"STRIPE_SECRET_KEY": "pk_test_" + "k" * 24},
    ],
)
def test_nothing_is_sent_without_a_test_key(
    provider: Provider, environ: dict[str, str], changes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main(environ | changes) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), provider.asked) == ("", 1, [])
    assert "STRIPE_SECRET_KEY" in said.err and "kkkk" not in said.err


@pytest.mark.parametrize(
    ("where", "kind", "named"),
    [
        (CREATE, "busy", "a session is made"),
        ("GET /v1/checkout/sessions/", "garbage", "it is found by its id"),
        (CREATE + "/", "fell", "it is ended"),
        ("GET /v1/charges", "unheard", "the account's statement is readable"),
    ],
)
def test_what_does_not_hold_is_named(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str], where: str, kind: str, named: str
) -> None:
    provider.fault(where, kind)
    assert verify.main(environ) == 1
    assert f"FAILED  {named}" in capsys.readouterr().out


def empty_list(*_: object) -> dict[str, Any]:
    return {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize(
    ("where", "name", "stand_in", "named"),
    [
        (questions, "KEY_LIFE", -1, "the same request under the same key brings it back: another session"),
        (questions, "KEY_LIFE", -1, "another request under the same key is refused: it was not refused"),
        (payments, "check", lambda *_: None, "a session of less than half an hour is refused: it was not refused"),
        (questions, "list_", empty_list, "the list shows it: the provider's list has no session for this key yet"),
    ],
)
def test_another_provider_than_was_written_for(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    where: object, name: str, stand_in: int | Callable[..., Any], named: str,
) -> None:  # fmt: skip
    """It forgets keys, takes any end, or shows no list; and whatever it made for it is ended all the same."""
    monkeypatch.setattr(verify, "PATIENCE", 0.0)
    monkeypatch.setattr(where, name, stand_in)
    assert verify.main(environ) == 1
    assert f"FAILED  {named}" in capsys.readouterr().out
    assert {session["status"] for session in provider.state.sessions.values()} == {"expired"}
