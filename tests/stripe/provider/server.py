"""The provider on a socket of its own, in threads of this process."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from stripe import WebhookSignature
from werkzeug.serving import make_server

from tests.stripe.provider import payments
from tests.stripe.provider.api import create_api
from tests.stripe.provider.questions import Asked, Fault
from tests.stripe.provider.state import APPROVES, SECRET, Object, State

logging.getLogger("werkzeug").setLevel(logging.ERROR)


@dataclass
class Provider:
    """A running provider: its state, what goes wrong next, and what it was asked."""

    state: State = field(default_factory=State)
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return self.state.origin

    def fault(self, where: str, kind: str, times: int = 1) -> Fault:
        """Let this go wrong next."""
        made = Fault(where, kind, times)
        self.faults.append(made)
        return made

    def calls(self, what: str) -> int:
        """How many requests there were whose "METHOD path" begins so."""
        return sum(f"{method} {path}".startswith(what) for method, path, _, _ in self.asked)

    @property
    def session(self) -> Object:
        """The one session there is."""
        (only,) = self.state.sessions.values()
        return only

    def pay(self, session: Object | None = None, number: str = APPROVES) -> str:
        """The shopper types a card on the page."""
        return payments.pay(self.state, session or self.session, number)

    def paid(self) -> list[Object]:
        """Every charge that took money: the only truth about how often."""
        return [charge for charge in self.state.charges.values() if charge["paid"]]

    def refund_by_hand(self, amount: int) -> Object:
        """A refund in the provider's dashboard: it knows nothing of our keys."""
        (charge,) = self.paid()
        with self.state.lock:
            return payments.refund(self.state, {"payment_intent": charge["payment_intent"], "amount": amount})

    def event(self, kind: str) -> Object:
        """The latest event of this kind."""
        return next(event for event in reversed(self.state.events) if event["type"] == kind)


def signed(event: Object, secret: str = SECRET, at: int | None = None) -> tuple[bytes, dict[str, str]]:
    """An event's body and headers, as the provider sends them."""
    body = json.dumps(event, indent=2)
    header = WebhookSignature.generate_signature_header(body, secret, at)
    return body.encode(), {"Stripe-Signature": header, "Content-Type": "application/json; charset=utf-8"}


def deliver(client: httpx.Client, event: Object, secret: str = SECRET) -> int:
    """Send an event to the shop; the status of its answer."""
    body, headers = signed(event, secret)
    return client.post("/webhooks/stripe", content=body, headers=headers).status_code


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider on a free port."""
    provider = Provider()
    api = create_api(provider.state, provider.faults, provider.asked)
    server = make_server("127.0.0.1", 0, api, threaded=True)
    provider.state.origin = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        for fault in provider.faults:
            fault.go.set()
        server.shutdown()
        thread.join()
        server.server_close()
