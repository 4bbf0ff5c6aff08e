"""Stripe as a gateway. The charge's key is the provider's idempotency key.

A session takes no money by itself. Only a shopper who is redirected to its page can pay, and nobody is redirected
before its id is recorded. `cancel` ends the session and returns the outcome that won. If the id was never learnt, the
stored request is repeated under its key as long as the provider remembers the key; later the provider's list of
sessions is searched for the key.
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
from app.gateways.stripe.answers import ErrorAnswer, answer_errors, ask
from app.gateways.stripe.requests import KEY, REFUND_KEY, SHOP_ID, StoredRequest
from app.gateways.stripe.transport import StripeTransport

VERSION = "2026-10-28.endive"
"""The API version that this was written for. A stored request is repeated with the version that it was made for."""

CLOCK_DIFFERENCE = 3600
"""Seconds that our clock and the provider's may differ when its list is searched."""

PAGE = 100

AMOUNT_REFUSED = frozenset({"amount_too_small", "amount_too_large"})
"""Codes of the errors that refuse this request definitely: the provider returns them before it creates anything."""

REFUND_NAMESPACE = UUID("7b2f6d0e-3f0a-5f0e-9d6c-0f6c2a9d8b11")
"""The namespace of keys for refunds that were made by hand. They have no key of ours, so it is made from their id."""


