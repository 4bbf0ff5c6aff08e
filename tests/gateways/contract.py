"""The gateways of the contract suite. A counterpart is a running gateway server, with its shopper and its records.

To add a gateway, add a class to COUNTERPARTS. The suite makes the client with the registry, as the shop does, and
calls the server over real HTTP. Tests can't use Stripe itself, so a stand-in server implements its API.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import httpx

from app.gateways import registry
from app.gateways.base import (
    Answer,
    Card,
    Gateway,
    HostedGateway,
    HostedPayment,
    Outcome,
    Payment,
    PaymentLine,
    RefundRequest,
)
from app.gateways.sandbox import client as sandbox
from app.gateways.sandbox.cards import Behaviour
from app.gateways.stripe import currencies, transport
from app.settings import Settings
from tests.factories import API_KEY, SHOP_ID
from tests.factories import SECRET as SHOP_SECRET
from tests.gateways.bank import card, running_bank
from tests.stripe.provider.server import Provider, running_provider, signed
from tests.stripe.provider.state import API_KEY as STRIPE_KEY
from tests.stripe.provider.state import APPROVES, DECLINES, SECRET

TIMEOUT = 20.0
"""Seconds for questions that get an answer: enough for a busy machine."""

RETURN_URL = "http://127.0.0.1:9/receipts/1"
AMOUNT = 48_210
DAYS = 2 * 86_400


class Counterpart(AbstractContextManager["Counterpart"]):
    """A running gateway. Tests can share it, because each payment has a key of its own."""

    name: ClassVar[str]
    """The value of PAYMENT_GATEWAY."""
    approves: ClassVar[Mapping[str, str]]
    declines: ClassVar[Mapping[str, str]]
    """The form fields that the shopper sends on the gateway's page."""
    decides_at_once: ClassVar[Mapping[Outcome, Card]] = {}
    """Cards that are decided without the shopper, by outcome. Empty if the gateway takes no cards from the shop."""
    largest_answer: ClassVar[int]

    origin: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._clients: dict[str, Gateway] = {}
        # All URLs are http, so loading the certificate authorities would only cost time.
        self._browser = self._stack.enter_context(httpx.Client(timeout=TIMEOUT, trust_env=False, verify=False))

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    @property
    def card(self) -> Card | None:
        """Return the card for a payment that waits for the shopper; None if the gateway's page asks for it."""
        return None

    def settings(self, origin: str) -> dict[str, Any]:
        """Return the settings for a shop that uses the gateway at this origin."""
        raise NotImplementedError

    def moved(self, *keys: str) -> list[tuple[str, int]]:
        """Return (kind, amount in our minor units) of each movement under these keys, from the gateway's records."""
        raise NotImplementedError

    def aged(self, payment: Payment) -> Payment:
        """Return the payment as if it had been claimed two days ago and never sent."""
        return payment

    def event(self, payment: Payment) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of the event for the paid payment, if the gateway sends events."""
        raise NotImplementedError

    def client(self, origin: str | None = None) -> Gateway:
        """Return the shop's client for this origin. The same client is returned again, with its open connections."""
        origin = origin or self.origin
        if origin not in self._clients:
            self._clients[origin] = self.new_client(origin)
        return self._clients[origin]

    def new_client(self, origin: str) -> Gateway:
        """Return a new client, made by the registry."""
        settings = Settings(secret_key=SHOP_SECRET, payment_gateway=self.name, shop_id=SHOP_ID, **self.settings(origin))
        return registry.from_settings(settings).current

    def payment(self, amount: int = AMOUNT, currency: str = "EUR") -> Payment:
        """Return a new payment as the claim stores it."""
        gateway, key = self.client(), str(uuid4())
        request = None
        if isinstance(gateway, HostedGateway):
            lines = [PaymentLine("Thing", 1, amount)]
            hosted = HostedPayment(key, amount, currency, 7, str(uuid4()), "ada@example.org", RETURN_URL, lines)
            request = json.loads(json.dumps(gateway.prepare(hosted)))
        return Payment(key, amount, currency, RETURN_URL, gateway_request=request)

    def waiting(self, **changes: Any) -> tuple[Payment, Answer]:
        """Return a payment that waits for its shopper, without its gateway reference, and the answer to its charge."""
        payment = self.payment(**changes)
        answer = self.client().charge(payment, self.card, TIMEOUT)
        assert answer.outcome is Outcome.REQUIRES_ACTION
        return payment, answer

    def paid(self, **changes: Any) -> Payment:
        """Return a payment that was paid, with its gateway reference."""
        payment, answer = self.waiting(**changes)
        assert self.decide(answer, self.approves)
        return replace(payment, gateway_reference=answer.gateway_reference)

    def decide(self, answer: Answer, decision: Mapping[str, str]) -> bool:
        """Send the shopper's decision to the gateway's page. Return whether it redirects to the shop."""
        assert answer.action_url
        response = self._browser.post(answer.action_url, data=decision)
        return response.headers.get("Location") == RETURN_URL


