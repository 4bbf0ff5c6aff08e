"""What the gateways know of the charges in an old database. Nothing here depends on a version of the database.

The sandbox bank runs in this process with its own storage; Stripe is the stand-in of tests/stripe on a real socket.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from app.gateways import registry
from app.gateways.base import Answer, Card, Payment, RefundRequest, StatementEntry
from tests.factories import APPROVES, ASKS_SHOPPER
from tests.shops import BANK, Shop
from tests.stripe.provider.server import Provider, running_provider
from tests.stripe.provider.state import API_KEY, SECRET

TIMEOUT = 20.0


class World:
    """A shop over an old database, and both gateways that its charges were made at."""

    def __init__(self, shop: Shop, provider: Provider) -> None:
        self.shop, self.provider = shop, provider
        stripe = registry.from_settings(shop.settings()).of("stripe", "test")
        assert stripe
        self.stripe = stripe
        shop.gateways.use(shop.gateway, stripe)

    def ask_bank(self, key: UUID, amount: int, return_url: str, *, card: str = APPROVES) -> Answer:
        """Make a charge at the sandbox bank."""
        payment = Payment(str(key), amount, "EUR", return_url)
        return self.shop.gateway.charge(payment, Card(card, "12/49", "123"), TIMEOUT)

    def wait_at_bank(self, key: UUID, amount: int, return_url: str, *, confirmed: bool = False) -> str:
        """Make a charge that needs the shopper. Return the address of the bank's page, where it may be confirmed."""
        page = self.ask_bank(key, amount, return_url, card=ASKS_SHOPPER).action_url
        assert page
        if confirmed:
            self.shop.bank.test_client().post(urlsplit(page).path, base_url=BANK, data={"decision": "confirm"})
        return page

    def refund_at_bank(self, key: UUID, amount: int, charge_key: UUID, charged: int) -> None:
        """Refund a part of a charge at the sandbox bank."""
        self.shop.gateway.refund(RefundRequest(str(key), amount, Payment(str(charge_key), charged, "EUR")), TIMEOUT)

    def open_session(self, key: UUID, amount: int, request: dict[str, Any], *, paid: bool = False) -> Answer:
        """Send a stored request to Stripe's stand-in. Return its answer; `paid`: the shopper has paid since."""
        answer = self.stripe.charge(Payment(str(key), amount, "EUR", gateway_request=request), None, TIMEOUT)
        if paid:
            assert self.provider.pay(self.provider.state.sessions[str(answer.gateway_reference)]) == "paid"
        return answer

    def statement(self) -> list[StatementEntry]:
        """Return both statements as the shop reads them."""
        return [entry for gateway in self.shop.gateways for entry in gateway.statement()]

    def browser(self, buyer_id: UUID) -> httpx.Client:
        """Return the buyer's browser, with the cookie that it has had since before the upgrade."""
        interface: Any = self.shop.app.session_interface
        cookie = interface.get_signing_serializer(self.shop.app).dumps({"buyer": buyer_id.hex})
        client = self.shop.shopper().client
        client.cookies.set("payonce", cookie, domain="127.0.0.1")
        return client

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command of `flask --app wsgi`. Return its exit code and output. Raises what the command raises."""
        with self.shop.app.app_context():  # The program `flask` pushes one before it runs a command.
            done = self.shop.app.test_cli_runner().invoke(args=list(command), catch_exceptions=False)
        return done.exit_code, done.output

    def audit(self) -> dict[str, Any]:
        """Return the report of `flask --app wsgi audit --json`."""
        report: dict[str, Any] = json.loads(self.run("audit", "--json")[1])
        return report


@contextmanager
def world(database_url: str, folder: Path) -> Iterator[World]:
    """Yield a shop over this database, in any state, and its gateways."""
    with running_provider() as provider:
        shop = Shop(
            database_url, folder,
            {"stripe_secret_key": API_KEY, "stripe_webhook_secret": (SECRET,), "stripe_api_base": provider.origin,
             "mail_folder": f"{folder}/outbox"},
        )  # fmt: skip
        try:
            yield World(shop, provider)
        finally:
            shop.close()
