"""Settings that stop the start, each with one line, and the secrets, which appear nowhere."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stripe._api_version import _ApiVersion

from app import create_app
from app.gateways.base import Gateways, HostedPayment, NotPayable
from app.gateways.registry import from_settings
from app.gateways.stripe.gateway import VERSION, StripeGateway
from app.settings import Settings, SettingsError
from tests.factories import SECRET
from tests.shops import Shop
from tests.stripe.provider.server import Provider
from tests.stripe.test_paying import form_of, open_form

ROOT = Path(__file__).resolve().parents[2]
TEST_KEY, LIVE_KEY = "sk_test_" + "k" * 24, "sk_live_" + "k" * 24
HOOK = "whsec_" + "h" * 32
LIVE = {"STRIPE_SECRET_KEY": LIVE_KEY, "STRIPE_WEBHOOK_SECRET": HOOK, "TRUSTED_PROXIES": "10.0.0.1"}


def started(**environ: str) -> Gateways:
    """Return the gateways for these environment variables. Raises SettingsError."""
    given = {"SECRET_KEY": SECRET, "PAYMENT_GATEWAY": "stripe", "STRIPE_SECRET_KEY": TEST_KEY, **environ}
    return from_settings(Settings.from_environ(given))


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STRIPE_SECRET_KEY": ""}, "STRIPE_SECRET_KEY is not set"),
        ({"STRIPE_SECRET_KEY": "nonsense"}, "STRIPE_SECRET_KEY must be one secret key"),
        ({"STRIPE_SECRET_KEY": "pk_test_" + "k" * 24}, "STRIPE_SECRET_KEY must be one secret key"),
        ({"STRIPE_SECRET_KEY": f"{TEST_KEY},{LIVE_KEY}"}, "must not hold a test key together with a live one"),
        ({"STRIPE_SECRET_KEY": f"{LIVE_KEY} {TEST_KEY}"}, "must not hold a test key together with a live one"),
        ({**LIVE, "STRIPE_WEBHOOK_SECRET": ""}, "STRIPE_WEBHOOK_SECRET is not set"),
        ({**LIVE, "TRUSTED_PROXIES": ""}, "TRUSTED_PROXIES is not set, so shoppers would not use HTTPS"),
        ({**LIVE, "STRIPE_API_BASE": "http://127.0.0.1:1"}, "STRIPE_API_BASE is not Stripe's"),
        ({"STRIPE_API_BASE": "http://api.stripe.com"}, "STRIPE_API_BASE must begin with https://"),
        ({"STRIPE_API_BASE": "http://10.0.0.9"}, "STRIPE_API_BASE must begin with https://"),
        ({"STRIPE_WEBHOOK_SECRET": "secret"}, "STRIPE_WEBHOOK_SECRET must be the webhook's signing secret"),
        ({"STRIPE_WEBHOOK_SECRET": f"{HOOK},oops"}, "STRIPE_WEBHOOK_SECRET must be the webhook's signing secret"),
        ({"SHOP_CURRENCY": "IRR"}, "SHOP_CURRENCY IRR is not supported by Stripe"),
        ({"ACTION_WINDOW": "86400"}, "ACTION_WINDOW must be"),
    ],
)
def test_dangerous_settings_stop_the_start(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        started(**environ)
    line = str(refusal.value)
    assert message in line and "\n" not in line
    assert not any(secret in line for secret in (TEST_KEY, LIVE_KEY, HOOK, "oops"))


def test_valid_settings_choose_the_account_and_the_page() -> None:
    test, live = started(), started(**LIVE, STRIPE_API_BASE="")
    for gateways, account in ((test, "test"), (live, "live")):
        assert (gateways.current.name, gateways.current.account) == ("stripe", account)
        assert gateways.current.page_origin == "https://checkout.stripe.com"
    stand_in = started(STRIPE_API_BASE="http://localhost:8020").current
    assert stand_in.page_origin == "http://localhost:8020"


def test_both_gateways_are_known_if_both_are_configured() -> None:
    shop = started(PAYMENT_GATEWAY="sandbox")
    assert shop.current.name == "sandbox"
    assert shop.of("stripe", "test") is not None and shop.of("stripe", "live") is None
    assert {known.name for known in started()} == {"sandbox", "stripe"}
    assert started(PAYMENT_GATEWAY="sandbox", STRIPE_SECRET_KEY="").of("stripe", "test") is None


@pytest.mark.slow
def test_the_commands_print_the_reason() -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "SECRET_KEY": SECRET,
        "PAYMENT_GATEWAY": "stripe",
        **LIVE,
        "TRUSTED_PROXIES": "",
    }
    for words in (["flask", "--app", "wsgi", "db", "upgrade"], ["gunicorn", "--check-config", "wsgi:app"]):
        program = [sys.executable, "-m", *words]
        done = subprocess.run(program, cwd=ROOT, env=environ, capture_output=True, text=True)
        assert done.returncode
        assert "TRUSTED_PROXIES is not set" in done.stderr
        assert LIVE_KEY not in done.stderr + done.stdout


def test_a_live_shop_accepts_no_payment_over_http() -> None:
    """A shopper whose request did not come through the TLS proxy is refused before the claim."""
    gateway = started(**LIVE).current
    assert isinstance(gateway, StripeGateway) and gateway.live
    sale = HostedPayment("k", 5000, "EUR", 1, "o", "a@example.org", "http://shop.example/receipts/1", [])
    with pytest.raises(NotPayable, match="insecure"):
        gateway.prepare(sale)


def test_the_api_version_is_the_one_of_the_library() -> None:
    """If this fails after an upgrade of the library, read what has changed in the API, then change VERSION."""
    assert VERSION == _ApiVersion.CURRENT


class TestSecrets:
    SECRETS = (TEST_KEY, HOOK, SECRET, "db-password", "mail-password")

    def settings(self, **changes: Any) -> Settings:
        given = {
            "secret_key": SECRET, "payment_gateway": "stripe", "stripe_secret_key": TEST_KEY,
            "stripe_webhook_secret": (HOOK,), "database_url": "postgresql+psycopg2://u:db-password@h/d",
            "smtp_url": "smtp://u:mail-password@h",
        }  # fmt: skip
        return Settings(**(given | changes))

    def test_not_in_any_repr(self, tmp_path: Path) -> None:
        settings = self.settings()
        gateways = from_settings(settings)
        app = create_app(self.settings(database_url=f"sqlite:///{tmp_path}/x/shop.sqlite"))
        shown = " ".join(map(repr, (settings, gateways, gateways.current, app, app.extensions)))
        assert not [secret for secret in self.SECRETS if secret in shown]

    def test_not_in_logs_pages_or_storage(
        self, make_shop: Callable[..., Shop], provider: Provider, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """The provider refuses our secret key, and our own code fails. The key appears nowhere."""
        shop = make_shop(
            payment_gateway="stripe", stripe_secret_key=TEST_KEY, stripe_webhook_secret=(HOOK,),
            stripe_api_base=provider.origin, gateway_deadline=1.0,
        )  # fmt: skip
        shop.gateways.use_all(gateway := from_settings(shop.settings()))
        shopper = shop.shopper()
        refused = form_of(shopper).submit()
        assert (shop.charges(), "Invalid API Key" in shop.value("SELECT gateway_message FROM charge")) == (
            {"canceled": 1}, True
        )  # fmt: skip
        provider.fault("POST", "answer_lost", times=9)
        page = open_form(shopper).submit()
        assert shop.charges() == {"canceled": 1, "in_doubt": 1}

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("our own code failed")

        gateway.current.lookup = fail  # type: ignore[method-assign]
        shop.execute("UPDATE charge SET status = 'requires_action' WHERE status = 'in_doubt'")
        failed = shopper.open(page.url)
        assert failed.status == 500
        stored = str(shop.rows("SELECT * FROM charge"))
        logged = capfd.readouterr().err
        assert "charge_in_doubt" in logged
        seen = refused.response.text + page.response.text + failed.response.text + logged + stored
        assert not [secret for secret in (TEST_KEY, HOOK) if secret in seen]
