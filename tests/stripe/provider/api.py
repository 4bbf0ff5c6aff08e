"""The provider's HTTP interface: authentication, form-encoded parameters, idempotency with its edges, lists, faults."""

import functools
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, g, request

from tests.stripe.provider import pages, payments
from tests.stripe.provider.state import API_KEY, KEY_LIFE, Object, Refusal, Remembered, State


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


def create_api(state: State, faults: list[Fault], asked: list[tuple[str, str, str, Any]]) -> Flask:
    """The application. `asked` takes a line for each request: method, path, key, parameters."""
    app = Flask(__name__)
    app.register_blueprint(pages.blueprint(state))

    def answer(handler: Callable[..., Any]) -> Callable[..., Response]:
        @functools.wraps(handler)
        def view(**path: str) -> Response:
            params = nested(request.form if request.method == "POST" else request.args)
            key = request.headers.get("Idempotency-Key", "")
            asked.append((request.method, request.path, key, params))
            fault = _next_fault(faults)
            try:
                _authenticate()
                if fault:
                    _before(fault)
                status, body = _remembered(state, key, params, path, handler, fault)
            except Refusal as refusal:
                status, body = refusal.status, refusal.body
            return _json(status, _after(fault, body) if fault else body)

        return view

    def of(objects: dict[str, Object], wanted: str) -> Object:
        state.age()
        if wanted not in objects:
            raise Refusal(404, "invalid_request_error", "resource_missing", f"No such object: '{wanted}'")
        return objects[wanted]

    def create_session(params: Any) -> Object:
        payments.check(state, params)
        return payments.create(state, params)

    rules: list[tuple[str, str, Callable[..., Any]]] = [
        ("POST", "/v1/checkout/sessions", create_session),
        ("GET", "/v1/checkout/sessions", lambda params: _list(state, state.sessions, params)),
        ("GET", "/v1/checkout/sessions/<wanted>", lambda params, wanted: of(state.sessions, wanted)),
        ("POST", "/v1/checkout/sessions/<wanted>/expire",
         lambda params, wanted: payments.expire(state, of(state.sessions, wanted))),
        ("GET", "/v1/payment_intents/<wanted>", lambda params, wanted: of(state.intents, wanted)),
        ("GET", "/v1/charges", lambda params: _list(state, state.charges, params)),
        ("POST", "/v1/refunds", lambda params: payments.refund(state, params)),
        ("GET", "/v1/refunds", lambda params: _list(state, state.refunds, params)),
    ]  # fmt: skip
    for number, (method, rule, handler) in enumerate(rules):
        app.add_url_rule(rule, f"api{number}", answer(handler), methods=[method])
    return app


def _authenticate() -> None:
    if request.headers.get("Authorization") != f"Bearer {API_KEY}":
        raise Refusal(401, "invalid_request_error", None, "Invalid API Key provided: sk_test_****")
    if not request.headers.get("Stripe-Version"):
        raise Refusal(400, "invalid_request_error", None, "no version")


def _next_fault(faults: list[Fault]) -> Fault | None:
    for fault in faults:
        if fault.times and f"{request.method} {request.path} ".startswith(fault.where):
            fault.times -= 1
            return fault
    return None


def _before(fault: Fault) -> None:
    fault.reached.set()
    match fault.kind:
        case "unheard":
            _break()
            raise Refusal(500, "api_error", None, "nobody reads this")
        case "away":
            raise Refusal(503, "api_error", None, "Come back later")
        case "busy":
            raise Refusal(429, "invalid_request_error", "rate_limit", "Too many requests")
        case "in_use":
            raise Refusal(409, "idempotency_error", "idempotency_key_in_use", "in use")
        case "held":
            assert fault.go.wait(30), "nobody let the request go on"


def _after(fault: Fault, body: Any) -> Any:
    """What is answered in place of `body`."""
    if fault.kind == "lost":
        _break()
    if fault.kind == "other":
        return _other_amount(body)
    return fault.body if fault.kind == "garbage" else body


def _other_amount(body: Any) -> Any:
    """One more than it is, in each object of a list too; the provider's own is left as it is."""
    body = body | {name: body[name] + 1 for name in ("amount", "amount_total") if name in body}
    return body | ({"data": [_other_amount(each) for each in body["data"]]} if "data" in body else {})


def _remembered(
    state: State, key: str, params: Any, path: dict[str, str], handler: Callable[..., Any], fault: Fault | None
) -> tuple[int, Any]:
    """The key's first answer, or the key's answer as it was: a failure just as well."""
    if request.method != "POST":
        if fault and fault.kind.startswith("fell"):
            raise Refusal(500, "api_error", None, "An unknown error occurred")
        with state.lock:
            return 200, handler(params, **path)
    text = json.dumps([request.path, params], sort_keys=True)
    with state.lock:
        known = state.keys.get(key)
        if known and state.now() - known.at < KEY_LIFE:
            return _again(known, text)
        mine = state.keys[key] = Remembered(text, state.now())
    if fault and fault.kind == "slow":
        assert fault.go.wait(30), "nobody let the request go on"
    try:
        with state.lock:
            mine.answer = _first(handler, params, path, fault)
    except Refusal as refusal:
        if refusal.kept:
            mine.answer = refusal.status, refusal.body
        else:
            state.keys.pop(key, None)
        raise
    return mine.answer


def _first(handler: Callable[..., Any], params: Any, path: dict[str, str], fault: Fault | None) -> tuple[int, Any]:
    fell = Refusal(500, "api_error", None, "An unknown error occurred", kept=True)
    if fault and fault.kind == "fell":
        raise fell
    body = handler(params, **path)
    if fault and fault.kind == "fell_late":
        raise fell
    return 200, json.loads(json.dumps(body))


def _again(known: Remembered, text: str) -> tuple[int, Any]:
    if known.asked != text:
        raise Refusal(400, "idempotency_error", None, "Keys can only be used with the parameters of their first use.")
    if known.answer is None:
        raise Refusal(409, "idempotency_error", "idempotency_key_in_use", "Another request uses this key.")
    g.replayed = True
    return known.answer


def _list(state: State, objects: dict[str, Object], params: Any) -> Object:
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
    return {"object": "list", "url": request.path, "has_more": len(found) > limit, "data": found[:limit]}


def _json(status: int, body: Any) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    replayed = {"Idempotent-Replayed": "true"} if g.get("replayed") else {}
    return Response(content, status, {"Request-Id": "req_test", **replayed}, content_type="application/json")


def _break() -> None:
    """The connection breaks: no answer will reach the shop."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


def nested(flat: Any) -> Any:
    """ "a[b][0]=1" → {"a": {"b": ["1"]}}."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
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
