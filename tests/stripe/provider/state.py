"""What the provider knows: sessions, payments, refunds, events, the keys it remembers, and a clock of its own."""

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

API_KEY = "sk_test_" + "a" * 24
SECRET = "whsec_" + "b" * 32
KEY_LIFE = 24 * 3600

APPROVES = "4242424242424242"
DECLINES = "4000000000000002"
ASKS = "4000002500003155"

Object = dict[str, Any]


class Refusal(Exception):
    """An error answer. `kept`: the request had begun, so that the answer is remembered for its key."""

    def __init__(self, status: int, kind: str, code: str | None, message: str, *, kept: bool = False) -> None:
        super().__init__(message)
        self.status, self.kept = status, kept
        self.body = {"error": {"type": kind, "message": message} | ({"code": code} if code else {})}


def invalid(code: str | None, message: str, *, kept: bool = False) -> Refusal:
    return Refusal(400, "invalid_request_error", code, message, kept=kept)


@dataclass
class Remembered:
    """A key: what was asked under it, when, and the answer (None while it is being worked out)."""

    asked: str
    at: float
    answer: tuple[int, Any] | None = None


@dataclass
class State:
    """Everything, behind one lock. `ahead` moves the provider's clock (seconds)."""

    origin: str = ""
    ahead: float = 0.0
    sessions: dict[str, Object] = field(default_factory=dict)
    intents: dict[str, Object] = field(default_factory=dict)
    charges: dict[str, Object] = field(default_factory=dict)
    refunds: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    keys: dict[str, Remembered] = field(default_factory=dict)
    listeners: list[Callable[[Object], None]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    refund_status: str = "succeeded"
    """What becomes of new refunds."""

    def now(self) -> int:
        return int(time.time() + self.ahead)

    def name(self, prefix: str) -> str:
        """For a new object."""
        return f"{prefix}_{uuid4().hex}"

    def tell(self, kind: str, about: Object) -> None:
        """An event, with the object as it is at this moment."""
        event = {
            "id": self.name("evt"), "object": "event", "api_version": "2026-10-28.endive", "created": self.now(),
            "data": {"object": copy.deepcopy(about)}, "livemode": False, "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None}, "type": kind,
        }  # fmt: skip
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def age(self) -> None:
        """Sessions end by themselves when their time is over."""
        for session in self.sessions.values():
            if session["status"] == "open" and self.now() >= session["expires_at"]:
                self.end(session)

    def end(self, session: Object) -> None:
        session["status"], session["url"] = "expired", None
        if intent := self.intents.get(session["payment_intent"] or ""):
            intent["status"] = "canceled"
        self.tell("checkout.session.expired", session)
