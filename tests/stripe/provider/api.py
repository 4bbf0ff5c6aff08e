"""The stand-in's HTTP API: authentication, form-encoded parameters, and the faults of the connection."""

import json
import socket
from typing import Any

from flask import Flask, Response, request

from tests.stripe.provider import pages
from tests.stripe.provider.requests import Fault, Request, answer, nested
from tests.stripe.provider.state import API_KEY, Refusal, State, invalid


def create_api(state: State, faults: list[Fault], requests: list[Request]) -> Flask:
    """Return the application. It appends each request to `requests` as it arrives."""
    app = Flask(__name__)
    app.register_blueprint(pages.blueprint(state))

    @app.route("/v1/<path:_rest>", methods=["GET", "POST"])
    def api(_rest: str) -> Response:
        params = nested((request.form if request.method == "POST" else request.args).items())
        received = Request(request.method, request.path, request.headers.get("Idempotency-Key", ""), params)
        requests.append(received)
        fault = _next_fault(faults)
        try:
            _authenticate()
            if fault:
                _fail_before(fault)
            status, body, replayed = answer(state, received, fault)
        except Refusal as refusal:
            status, body, replayed = refusal.status, refusal.body, False
        return _json(status, _fail_after(fault, body) if fault else body, replayed)

    return app


def _authenticate() -> None:
    if request.headers.get("Authorization") != f"Bearer {API_KEY}":
        raise Refusal(401, "invalid_request_error", None, "Invalid API Key provided: sk_test_****")
    if not request.headers.get("Stripe-Version"):
        raise Refusal(400, "invalid_request_error", None, "no version")


def _next_fault(faults: list[Fault]) -> Fault | None:
    for fault in faults:
        if fault.times and f"{request.method} {request.path} ".startswith(fault.prefix):
            if fault.spared:
                fault.spared -= 1
                continue
            fault.times -= 1
            return fault
    return None


def _fail_before(fault: Fault) -> None:
    """Do what the fault does before the request is processed. Raises Refusal."""
    fault.reached.set()
    match fault.kind:
        case "not_received":
            _break_connection()
            raise Refusal(500, "api_error", None, "not sent, the connection is broken")
        case "not_heard":
            fault.go.wait(30)
            raise Refusal(500, "api_error", None, "not heard, the client has gone")
        case "unavailable":
            raise Refusal(503, "api_error", None, "Come back later")
        case "unauthorized":
            raise Refusal(401, "invalid_request_error", None, "Invalid API Key provided: sk_test_****")
        case "forbidden":
            raise Refusal(403, "invalid_request_error", None, "The provided key does not have the permissions.")
        case "rate_limited":
            raise Refusal(429, "invalid_request_error", "rate_limit", "Too many requests")
        case "in_use":
            raise Refusal(409, "idempotency_error", "idempotency_key_in_use", "in use")
        case "wrong_key":
            raise Refusal(401, "invalid_request_error", None, "Invalid API Key provided: sk_test_****")
        case "forbidden":
            raise Refusal(403, "invalid_request_error", "more_permissions_required", "ask ada@example.org for more")
        case "not_activated":
            raise invalid(None, "You must set an account name before you use Checkout.")
        case "delayed":
            assert fault.go.wait(30), "no test let the request go on"


def _fail_after(fault: Fault, body: Any) -> Any:
    """Return the body that the fault sends instead of `body`."""
    if fault.kind == "answer_lost":
        _break_connection()
    if fault.kind == "not_answered":
        fault.go.wait(30)
    if fault.kind == "other_amount":
        return _other_amount(body)
    return fault.body if fault.kind == "garbage" else body


def _other_amount(body: Any) -> Any:
    """Return a copy of the object in which every amount is larger by one, in the items of a list too."""
    body = body | {name: body[name] + 1 for name in ("amount", "amount_total") if name in body}
    return body | ({"data": [_other_amount(each) for each in body["data"]]} if "data" in body else {})


def _json(status: int, body: Any, replayed: bool) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Request-Id": "req_test"} | ({"Idempotent-Replayed": "true"} if replayed else {})
    return Response(content, status, headers, content_type="application/json")


def _break_connection() -> None:
    """Close the connection, so that no answer reaches the shop."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
