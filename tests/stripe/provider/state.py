"""The stand-in's data: sessions, payments, refunds, disputes, events and idempotency keys, and its clock."""

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
"""Seconds that an idempotency key is stored."""

APPROVES = "4242424242424242"
DECLINES = "4000000000000002"
ASKS = "4000002500003155"

Object = dict[str, Any]


class Refusal(Exception):
    """An error answer. `stored` is true if the request had begun, so that the answer is stored for its key."""

    def __init__(self, status: int, kind: str, code: str | None, message: str, *, stored: bool = False) -> None:
        super().__init__(message)
        self.status, self.stored = status, stored
        self.body = {"error": {"type": kind, "message": message} | ({"code": code} if code else {})}


def invalid(code: str | None, message: str, *, stored: bool = False) -> Refusal:
    """Return the error answer to an invalid request."""
    return Refusal(400, "invalid_request_error", code, message, stored=stored)


@dataclass
class StoredKey:
    """The first request under an idempotency key, its time, and its answer (None while the request runs)."""

    request: str
    at: float
    answer: tuple[int, Any] | None = None


@dataclass
class State:
    """All data of the stand-in, protected by one lock. Its clock is `ahead` seconds ahead of the real one."""

    origin: str = ""
    ahead: float = 0.0
    sessions: dict[str, Object] = field(default_factory=dict)
    intents: dict[str, Object] = field(default_factory=dict)
    charges: dict[str, Object] = field(default_factory=dict)
    refunds: dict[str, Object] = field(default_factory=dict)
    disputes: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    keys: dict[str, StoredKey] = field(default_factory=dict)
    listeners: list[Callable[[Object], None]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    later: list[Callable[[], None]] = field(default_factory=list)
    """What happens by itself before the next list is read, such as a refund that fails."""
    endpoints: list[Object] = field(default_factory=list)
    """The account's webhook endpoints."""
    list_lag: int = 0
    """Seconds until a new object appears in lists."""
    refund_status: str = "succeeded"
    """The status of new refunds."""
    refund_refused_for: str | None = None
    """The code of the error that refuses every new refund, such as "balance_insufficient"."""

    def now(self) -> int:
        """Return the time in seconds since 1970, UTC."""
        return int(time.time() + self.ahead)

    def new_id(self, prefix: str) -> str:
        """Return an id for a new object."""
        return f"{prefix}_{uuid4().hex}"

    def add_event(self, kind: str, about: Object) -> None:
        """Add an event that contains the object as it is at this moment."""
        event = {
            "id": self.new_id("evt"), "object": "event", "api_version": "2026-10-28.endive", "created": self.now(),
            "data": {"object": copy.deepcopy(about)}, "livemode": False, "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None}, "type": kind,
        }  # fmt: skip
        self.events.append(event)
        for listener in self.listeners:
            listener(event)

    def expire_sessions(self) -> None:
        """Expire every open session whose time is over."""
        for session in self.sessions.values():
            if session["status"] == "open" and self.now() >= session["expires_at"]:
                self.expire(session)

    def expire(self, session: Object) -> None:
        """Expire the session, so that nobody can pay on its page."""
        session["status"], session["url"] = "expired", None
        if intent := self.intents.get(session["payment_intent"] or ""):
            intent["status"] = "canceled"
        self.add_event("checkout.session.expired", session)