class SandboxBank(Counterpart):
    """The sandbox bank as a process of its own."""

    name = "sandbox"
    approves: ClassVar = {"decision": "confirm"}
    declines: ClassVar = {"decision": "refuse"}
    decides_at_once: ClassVar = {
        Outcome.SUCCEEDED: card(Behaviour.APPROVES), Outcome.DECLINED: card(Behaviour.DECLINES)
    }  # fmt: skip
    largest_answer = sandbox.LARGEST_ANSWER

    def __enter__(self) -> "SandboxBank":
        database_url = f"sqlite:///{self.folder}/private/bank.sqlite"
        self._bank = self._stack.enter_context(running_bank(database_url, self.folder))
        self.origin = self._bank.url
        return self

    @property
    def card(self) -> Card:
        return card(Behaviour.ASKS_SHOPPER)

    def settings(self, origin: str) -> dict[str, Any]:
        return {"sandbox_bank_url": origin, "sandbox_api_key": API_KEY}

    def moved(self, *keys: str) -> list[tuple[str, int]]:
        return self._bank.moved(*keys)


class Stripe(Counterpart):
    """The stand-in for Stripe, in threads of this process on a real socket."""

    name = "stripe"
    approves: ClassVar = {"number": APPROVES}
    declines: ClassVar = {"number": DECLINES}
    largest_answer = transport.LARGEST_ANSWER

    def __enter__(self) -> "Stripe":
        self._provider: Provider = self._stack.enter_context(running_provider())
        self.origin = self._provider.origin
        return self

    def settings(self, origin: str) -> dict[str, Any]:
        return {"stripe_secret_key": STRIPE_KEY, "stripe_webhook_secret": (SECRET,), "stripe_api_base": origin}

    def moved(self, *keys: str) -> list[tuple[str, int]]:
        state = self._provider.state
        with state.lock:
            charges = [each for each in state.charges.values() if each["metadata"].get("payonce_charge") in keys]
            refunds = [each for each in state.refunds.values() if each["metadata"].get("payonce_refund") in keys]
        movements = [("charge", each) for each in charges if each["paid"]]
        movements += [("refund", each) for each in refunds if each["status"] == "succeeded"]
        return [(kind, _our_amount(each["amount"], each["currency"])) for kind, each in movements]

    def aged(self, payment: Payment) -> Payment:
        request: dict[str, Any] = json.loads(json.dumps(payment.gateway_request))
        request["made"] -= DAYS
        request["params"]["expires_at"] -= DAYS
        return replace(payment, gateway_request=request)

    def event(self, payment: Payment) -> tuple[bytes, dict[str, str]]:
        events = (each for each in self._provider.state.events if each["type"] == "checkout.session.completed")
        return signed(next(each for each in events if each["data"]["object"]["client_reference_id"] == payment.key))


COUNTERPARTS: tuple[type[Counterpart], ...] = (SandboxBank, Stripe)
"""Every gateway of `app/gateways/registry.py`; the suite fails if one is missing."""


def part_of(payment: Payment, amount: int) -> RefundRequest:
    """Return a request to refund `amount` of the payment, under a new key."""
    return RefundRequest(str(uuid4()), amount, payment)


@contextmanager
def refusing_origin() -> Iterator[str]:
    """Yield an origin that refuses connections. Its port stays bound, so that no other process can listen there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _our_amount(amount: int, currency: str) -> int:
    return currencies.from_provider(amount, currency.upper())
