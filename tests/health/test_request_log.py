"""One line of the log per request, and one request id to follow a payment by: here, at the bank and in recovery."""

import json
import logging
import sys
from typing import Any

import httpx
import pytest

from app.logs import json_formatter
from tests.factories import MUG, fill_basket, ready_to_pay
from tests.recovery import recover
from tests.shops import Shop

TAKEN_WITHOUT_ANSWER = "4000 0000 0006 0055"


def finished(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"request_finished"' in line]


def test_every_request_has_one_line_without_secrets(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    shopper = shop.shopper()
    page = ready_to_pay(shopper).submit()
    for path in ("/?q=secret", "/nothing/secret", "/healthz", f"{page.path}.json", "/receipts/" + "0" * 36):
        shopper.client.get(path)
    shopper.post("/checkout", {"checkout_token": "broken"})
    log = capfd.readouterr().err
    seen = [json.loads(line) for line in log.splitlines() if '"request_finished"' in line]
    assert [(line["method"], line["route"], line["status"]) for line in seen[-6:]] == [
        ("GET", "/", 200),
        ("GET", None, 404),
        ("GET", "/healthz", 200),
        ("GET", "/receipts/<receipt_id:receipt_id>.json", 200),
        ("GET", "/receipts/<receipt_id:receipt_id>", 404),
        ("POST", "/checkout", 400),
    ]
    assert len(seen) == len({line["request_id"] for line in seen})
    assert all(line["duration_ms"] >= 0 for line in seen)
    assert seen[-1]["refusal"] == "bad_token"
    assert "secret" not in log
    assert page.path.rpartition("/")[2] not in log


def test_a_refusal_has_its_reason(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    shopper = shop.shopper()
    form = ready_to_pay(shopper)
    form.fill(email="nothing").post()
    fill_basket(shopper, MUG, 5)
    form.fill(email="ada@example.org").post()
    reasons = [line.get("refusal") for line in finished(capfd) if line["method"] == "POST"]
    assert [reason for reason in reasons if reason] == ["fields_invalid", "order_changed"]


def test_one_request_id_follows_a_payment(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    """From the request to the bank, and through recovery until the e-mail."""
    told: list[str] = []
    inner = httpx.WSGITransport(app=shop.bank)

    class Listening(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            told.append(request.headers.get("X-Request-Id", ""))
            return inner.handle_request(request)

    shop.use_transport(Listening())
    ready_to_pay(shop.shopper(), card_number=TAKEN_WITHOUT_ANSWER).submit()
    recover(shop)
    with shop.app.app_context():
        output = shop.app.test_cli_runner().invoke(args=["recover"]).output
    request_id = str(shop.value("SELECT request_id FROM charge"))
    assert told and set(told) == {request_id}
    log = capfd.readouterr().err + output
    followed = [json.loads(line)["event"] for line in log.splitlines() if request_id in line]
    assert followed == ["charge_in_doubt", "request_finished", "charge_succeeded", "email_sent"]


def test_lines_of_other_loggers_have_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    """gunicorn's, for example: with the traceback inside the object, and without card numbers."""
    logger, handler = logging.Logger("other"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(json_formatter())
    logger.addHandler(handler)
    try:
        raise ValueError("4242 4242 4242 4242")
    except ValueError:
        logger.exception("it failed: %s", "4242-4242-4242-4242")
    line = json.loads(capfd.readouterr().err)
    assert (line["event"], line["level"]) == ("it failed: [redacted]", "error")
    assert line["exception"].endswith("ValueError: [redacted]")
