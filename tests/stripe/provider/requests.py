"""How the stand-in answers each request, and what it stores for each idempotency key. It knows nothing of HTTP."""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.stripe.provider import payments, refunds
from tests.stripe.provider.state import KEY_LIFE, Object, Refusal, State, StoredKey


class Request(NamedTuple):
    """A request as it arrives. `key` is the idempotency key."""

    method: str
    path: str
    key: str
    params: Any


@dataclass
class Fault:
    """A fault of the next `times` requests whose "METHOD path " begins with `prefix`, after `spared` others.

    The kinds are:

    * not_received: the connection breaks before anything is done
    * answer_lost: the connection breaks after everything is done
    * not_heard: nothing is done, and the connection stays open without an answer until `go`
    * not_answered: everything is done, and the connection stays open without an answer until `go`
    * failed: status 500 before anything is done; stored for the key
    * failed_late: status 500 after everything is done; stored for the key
    * unavailable: status 503 before the key is read
    * unauthorized, forbidden: status 401, 403 before the key is read: a wrong or restricted secret key
    * rate_limited: status 429 before the key is read
    * in_use: status 409 before the key is read
    * wrong_key, forbidden, not_activated: status 401, 403 and 400 before the key is read, because of the account
    * garbage: status 200 with `body`
    * other_amount: status 200 with another amount
    * delayed: the request waits for `go` before it arrives
    * slow: the request waits for `go` after its key is in use

    `reached` is set when a request meets the fault.
    """

    prefix: str
    kind: str
    times: int = 1
    spared: int = 0
    body: bytes = b"<html>"
    go: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


Handler = Callable[..., Object]


def answer(state: State, request: Request, fault: Fault | None = None) -> tuple[int, Any, bool]:
    """Return the status, the body, and whether the answer was stored for the key by an earlier request.

    The key's first answer is stored, failures included. Raises Refusal.
    """
    handler, ids = _handler(request)
    if request.method != "POST":
        if fault and fault.kind.startswith("failed"):
            raise Refusal(500, "api_error", None, "An unknown error occurred")
        with state.lock:
            return 200, handler(state, request.params, *ids), False
    text = json.dumps([request.path, request.params], sort_keys=True)
    with state.lock:
        known = state.keys.get(request.key)
        if known and state.now() - known.at < KEY_LIFE:
            return *_stored_answer(known, text), True
        stored = state.keys[request.key] = StoredKey(text, state.now())
    if fault and fault.kind == "slow":
        assert fault.go.wait(30), "no test let the request go on"
    try:
        with state.lock:
            stored.answer = 200, _first_answer(lambda: handler(state, request.params, *ids), fault)
    except Refusal as refusal:
        if refusal.stored:
            stored.answer = refusal.status, refusal.body
        else:
            state.keys.pop(request.key, None)
        raise
    return *stored.answer, False


def _first_answer(work: Callable[[], Object], fault: Fault | None) -> Any:
    failure = Refusal(500, "api_error", None, "An unknown error occurred", stored=True)
    if fault and fault.kind == "failed":
        raise failure
    body = work()
    if fault and fault.kind == "failed_late":
        raise failure
    return json.loads(json.dumps(body))


def _stored_answer(known: StoredKey, text: str) -> tuple[int, Any]:
    if known.request != text:
        raise Refusal(400, "idempotency_error", None, "Keys can only be used with the parameters of their first use.")
    if known.answer is None:
        raise Refusal(409, "idempotency_error", "idempotency_key_in_use", "Another request uses this key.")
    return known.answer


def _handler(request: Request) -> tuple[Handler, tuple[str, ...]]:
    """Return the handler of the request and the ids in its path. Raises Refusal if there is none."""
    for method, path, handler in HANDLERS:
        if request.method == method and (found := re.fullmatch(path, request.path)):
            return handler, found.groups()
    raise Refusal(404, "invalid_request_error", None, f"Unrecognized request URL ({request.method}: {request.path})")


def _create_session(state: State, params: Any) -> Object:
    payments.check(state, params)
    return payments.create(state, params)


def _retrieve_session(state: State, params: Any, id_: str) -> Object:
    return _find(state, state.sessions, id_)


def _expire_session(state: State, params: Any, id_: str) -> Object:
    return payments.expire(state, _find(state, state.sessions, id_))


def _retrieve_intent(state: State, params: Any, id_: str) -> Object:
    return _find(state, state.intents, id_)


def _find(state: State, objects: dict[str, Object], id_: str) -> Object:
    state.expire_sessions()
    if id_ not in objects:
        raise Refusal(404, "invalid_request_error", "resource_missing", f"No such object: '{id_}'")
    return objects[id_]


def _list_sessions(state: State, params: Any) -> Object:
    return list_(state, "/v1/checkout/sessions", state.sessions, params)


def _list_endpoints(state: State, params: Any) -> Object:
    return list_(state, "/v1/webhook_endpoints", {each["id"]: each for each in state.endpoints}, params)


def _list_charges(state: State, params: Any) -> Object:
    return list_(state, "/v1/charges", state.charges, params)


def _list_refunds(state: State, params: Any) -> Object:
    return list_(state, "/v1/refunds", state.refunds, params)


def _list_disputes(state: State, params: Any) -> Object:
    return list_(state, "/v1/disputes", state.disputes, params)


HANDLERS: list[tuple[str, str, Handler]] = [
    ("POST", "/v1/checkout/sessions", _create_session),
    ("GET", "/v1/checkout/sessions", _list_sessions),
    ("GET", "/v1/checkout/sessions/([^/]+)", _retrieve_session),
    ("POST", "/v1/checkout/sessions/([^/]+)/expire", _expire_session),
    ("POST", "/v1/payment_intents", payments.pay_directly),
    ("GET", "/v1/payment_intents/([^/]+)", _retrieve_intent),
    ("GET", "/v1/webhook_endpoints", _list_endpoints),
    ("GET", "/v1/charges", _list_charges),
    ("POST", "/v1/refunds", refunds.create),
    ("GET", "/v1/refunds", _list_refunds),
    ("GET", "/v1/disputes", _list_disputes),
]


def list_(state: State, url: str, objects: dict[str, Object], params: Any) -> Object:
    """Return one page of the objects, the newest first."""
    state.expire_sessions()
    while state.later:
        state.later.pop()()
    if not 1 <= int(params.get("limit", 10)) <= 100:
        raise Refusal(400, "invalid_request_error", "parameter_invalid_integer", "limit must be from 1 to 100")
    created = params.get("created") or {}
    visible = state.now() - state.list_lag
    found = [
        each
        for each in reversed([each for each in objects.values() if "object" in each])
        if int(created.get("gte", 0)) <= each["created"] <= visible
        and each["created"] <= int(created.get("lte", 1 << 40))
        and params.get("payment_intent") in (None, each.get("payment_intent"))
    ]
    if after := params.get("starting_after"):
        found = found[[each["id"] for each in found].index(after) + 1 :]
    limit = int(params.get("limit", 10))
    return {"object": "list", "url": url, "has_more": len(found) > limit, "data": found[:limit]}


def nested(flat: Iterable[tuple[str, str]]) -> Any:
    """Convert form fields to nested objects: "a[b][0]=1" becomes {"a": {"b": ["1"]}}."""
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
