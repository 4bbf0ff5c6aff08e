"""The client for the sandbox bank. Every question returns a definite answer, or raises NotSent or Unknown.

An answer is definite only if it is an explicit outcome for this key with the same amount and currency. The client
never retries: the protocol does, within its deadline.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from app.gateways.base import (
    Answer,
    Card,
    Contradiction,
    NotSent,
    Outcome,
    Payment,
    RefundRequest,
    StatementEntry,
    Unknown,
)
from app.gateways.http import NEVER_SENT, Clients, deadline, gateway_errors, read_bounded
from app.gateways.questions import question
from app.gateways.sandbox.cards import find_card

LARGEST_ANSWER = 64 * 1024
"""Bytes. A real answer has about 300."""

STATEMENT_TIMEOUT = 30.0
"""Seconds without a single byte after which reading the statement fails."""

BANK = "the bank"

REFUSALS = frozenset({400, 401, 403})
"""HTTP statuses of requests that the bank refuses: invalid, wrong key, or not permitted. It has done nothing."""


class SandboxGateway:
    """The gateway for the account of `api_key` at the bank at `bank_url`. Thread-safe and fork-safe.

    `shop` is the name on the bank's page, `shop_id` marks our payments on the statement.
    """

    name = "sandbox"
    takes_cards = True

    def __init__(
        self, bank_url: str, api_key: str, *, shop: str = "", shop_id: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        parts = urlsplit(bank_url)
        self.page_origin: str | None = f"{parts.scheme}://{parts.netloc}"
        # It does not depend on the URL, because a bank that moves keeps its charges, and it does not reveal the key.
        self.account = f"sandbox-{sha256(api_key.encode()).hexdigest()[:12]}"
        self._shop, self._shop_id = shop, shop_id or None
        self._clients = Clients(transport, base_url=self.page_origin, headers={"Authorization": f"Bearer {api_key}"})

    @question
    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Charge the card. Raises ValueError before anything is sent if it is not a test card."""
        if card is None or find_card(card.number) is None:
            raise ValueError("the sandbox bank takes test cards only")
        body = {
            "key": payment.key,
            "amount": payment.amount,
            "currency": payment.currency,
            "card": {"number": card.number, "expiry": card.expiry, "cvc": card.cvc},
            "return_url": payment.return_url,
            "shop": self._shop,
            "shop_id": self._shop_id,
            "order_id": payment.order_random_id,
        }
        status, fields = self._ask("POST", "/v1/charges", timeout, body)
        if status in REFUSALS and (code := _code(fields.get("error"))):
            message = fields.get("message")
            return Answer(Outcome.CANCELED, reason=code, this_request_only=True, message=str(message or ""))
        return self._charge_answer(payment, status, fields)

    @question
    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """Return what became of the key; None only if the bank itself says that it does not know this key."""
        status, fields = self._ask("GET", f"/v1/charges/{_in_path(payment.key)}", timeout)
        if _is_unknown_key(status, fields, payment.key):
            return None
        return self._charge_answer(payment, status, fields)

    @question
    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """Fence the key permanently, known or not. Return the outcome that won."""
        path = f"/v1/charges/{_in_path(payment.key)}/cancel"
        status, fields = self._ask("POST", path, timeout)
        if _outcome(status, fields, payment.key) in (Outcome.CANCELED, Outcome.DECLINED):
            return Answer(Outcome(fields["status"]), reason=_reason(fields))  # No money, whatever the amount was.
        return self._charge_answer(payment, status, fields)

    @question
    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        """Give money back, once per key."""
        body = {
            "key": refund_request.key,
            "charge": refund_request.payment.key,
            "amount": refund_request.amount,
            "currency": refund_request.payment.currency,
            "shop_id": self._shop_id,
        }
        return _refund_answer(refund_request, *self._ask("POST", "/v1/refunds", timeout, body))

    @question
    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """Return what became of the refund's key; None only if the bank itself says that it does not know this key."""
        status, fields = self._ask("GET", f"/v1/refunds/{_in_path(refund_request.key)}", timeout)
        if _is_unknown_key(status, fields, refund_request.key):
            return None
        return _refund_answer(refund_request, status, fields)

    def statement(self) -> Iterator[StatementEntry]:
        """Yield every movement of money, oldest first. Raises NotSent or Unknown, also after some entries."""
        try:
            with self._clients.here().stream("GET", "/v1/statement", timeout=STATEMENT_TIMEOUT) as response:
                if response.status_code != 200:
                    raise Unknown(f"the bank answered {response.status_code}")
                yield from map(_entry, filter(None, response.iter_lines()))
        except NEVER_SENT as error:
            raise NotSent("the bank could not be reached") from error
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unknown(f"the statement broke off: {type(error).__name__}") from error

    def close(self) -> None:
        """Close this process's idle connections. The next question opens new ones."""
        self._clients.close()

    def _ask(self, method: str, path: str, timeout: float, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Send one request. Return the status and the JSON fields of the answer. Raises NotSent or Unknown.

        Errors never contain the body, because it may contain a card number.
        """
        with gateway_errors(BANK), deadline(timeout):
            return self._exchange(method, path, timeout, body)

    def _exchange(self, method: str, path: str, timeout: float, body: Any) -> tuple[int, dict[str, Any]]:
        headers = {"Accept-Encoding": "identity"}
        with self._clients.here().stream(method, path, json=body, headers=headers, timeout=timeout) as response:
            return response.status_code, _fields(
                response.status_code, read_bounded(response.iter_raw(), LARGEST_ANSWER, BANK)
            )

    def _charge_answer(self, payment: Payment, status: int, fields: dict[str, Any]) -> Answer:
        outcome = _outcome(status, fields, payment.key)
        is_fence = outcome is Outcome.CANCELED and fields.get("amount") is None
        if not is_fence:
            _check_money(fields, payment.amount, payment.currency)
        action_url = fields.get("action_url") if outcome is Outcome.REQUIRES_ACTION else None
        if outcome is Outcome.REQUIRES_ACTION and not self._is_at_bank(action_url):
            raise Unknown("the bank answered with an action URL that is not its own", again=False)
        return Answer(outcome, reason=_reason(fields), action_url=action_url)

    def _is_at_bank(self, url: Any) -> bool:
        return isinstance(url, str) and url.startswith(f"{self.page_origin}/")


def _in_path(key: str) -> str:
    return quote(key, safe="")


def _fields(status: int, content: bytes) -> dict[str, Any]:
    """Return the answer's JSON object. Raises Unknown if it is not one."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Unknown(f"the bank answered {status} with an unreadable body")
    return fields


def _is_unknown_key(status: int, fields: dict[str, Any], key: str) -> bool:
    return status == 404 and fields.get("error") == "unknown_key" and fields.get("key") == key


def _outcome(status: int, fields: dict[str, Any], key: str) -> Outcome:
    """Return the outcome for this key. Raises Unknown; asking again can help after a failure, not after a refusal."""
    if status != 200:
        raise Unknown(f"the bank answered {status}", again=status >= 500 or status == 409)
    if fields.get("key") != key:
        raise Unknown("the bank answered with another key")
    try:
        return Outcome(fields.get("status", ""))
    except ValueError:
        raise Unknown("the bank answered with no outcome") from None


def _check_money(fields: dict[str, Any], amount: int, currency: str) -> None:
    money = fields.get("amount"), fields.get("currency")
    if type(money[0]) is not int or money != (amount, currency):
        raise Contradiction("the bank answered with another amount")


def _refund_answer(refund_request: RefundRequest, status: int, fields: dict[str, Any]) -> Answer:
    outcome = _outcome(status, fields, refund_request.key)
    if outcome not in (Outcome.SUCCEEDED, Outcome.DECLINED) or fields.get("charge") != refund_request.payment.key:
        raise Unknown("the bank answered with another refund", again=False)
    _check_money(fields, refund_request.amount, refund_request.payment.currency)
    return Answer(outcome, reason=_reason(fields))


def _reason(fields: dict[str, Any]) -> str | None:
    """Return the bank's reason if it is a short code, otherwise None."""
    return _code(fields.get("reason"))


def _code(text: Any) -> str | None:
    return text if isinstance(text, str) and text.isidentifier() and len(text) <= 40 else None


def _entry(line: str) -> StatementEntry:
    fields = json.loads(line)
    at = datetime.fromisoformat(fields["at"])
    return StatementEntry(
        fields["key"], fields["kind"], int(fields["amount"]), fields["currency"], at,
        shop_id=fields.get("shop_id"), payment_reference=fields.get("charge"),
    )  # fmt: skip
