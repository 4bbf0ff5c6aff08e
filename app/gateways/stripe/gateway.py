"""Stripe as a gateway. The charge's key is the provider's idempotency key.

A session takes no money by itself. Only a shopper who is redirected to its page can pay, and nobody is redirected
before its id is recorded. `cancel` ends the session and returns the outcome that won. If the id was never learnt, the
stored request is repeated under its key as long as the provider remembers the key; later its list is searched.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid5

import httpx
import stripe

from app.gateways.base import (
    Answer,
    Card,
    GatewayEvent,
    GatewayRefund,
    HostedPayment,
    Outcome,
    Payment,
    RefundRequest,
    StatementEntry,
    Unknown,
)
from app.gateways.http import deadline
from app.gateways.stripe import answers, currencies, events, requests
from app.gateways.stripe.answers import ErrorAnswer, ask, readable
from app.gateways.stripe.requests import KEY, REFUND_KEY, StoredRequest
from app.gateways.stripe.transport import StripeTransport

VERSION = "2026-10-28.endive"
"""The API version that this was written for. A stored request is repeated with the version that it was made for."""

CLOCKS = 3600
"""Seconds that our clock may differ from the provider's when its list is searched."""

PAGE = 100

NO_SUCH_AMOUNT = frozenset({"amount_too_small", "amount_too_large"})
"""Codes of refusals that the provider gives before it creates anything."""

REFUND_NAMES = UUID("7b2f6d0e-3f0a-5f0e-9d6c-0f6c2a9d8b11")
"""Namespace for keys of refunds made by hand, which have no key of ours: theirs is derived from their id."""


