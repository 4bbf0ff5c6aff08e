"""The provider's answers: what it does with each question, and what its keys remember. It knows nothing of sockets."""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.stripe.provider import payments
from tests.stripe.provider.state import KEY_LIFE, Object, Refusal, Remembered, State


class Asked(NamedTuple):
    """A question as it arrives; `key` is the idempotency key."""

    method: str
    path: str
    key: str
    params: Any


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose "METHOD path " begins with `where`.

    unheard: the connection breaks before anything is done; lost: after; fell (before) and fell_late (after): a 500
    that the key remembers; away: a 503 before the key is looked at; busy: 429; in_use: 409; garbage: 200 without
    sense; other: 200 with another amount; held: waits for `go` on its way here; slow: waits for `go` here, its key
    in use.
    """

    where: str
    kind: str
    times: int = 1
    body: bytes = b"<html>"
    go: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


Handler = Callable[..., Object]


def answer(state: State, asked: Asked, fault: Fault | None = None) -> tuple[int, Any, bool]:
    """Status, body, and whether that is a memory: a key's first answer, or the same again, a failure just as well.

    Raises Refusal.
    """
    handler, names = _handler(asked)
    if asked.method != "POST":
        if fault and fault.kind.startswith("fell"):
            raise Refusal(500, "api_error", None, "An unknown error occurred")
        with state.lock:
            return 200, handler(state, asked.params, *names), False
    text = json.dumps([asked.path, asked.params], sort_keys=True)
    with state.lock:
        known = state.keys.get(asked.key)
        if known and state.now() - known.at < KEY_LIFE:
            return *_again(known, text), True
        mine = state.keys[asked.key] = Remembered(text, state.now())
    if fault and fault.kind == "slow":
        assert fault.go.wait(30), "nobody let the request go on"
    try:
        with state.lock:
            mine.answer = 200, _first(lambda: handler(state, asked.params, *names), fault)
    except Refusal as refusal:
        if refusal.kept:
            mine.answer = refusal.status, refusal.body
        else:
            state.keys.pop(asked.key, None)
        raise
    return *mine.answer, False


def _first(work: Callable[[], Object], fault: Fault | None) -> Any:
    fell = Refusal(500, "api_error", None, "An unknown error occurred", kept=True)
    if fault and fault.kind == "fell":
        raise fell
    body = work()
    if fault and fault.kind == "fell_late":
        raise fell
    return json.loads(json.dumps(body))


def _again(known: Remembered, text: str) -> tuple[int, Any]:
    if known.asked != text:
        raise Refusal(400, "idempotency_error", None, "Keys can only be used with the parameters of their first use.")
    if known.answer is None:
        raise Refusal(409, "idempotency_error", "idempotency_key_in_use", "Another request uses this key.")
    return known.answer


def _handler(asked: Asked) -> tuple[Handler, tuple[str, ...]]:
    """What answers it, and the names in its path."""
    for method, path, handler in HANDLERS:
        if asked.method == method and (found := re.fullmatch(path, asked.path)):
            return handler, found.groups()
    raise Refusal(404, "invalid_request_error", None, f"Unrecognized request URL ({asked.method}: {asked.path})")


def _make(state: State, params: Any) -> Object:
    payments.check(state, params)
    return payments.create(state, params)


def _session(state: State, params: Any, wanted: str) -> Object:
    return _one(state, state.sessions, wanted)


def _expire(state: State, params: Any, wanted: str) -> Object:
    return payments.expire(state, _one(state, state.sessions, wanted))


def _intent(state: State, params: Any, wanted: str) -> Object:
    return _one(state, state.intents, wanted)


def _one(state: State, objects: dict[str, Object], wanted: str) -> Object:
    state.age()
    if wanted not in objects:
        raise Refusal(404, "invalid_request_error", "resource_missing", f"No such object: '{wanted}'")
    return objects[wanted]


def _sessions(state: State, params: Any) -> Object:
    return list_(state, "/v1/checkout/sessions", state.sessions, params)


def _charges(state: State, params: Any) -> Object:
    return list_(state, "/v1/charges", state.charges, params)


def _refunds(state: State, params: Any) -> Object:
    return list_(state, "/v1/refunds", state.refunds, params)


HANDLERS: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/checkout/sessions", _make),
    ("GET", "/v1/checkout/sessions", _sessions),
    ("GET", "/v1/checkout/sessions/([^/]+)", _session),
    ("POST", "/v1/checkout/sessions/([^/]+)/expire", _expire),
    ("GET", "/v1/payment_intents/([^/]+)", _intent),
    ("GET", "/v1/charges", _charges),
    ("POST", "/v1/refunds", payments.refund),
    ("GET", "/v1/refunds", _refunds),
]


def list_(state: State, url: str, objects: dict[str, Object], params: Any) -> Object:
    """Newest first, a page of them."""
    state.age()
    created = params.get("created") or {}
    found = [
        each
        for each in reversed([each for each in objects.values() if "object" in each])
        if each["created"] >= int(created.get("gte", 0))
        and each["created"] <= int(created.get("lte", 1 << 40))
        and params.get("payment_intent") in (None, each.get("payment_intent"))
    ]
    if after := params.get("starting_after"):
        found = found[[each["id"] for each in found].index(after) + 1 :]
    limit = int(params.get("limit", 10))
    return {"object": "list", "url": url, "has_more": len(found) > limit, "data": found[:limit]}


def nested(flat: Iterable[tuple[str, str]]) -> Any:
    """ "a[b][0]=1" → {"a": {"b": ["1"]}}."""
    tree: dict[str, Any] = {}
    for name, value in flat:
        parts = re.findall(r"[^\[\]]+", name)
        branch = tree
        for part in parts[:-1]:
            branch = branch.setdefault(part, {})
        branch[parts[-1]] = value
    return _lists(tree)


def _lists(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdigit() for key in tree):
        return [_lists(tree[key]) for key in sorted(tree, key=int)]
    return {key: _lists(value) for key, value in tree.items()}