class StripeGateway:
    """The gateway at one Stripe account. Safe for threads and for processes that fork. Its repr shows no secret."""

    name = "stripe"
    takes_cards = False

    def __init__(
        self, secret_key: str, webhook_secrets: tuple[str, ...] = (), *, window: float, api_base: str, page_origin: str,
        shop_id: str = "", transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.live = "_live_" in secret_key
        self.account = "live" if self.live else "test"
        self.page_origin: str | None = page_origin
        self._webhook_secrets, self._window, self._shop_id = webhook_secrets, window, shop_id
        stripe.enable_telemetry = False
        # The library's own retries would hide from us that a request was sent.
        self._client = stripe.StripeClient(
            secret_key, stripe_version=VERSION, base_addresses={"api": api_base}, max_network_retries=0,
            http_client=StripeTransport(transport),
        ).v1  # fmt: skip

    def prepare(self, payment: HostedPayment) -> dict[str, Any]:
        """Return the request to store with the claim. Raises NotPayable."""
        return requests.prepare(payment, version=VERSION, live=self.live, window=self._window, shop_id=self._shop_id)

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Create the session, on whose page the shopper pays. One request, so NotSent means that nothing was sent."""
        try:
            with answer_errors(), deadline(timeout):
                return answers.of_session(self._create_session(payment), payment)
        except ErrorAnswer as error:
            if error.code in AMOUNT_REFUSED:
                return Answer(Outcome.CANCELED, reason=error.code)
            raise

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """Return what became of the key; None if there is no session and none can be created any more."""
        with answer_errors(), deadline(timeout):
            session = self._session(payment)
            return None if session is None else answers.of_session(session, payment)

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """End the session, so that nobody can pay on it any more. Return the outcome that won."""
        with answer_errors(), deadline(timeout):
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
        with answer_errors(), deadline(timeout):
            intent_id = self._intent_id(refund_request.payment)
            try:
                refund = ask(lambda: self._client.refunds.create(*self._refund_params(refund_request, intent_id)))
            except ErrorAnswer as error:
                return self._explain_refusal(refund_request, intent_id, error)
            return answers.of_refund(refund, refund_request)

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """Return what became of the refund's key; None if the payment has no such refund."""
        with answer_errors(), deadline(timeout):
            refund = self._find_refund(refund_request, self._intent_id(refund_request.payment))
            return None if refund is None else answers.of_refund(refund, refund_request)

    def statement(self) -> Iterator[StatementEntry]:
        """Yield every charge and refund that moved money on the account, newest first. Raises NotSent or Unknown."""
        with answer_errors():
            for charge in _items(self._client.charges.list, {"limit": PAGE}):
                if charge.get("paid") and charge.get("captured"):
                    key = _our_key(charge, KEY) or str(charge["id"])
                    yield _entry(key, "charge", charge, charge["amount_captured"])
            for refund in _items(self._client.refunds.list, {"limit": PAGE}):
                if refund.get("status") == "succeeded":
                    yield _entry(_refund_key(refund), "refund", refund, refund["amount"])

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Check the signature with each of our secrets and read the event. Raises BadEvent."""
        return events.read(body, headers.get("Stripe-Signature", ""), self._webhook_secrets, live=self.live)

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        """Return our key, from the event itself or from the session of its payment."""
        if event.key or not event.gateway_reference or not event.gateway_reference.startswith("pi_"):
            return event.key
        with answer_errors(), deadline(timeout):
            found = self._session_of(event.gateway_reference)
            return _our_key(found, KEY) if found else None

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        """Return every refund of the payment that has succeeded."""
        with answer_errors(), deadline(timeout):
            of_payment = {"payment_intent": self._intent_id(payment), "limit": PAGE}
            found = _items(self._client.refunds.list, of_payment)
            return [_gateway_refund(refund) for refund in found if refund.get("status") == "succeeded"]

    def _create_session(self, payment: Payment) -> dict[str, Any]:
        """Send the stored request under our key. A repetition returns the session as it was when it was created."""
        stored = StoredRequest.of(payment)
        options: Any = {"idempotency_key": payment.key, "stripe_version": stored.version}
        params: Any = dict(stored.params)
        return ask(lambda: self._client.checkout.sessions.create(params, options))

    def _session(self, payment: Payment) -> dict[str, Any] | None:
        """Return the session as it is now; None if there is none and none can be created any more."""
        if payment.gateway_reference and payment.gateway_reference.startswith("pi_"):
            return self._session_of(payment.gateway_reference)
        if payment.gateway_reference:
            return self._read(payment.gateway_reference)
        stored = StoredRequest.of(payment)
        if stored.is_repeatable():
            try:
                return self._read(answers.id_of(self._create_session(payment)))
            except ErrorAnswer as error:
                if error.again or error.status == 429:
                    raise
        # The key does not lead to a session: it is forgotten, has a stored failure, or the request is refused now.
        if found := self._search(payment, stored):
            return self._read(answers.id_of(found))
        if stored.is_fenced():
            return None
        raise Unknown("the provider's list has no session for this key yet", again=False)

    def _session_of(self, intent_id: str) -> dict[str, Any] | None:
        """Return the session of a payment. An adopted charge knows only its payment, as the statement names it."""
        of_payment = {"payment_intent": intent_id, "limit": 1}
        return next(_items(self._client.checkout.sessions.list, of_payment), None)

    def _read(self, session_id: str) -> dict[str, Any]:
        return ask(lambda: self._client.checkout.sessions.retrieve(session_id))

    def _search(self, payment: Payment, stored: StoredRequest) -> dict[str, Any] | None:
        created = {"gte": stored.made_at - CLOCK_DIFFERENCE, "lte": stored.session_ends_at + CLOCK_DIFFERENCE}
        sessions = _items(self._client.checkout.sessions.list, {"created": created, "limit": PAGE})
        return next((each for each in sessions if each.get("client_reference_id") == payment.key), None)

    def _expire(self, session_id: str) -> dict[str, Any]:
        """End the session and return it. If it was not open any more (400), return it as it is now."""
        try:
            return ask(lambda: self._client.checkout.sessions.expire(session_id))
        except ErrorAnswer as error:
            if error.status != 400:
                raise
        return self._read(session_id)

    def _intent_id(self, payment: Payment) -> str:
        session = self._session(payment) or {}
        intent_id = session.get("payment_intent")
        if not isinstance(intent_id, str):
            raise Unknown("the provider has no payment for this key", again=False)
        return intent_id

    def _refund_params(self, refund_request: RefundRequest, intent_id: str) -> tuple[Any, Any]:
        """Return the parameters and the options of the request that makes the refund."""
        payment = refund_request.payment
        params = {
            "payment_intent": intent_id,
            "amount": currencies.to_provider(refund_request.amount, payment.currency),
            "metadata": {KEY: payment.key, REFUND_KEY: refund_request.key, SHOP_ID: self._shop_id},
        }
        return params, {"idempotency_key": refund_request.key}

    def _find_refund(self, refund_request: RefundRequest, intent_id: str) -> dict[str, Any] | None:
        refunds = _items(self._client.refunds.list, {"payment_intent": intent_id, "limit": PAGE})
        return next((each for each in refunds if _our_key(each, REFUND_KEY) == refund_request.key), None)

    def _explain_refusal(self, refund_request: RefundRequest, intent_id: str, error: ErrorAnswer) -> Answer:
        """Return the refund's outcome after an error: an earlier try under this key made it, or too little is left.

        Raises the error if it is neither.
        """
        if error.status != 400 or error.code == "idempotency_error":
            raise error
        if found := self._find_refund(refund_request, intent_id):
            return answers.of_refund(found, refund_request)
        if self._left(intent_id) < currencies.to_provider(refund_request.amount, refund_request.payment.currency):
            return Answer(Outcome.DECLINED, reason="not_enough_left")
        raise error

    def _left(self, intent_id: str) -> int:
        """Return the amount that can still be refunded, in the provider's units."""
        charges = _items(self._client.charges.list, {"payment_intent": intent_id, "limit": PAGE})
        return sum(each["amount_captured"] - each["amount_refunded"] for each in charges if each.get("paid"))


def _items(page: Any, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the items of one of the provider's lists, page after page."""
    after: dict[str, Any] = {}
    while True:
        current = ask(partial(page, params | after))
        items = current["data"]
        yield from items
        if not current.get("has_more") or not items:
            return
        after = {"starting_after": items[-1]["id"]}


def _our_key(fields: Any, name: str) -> str | None:
    """Return our key in the provider's metadata, or None."""
    found = (fields.get("metadata") or {}).get(name)
    return found if isinstance(found, str) else None


def _refund_key(refund: Any) -> str:
    return _our_key(refund, REFUND_KEY) or str(uuid5(REFUND_NAMESPACE, str(refund["id"])))


def _gateway_refund(refund: Any) -> GatewayRefund:
    amount = currencies.from_provider(refund["amount"], str(refund["currency"]).upper())
    return GatewayRefund(_refund_key(refund), amount, str(refund["id"]), _our_key(refund, REFUND_KEY) is not None)


def _entry(key: str, kind: str, fields: Any, amount: int) -> StatementEntry:
    currency = str(fields["currency"]).upper()
    at = datetime.fromtimestamp(fields["created"], UTC)
    return StatementEntry(
        key, kind, currencies.from_provider(amount, currency), currency, at, shop_id=_our_key(fields, SHOP_ID) or None,
        payment_reference=fields.get("payment_intent"), gateway_reference=str(fields["id"]),
    )  # fmt: skip
