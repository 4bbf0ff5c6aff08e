"""The provider's HTTP interface: authentication, form-encoded parameters, and all that may go wrong on the way."""

import json
import socket
from typing import Any

from flask import Flask, Response, request

from tests.stripe.provider import pages
from tests.stripe.provider.questions import Asked, Fault, answer, nested
from tests.stripe.provider.state import API_KEY, Refusal, State


def create_api(state: State, faults: list[Fault], asked: list[Asked]) -> Flask:
    """The application. `asked` takes each question as it arrives."""
    app = Flask(__name__)
    app.register_blueprint(pages.blueprint(state))

    @app.route("/v1/<path:_rest>", methods=["GET", "POST"])
    def api(_rest: str) -> Response:
        params = nested((request.form if request.method == "POST" else request.args).items())
        question = Asked(request.method, request.path, request.headers.get("Idempotency-Key", ""), params)
        asked.append(question)
        fault = _next_fault(faults)
        try:
            _authenticate()
            if fault:
                _before(fault)
            status, body, replayed = answer(state, question, fault)
        except Refusal as refusal:
            status, body, replayed = refusal.status, refusal.body, False
        return _json(status, _after(fault, body) if fault else body, replayed)

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


def _json(status: int, body: Any, replayed: bool) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Request-Id": "req_test"} | ({"Idempotent-Replayed": "true"} if replayed else {})
    return Response(content, status, headers, content_type="application/json")


def _break() -> None:
    """The connection breaks: no answer will reach the shop."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