class StripeGateway:
    """The gateway at one Stripe account. Safe for threads and for processes that fork. Its repr shows no secret."""

    name = "stripe"
    takes_cards = False

    def __init__(
        self, secret_key: str, webhook_secrets: tuple[str, ...] = (), *, window: float, api_base: str, page_origin: str,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.live = "_live_" in secret_key
        self.account = "live" if self.live else "test"
        self.page_origin: str | None = page_origin
        self._webhook_secrets, self._window = webhook_secrets, window
        stripe.enable_telemetry = False
        # The library's own retries would hide from us that a request was sent.
        self._client = stripe.StripeClient(
            secret_key, stripe_version=VERSION, base_addresses={"api": api_base}, max_network_retries=0,
            http_client=StripeTransport(transport),
        ).v1  # fmt: skip

    def prepare(self, payment: HostedPayment) -> dict[str, Any]:
        """Return the request to store with the claim. Raises NotPayable."""
        return requests.prepare(payment, version=VERSION, live=self.live, window=self._window)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Create the session, on whose page the shopper pays. One request, so NotSent means that nothing was sent."""
        try:
            with readable(), deadline(timeout):
                return answers.of_session(self._make(payment), payment)
        except ErrorAnswer as refused:
            if refused.code in NO_SUCH_AMOUNT:
                return Answer(Outcome.CANCELED, reason=refused.code)
            raise

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """Return what became of the key; None if there is no session and none can be created any more."""
        with readable(), deadline(timeout):
            session = self._session(payment)
            return None if session is None else answers.of_session(session, payment)

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """End the session, so that nobody can pay on it any more. Return the outcome that won."""
        with readable(), deadline(timeout):
            session = self._session(payment)
            if session is None:
                return Answer(Outcome.CANCELED)
            if session.get("status") == "open":
                session = self._expire(answers.id_of(session))
            answer = answers.of_session(session, payment)
        if answer.outcome is Outcome.REQUIRES_ACTION:
            raise Unknown("the provider has not ended the session yet")
        return answer

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        """Give money back, once per key."""
        with readable(), deadline(timeout):
            intent = self._intent(refund_request.payment)
            try:
                refund = ask(lambda: self._client.refunds.create(*_refund_request(refund_request, intent)))
            except ErrorAnswer as refused:
                return self._not_refunded(refund_request, intent, refused)
            return answers.of_refund(refund, refund_request)

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """Return what became of the refund's key; None if the payment has no such refund."""
        with readable(), deadline(timeout):
            refund = self._refund(refund_request, self._intent(refund_request.payment))
            return None if refund is None else answers.of_refund(refund, refund_request)

    def statement(self) -> Iterator[StatementEntry]:
        """Yield every charge and refund that moved money on the account, newest first. Raises NotSent or Unknown."""
        with readable():
            for charge in _each(self._client.charges.list, {"limit": PAGE}):
                if charge.get("paid") and charge.get("captured"):
                    key = _ours(charge, KEY) or str(charge["id"])
                    yield _entry(key, "charge", charge, charge["amount_captured"])
            for refund in _each(self._client.refunds.list, {"limit": PAGE}):
                if refund.get("status") == "succeeded":
                    yield _entry(_refund_key(refund), "refund", refund, refund["amount"])

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Check the signature with each of our secrets and read the event. Raises BadEvent."""
        return events.read(body, headers.get("Stripe-Signature", ""), self._webhook_secrets, live=self.live)

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        """Return our key, from the event itself or from the session of its payment."""
        if event.key or not event.gateway_reference or not event.gateway_reference.startswith("pi_"):
            return event.key
        with readable(), deadline(timeout):
            of_payment = {"payment_intent": event.gateway_reference, "limit": 1}
            found = next(_each(self._client.checkout.sessions.list, of_payment), None)
            return _ours(found, KEY) if found else None

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        """Return every refund of the payment that has succeeded."""
        with readable(), deadline(timeout):
            of_payment = {"payment_intent": self._intent(payment), "limit": PAGE}
            found = _each(self._client.refunds.list, of_payment)
            return [_refunded(refund) for refund in found if refund.get("status") == "succeeded"]

    def _make(self, payment: Payment) -> dict[str, Any]:
        """Send the stored request under our key. A repetition returns the session as it was when it was created."""
        kept = StoredRequest.of(payment)
        options: Any = {"idempotency_key": payment.key, "stripe_version": kept.version}
        params: Any = dict(kept.params)
        return ask(lambda: self._client.checkout.sessions.create(params, options))

    def _session(self, payment: Payment) -> dict[str, Any] | None:
        """Return the session as it is now; None if there is none and none can be created any more."""
        if payment.gateway_reference:
            return self._read(payment.gateway_reference)
        kept = StoredRequest.of(payment)
        if kept.repeatable():
            try:
                return self._read(answers.id_of(self._make(payment)))
            except ErrorAnswer as refused:
                if refused.again or refused.status == 429:
                    raise
        # The key does not lead to the session (a stored failure, or a refusal now): search the list.
        if found := self._search(payment, kept):
            return self._read(answers.id_of(found))
        if kept.void():
            return None
        raise Unknown("the provider's list has no session for it yet", again=False)

    def _read(self, session: str) -> dict[str, Any]:
        return ask(lambda: self._client.checkout.sessions.retrieve(session))

    def _search(self, payment: Payment, kept: StoredRequest) -> dict[str, Any] | None:
        made = {"gte": kept.made - CLOCKS, "lte": kept.ends + CLOCKS}
        sessions = _each(self._client.checkout.sessions.list, {"created": made, "limit": PAGE})
        return next((each for each in sessions if each.get("client_reference_id") == payment.key), None)

    def _expire(self, session: str) -> dict[str, Any]:
        """End the session. If it was not open any more, return it as it is now."""
        try:
            return ask(lambda: self._client.checkout.sessions.expire(session))
        except ErrorAnswer as refused:
            if refused.status != 400:
                raise
        return self._read(session)

    def _intent(self, payment: Payment) -> str:
        session = self._session(payment) or {}
        intent = session.get("payment_intent")
        if not isinstance(intent, str):
            raise Unknown("the provider knows no payment for it", again=False)
        return intent

    def _refund(self, refund_request: RefundRequest, intent: str) -> dict[str, Any] | None:
        refunds = _each(self._client.refunds.list, {"payment_intent": intent, "limit": PAGE})
        return next((each for each in refunds if _ours(each, REFUND_KEY) == refund_request.key), None)

    def _not_refunded(self, refund_request: RefundRequest, intent: str, refused: ErrorAnswer) -> Answer:
        """Return why the refund was refused: an earlier try under this key made it, or too little is left."""
        if refused.status != 400 or refused.code == "idempotency_error":
            raise refused
        if found := self._refund(refund_request, intent):
            return answers.of_refund(found, refund_request)
        if self._left(intent) < currencies.to_provider(refund_request.amount, refund_request.payment.currency):
            return Answer(Outcome.DECLINED, reason="not_enough_left")
        raise refused

    def _left(self, intent: str) -> int:
        """Return what can still be refunded, in the provider's units."""
        charges = _each(self._client.charges.list, {"payment_intent": intent, "limit": PAGE})
        return sum(each["amount_captured"] - each["amount_refunded"] for each in charges if each.get("paid"))


def _each(page: Any, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the items of one of the provider's lists, page after page."""
    after: dict[str, Any] = {}
    while True:
        current = ask(partial(page, params | after))
        items = current["data"]
        yield from items
        if not current.get("has_more") or not items:
            return
        after = {"starting_after": items[-1]["id"]}


def _ours(fields: Any, name: str) -> str | None:
    """Return our key in the provider's metadata, or None."""
    found = (fields.get("metadata") or {}).get(name)
    return found if isinstance(found, str) else None


def _refund_request(refund_request: RefundRequest, intent: str) -> tuple[Any, Any]:
    payment = refund_request.payment
    params = {
        "payment_intent": intent,
        "amount": currencies.to_provider(refund_request.amount, payment.currency),
        "metadata": {KEY: payment.key, REFUND_KEY: refund_request.key},
    }
    return params, {"idempotency_key": refund_request.key}


def _refund_key(refund: Any) -> str:
    return _ours(refund, REFUND_KEY) or str(uuid5(REFUND_NAMES, str(refund["id"])))


def _refunded(refund: Any) -> GatewayRefund:
    amount = currencies.from_provider(refund["amount"], str(refund["currency"]).upper())
    return GatewayRefund(_refund_key(refund), amount, str(refund["id"]), _ours(refund, REFUND_KEY) is not None)


def _entry(key: str, kind: str, fields: Any, amount: int) -> StatementEntry:
    currency = str(fields["currency"]).upper()
    at = datetime.fromtimestamp(fields["created"], UTC)
    return StatementEntry(key, kind, currencies.from_provider(amount, currency), currency, at)
