"""The stand-in on a real socket, in threads of this process."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from stripe import WebhookSignature
from werkzeug.serving import make_server

from tests.stripe.provider import payments, refunds
from tests.stripe.provider.api import create_api
from tests.stripe.provider.requests import Fault, Request
from tests.stripe.provider.state import APPROVES, SECRET, Object, State

logging.getLogger("werkzeug").setLevel(logging.ERROR)


@dataclass
class Provider:
    """A running stand-in: its data, the faults of the next requests, and the requests that arrived."""

    state: State = field(default_factory=State)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Return the origin of the API and of the payment page."""
        return self.state.origin

    def fault(self, prefix: str, kind: str, times: int = 1, *, spared: int = 0) -> Fault:
        """Let the next `times` requests whose "METHOD path " begins with `prefix` meet this fault (see Fault)."""
        fault = Fault(prefix, kind, times, spared)
        self.faults.append(fault)
        return fault

    def calls(self, prefix: str) -> int:
        """Return the number of requests whose "METHOD path" begins with `prefix`."""
        return sum(f"{method} {path}".startswith(prefix) for method, path, _, _ in self.requests)

    @property
    def session(self) -> Object:
        """Return the only session."""
        (only,) = self.state.sessions.values()
        return only

    def pay(self, session: Object | None = None, number: str = APPROVES) -> str:
        """Pay on the session's page, as the shopper does. Return what `payments.pay` returns."""
        return payments.pay(self.state, session or self.session, number)

    def paid(self) -> list[Object]:
        """Return every charge that took money. Tests count these."""
        return [charge for charge in self.state.charges.values() if charge["paid"]]

    def refund_by_hand(self, amount: int) -> Object:
        """Refund the only payment without a key of ours, as a merchant does in the dashboard."""
        (charge,) = self.paid()
        with self.state.lock:
            return refunds.create(self.state, {"payment_intent": charge["payment_intent"], "amount": amount})

    def event(self, kind: str) -> Object:
        """Return the latest event of this kind."""
        return next(event for event in reversed(self.state.events) if event["type"] == kind)


def signed(event: Object, secret: str = SECRET, at: int | None = None) -> tuple[bytes, dict[str, str]]:
    """Return an event's body and headers, as the provider sends them. `at` is in seconds since 1970, UTC."""
    body = json.dumps(event, indent=2)
    header = WebhookSignature.generate_signature_header(body, secret, at)
    return body.encode(), {"Stripe-Signature": header, "Content-Type": "application/json; charset=utf-8"}


def deliver(client: httpx.Client, event: Object, secret: str = SECRET) -> int:
    """Send an event to the shop. Return the status of the answer."""
    body, headers = signed(event, secret)
    return client.post("/webhooks/stripe", content=body, headers=headers).status_code


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Run a stand-in on a free port."""
    provider = Provider()
    api = create_api(provider.state, provider.faults, provider.requests)
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
