"""The shop's way to the sandbox bank. Every question ends in a definite answer, or in NotSent or Unknown.

Definite is only an explicit outcome for this key, of the same amount and currency. Nothing is tried again
here: retries are the protocol's own, inside its deadline.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from app.gateways.base import Answer, Card, NotSent, Outcome, Payment, RefundRequest, StatementEntry, Unknown
from app.gateways.http import NEVER_SENT, Clients, deadline, gateway_errors, read_bounded
from app.gateways.sandbox.cards import find_card

LARGEST_ANSWER = 64 * 1024
"""Bytes of an answer that are read: a true one has some 300."""

STATEMENT_TIMEOUT = 30.0
"""Seconds without a single byte before the statement is given up."""

BANK = "the bank"


class SandboxGateway:
    """The gateway that speaks to the bank at `bank_url`. Safe for threads, and for processes that fork."""

    name = "sandbox"
    account = "sandbox"
    """The bank has one; its address may change, and what it knows moves with it."""
    takes_cards = True

    def __init__(self, bank_url: str, *, shop: str = "", transport: httpx.BaseTransport | None = None) -> None:
        parts = urlsplit(bank_url)
        self.page_origin: str | None = f"{parts.scheme}://{parts.netloc}"
        self._shop = shop
        self._clients = Clients(transport, base_url=self.page_origin)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Ask for the money. Raises ValueError for anything but a test card, before a byte is sent."""
        if card is None or find_card(card.number) is None:
            raise ValueError("the sandbox bank takes test cards only")
        body = {
            "key": payment.key,
            "amount": payment.amount,
            "currency": payment.currency,
            "card": {"number": card.number, "expiry": card.expiry, "cvc": card.cvc},
            "return_url": payment.return_url,
            "shop": self._shop,
        }
        return self._charge_answer(payment, *self._ask("POST", "/v1/charges", timeout, body))

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """What became of the key; None only where the bank itself says that it never heard of it."""
        status, fields = self._ask("GET", f"/v1/charges/{_in_path(payment.key)}", timeout)
        if _is_never_heard_of(status, fields, payment.key):
            return None
        return self._charge_answer(payment, status, fields)

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """Fence the key for good, known or not; answers whichever outcome won."""
        path = f"/v1/charges/{_in_path(payment.key)}/cancel"
        return self._charge_answer(payment, *self._ask("POST", path, timeout))

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        """Give money back, once a key."""
        body = {
            "key": refund_request.key,
            "charge": refund_request.payment.key,
            "amount": refund_request.amount,
            "currency": refund_request.payment.currency,
        }
        return _refund_answer(refund_request, *self._ask("POST", "/v1/refunds", timeout, body))

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """What became of the refund's key; None only where the bank itself says that it never heard of it."""
        status, fields = self._ask("GET", f"/v1/refunds/{_in_path(refund_request.key)}", timeout)
        if _is_never_heard_of(status, fields, refund_request.key):
            return None
        return _refund_answer(refund_request, status, fields)

    def statement(self) -> Iterator[StatementEntry]:
        """Every movement at the bank, oldest first, streamed. Raises NotSent or Unknown, also half-way."""
        try:
            with self._clients.here().stream("GET", "/v1/statement", timeout=STATEMENT_TIMEOUT) as response:
                if response.status_code != 200:
                    raise Unknown(f"the bank answered {response.status_code}")
                yield from map(_movement, filter(None, response.iter_lines()))
        except NEVER_SENT as error:
            raise NotSent("the bank could not be reached") from error
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unknown(f"the statement broke off: {type(error).__name__}") from error

    def close(self) -> None:
        """Close this process's idle connections; the next question opens new ones."""
        self._clients.close()

    def _ask(self, method: str, path: str, timeout: float, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One question, one answer, or NotSent or Unknown. Says nothing of the body: it may hold a card."""
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
            raise Unknown("the bank named no page of its own for the shopper", again=False)
        return Answer(outcome, reason=_reason(fields), action_url=action_url)

    def _is_at_bank(self, url: Any) -> bool:
        return isinstance(url, str) and url.startswith(f"{self.page_origin}/")


def _in_path(key: str) -> str:
    return quote(key, safe="")


def _fields(status: int, content: bytes) -> dict[str, Any]:
    """The answer's JSON object. What is not one is no answer."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Unknown(f"the bank answered {status} with something unreadable")
    return fields


def _is_never_heard_of(status: int, fields: dict[str, Any], key: str) -> bool:
    return status == 404 and fields.get("error") == "unknown_key" and fields.get("key") == key


def _outcome(status: int, fields: dict[str, Any], key: str) -> Outcome:
    """The explicit outcome for this key, or Unknown. Asking again helps after a failure, not a refusal."""
    if status != 200:
        raise Unknown(f"the bank answered {status}", again=status >= 500 or status == 409)
    if fields.get("key") != key:
        raise Unknown("the bank answered for another key")
    try:
        return Outcome(fields.get("status", ""))
    except ValueError:
        raise Unknown("the bank answered with no outcome") from None


def _check_money(fields: dict[str, Any], amount: int, currency: str) -> None:
    answered = fields.get("amount"), fields.get("currency")
    if type(answered[0]) is not int or answered != (amount, currency):
        raise Unknown("the bank answered for another amount", again=False)


def _refund_answer(refund_request: RefundRequest, status: int, fields: dict[str, Any]) -> Answer:
    outcome = _outcome(status, fields, refund_request.key)
    if outcome not in (Outcome.SUCCEEDED, Outcome.DECLINED) or fields.get("charge") != refund_request.payment.key:
        raise Unknown("the bank answered for another refund", again=False)
    _check_money(fields, refund_request.amount, refund_request.payment.currency)
    return Answer(outcome, reason=_reason(fields))


def _reason(fields: dict[str, Any]) -> str | None:
    """The bank's code, short; anything else is left out."""
    reason = fields.get("reason")
    return reason if isinstance(reason, str) and reason.isidentifier() and len(reason) <= 40 else None


def _movement(line: str) -> StatementEntry:
    fields = json.loads(line)
    at = datetime.fromisoformat(fields["at"])
    return StatementEntry(fields["key"], fields["kind"], int(fields["amount"]), fields["currency"], at)
