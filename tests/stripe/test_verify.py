"""The command that checks Stripe itself: it passes at the stand-in, and it names each check that fails."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.policies.sources import ROOT
from tests.stripe import verify, verify_payments
from tests.stripe.provider import payments, requests
from tests.stripe.provider.server import Provider
from tests.stripe.provider.state import API_KEY

pytestmark = pytest.mark.slow

CREATE = "POST /v1/checkout/sessions"


@pytest.fixture
def environ(provider: Provider) -> dict[str, str]:
    return {"STRIPE_SECRET_KEY": API_KEY, "STRIPE_API_BASE": provider.origin}


def test_all_checks_pass_at_the_stand_in(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main(environ) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(None, 1)[1] for line in lines if line.startswith("ok ")] == list(verify.CHECKS)
    assert provider.calls("GET /v1/checkout/sessions") > provider.calls("GET /v1/checkout/sessions/")
    assert (provider.session["status"], provider.session["payment_intent"]) == ("expired", None)
    assert {charge["metadata"]["payonce_shop"] for charge in provider.paid()} == {"verify"}


def endpoint(url: str, *events: str) -> dict[str, Any]:
    """Return a webhook endpoint of the account."""
    return {
        "id": f"we_{url[-6:]}", "object": "webhook_endpoint", "url": url, "enabled_events": list(events),
        "status": "enabled", "created": 0,
    }  # fmt: skip


def test_a_webhook_endpoint_that_lacks_an_event_is_named(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    provider.state.endpoints = [
        endpoint("https://shop.example/webhooks/stripe", *(verify_payments.NEEDED - {"refund.failed"})),
        endpoint("https://shop.example/of-another-program", "invoice.paid"),
    ]
    assert verify.main(environ) == 1
    guide = (ROOT / "docs" / "go-live-with-stripe.md").read_text()
    assert [kind for kind in verify_payments.NEEDED if f"`{kind}`" not in guide] == []
    printed = capsys.readouterr().out
    assert "https://shop.example/webhooks/stripe does not receive refund.failed" in printed
    provider.state.endpoints[0]["enabled_events"] = ["*"]
    assert verify.main(environ) == 0
    assert "another-program" not in printed + capsys.readouterr().out


@pytest.mark.parametrize("currency", ["JPY", "HUF", "ISK", "KWD"])
def test_all_checks_pass_in_any_currency(environ: dict[str, str], currency: str) -> None:
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
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n"), provider.requests) == ("", 1, [])
    assert "STRIPE_SECRET_KEY" in printed.err and "kkkk" not in printed.err


@pytest.mark.parametrize(
    ("prefix", "kind", "named"),
    [
        (CREATE, "rate_limited", "a session of the longest duration is created"),
        ("GET /v1/checkout/sessions/", "garbage", "the session is found by its id"),
        (CREATE + "/", "failed", "the session is ended"),
        ("GET /v1/charges", "not_received", "the account's statement is readable"),
    ],
)
def test_a_failed_check_is_named(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str], prefix: str, kind: str, named: str
) -> None:
    provider.fault(prefix, kind)
    assert verify.main(environ) == 1
    assert f"FAILED  {named}" in capsys.readouterr().out


def empty_list(*_: object) -> dict[str, Any]:
    return {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize(
    ("module", "name", "replacement", "named"),
    [
        (requests, "KEY_LIFE", -1, "the same request under the same key returns the same session: another session"),
        (requests, "KEY_LIFE", -1, "another request under the same key is refused: it was not refused"),
        (payments, "check", lambda *_: None, "a session of less than half an hour is refused: it was not refused"),
        (
            requests,
            "list_",
            empty_list,
            "the session is found in the list: the provider's list has no session for this key yet",
        ),
    ],
)
def test_a_provider_that_behaves_differently_fails_the_check(
    provider: Provider, environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    module: object, name: str, replacement: int | Callable[..., Any], named: str,
) -> None:  # fmt: skip
    """It forgets keys, accepts any end, or lists no sessions. Every session that was created is ended all the same."""
    for name_, in_ in (("PATIENCE", verify), ("PATIENCE", verify_payments), ("LATE", verify_payments)):
        monkeypatch.setattr(in_, name_, 0.0)
    monkeypatch.setattr(module, name, replacement)
    assert verify.main(environ) == 1
    assert f"FAILED  {named}" in capsys.readouterr().out
    assert {session["status"] for session in provider.state.sessions.values()} == {"expired"}
