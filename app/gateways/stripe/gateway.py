"""Stripe as a gateway. The charge's key is the provider's idempotency key.

A session takes no money by itself. Only a shopper who is redirected to its page can pay, and nobody is redirected
before its id is recorded. `cancel` ends the session and returns the outcome that won. If the id was never learnt, the
stored request is repeated under its key as long as the provider remembers the key; later the provider's list of
sessions is searched for the key.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import stripe

from app.gateways.base import (
    Answer,
    Card,
    GatewayDispute,
    GatewayEvent,
    GatewayRefund,
    HostedPayment,
    NotSent,
    Outcome,
    Payment,
    RefundRequest,
    StatementEntry,
    Unknown,
)
from app.gateways.http import deadline
from app.gateways.questions import question
from app.gateways.stripe import answers, disputes, events, refunds, requests, statement
from app.gateways.stripe.answers import ErrorAnswer, answer_errors, ask
from app.gateways.stripe.lists import items, our_key
from app.gateways.stripe.requests import KEY, StoredRequest
from app.gateways.stripe.transport import StripeTransport

VERSION = "2026-10-28.endive"
"""The API version that this was written for. A stored request is repeated with the version that it was made for."""

CLOCK_DIFFERENCE = 3600
"""Seconds that our clock and the provider's may differ when its list is searched."""


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
        self.sends_events = bool(webhook_secrets)
        self._searched: dict[str, str] = {}
        """For each key whose search has not ended: the id of the last session that was read."""
        stripe.enable_telemetry = False
        # The library's own retries would hide from us that a request was sent.
        self._client = stripe.StripeClient(
            secret_key, stripe_version=VERSION, base_addresses={"api": api_base}, max_network_retries=0,
            http_client=StripeTransport(transport),
        ).v1  # fmt: skip

    def prepare(self, payment: HostedPayment) -> dict[str, Any]:
        """Return the request to store with the claim. Raises NotPayable."""
        return requests.prepare(payment, version=VERSION, live=self.live, window=self._window, shop_id=self._shop_id)

    @question
    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        """Create the session, on whose page the shopper pays. One request, so NotSent means that nothing was sent."""
        try:
            with answer_errors(), deadline(timeout):
                return answers.of_session(self._create_session(payment), payment)
        except ErrorAnswer as error:
            if error.refuses:
                return answers.of_refused(error)
            raise

    @question
    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        """Return what became of the key; None if there is no session and none can be created any more."""
        with answer_errors(), deadline(timeout):
            session = self._session(payment)
            return None if session is None else answers.of_session(session, payment)

    @question
    def cancel(self, payment: Payment, timeout: float) -> Answer:
        """End the session, so that nobody can pay on it any more. Return the outcome that won."""
        with answer_errors(), deadline(timeout):
            session = self._session(payment)
            if session is None:
                return Answer(Outcome.CANCELED)
            if session.get("status") == "open":
                session = self._expire(answers.id_of(session))
            if answers.is_over(session, payment):
                return Answer(Outcome.CANCELED, answers.id_of(session), "expired")
            answer = answers.of_session(session, payment)
        if answer.outcome is Outcome.REQUIRES_ACTION:
            raise Unknown("the provider has not ended the session yet")
        return answer

    @question
    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        """Give money back, once per key."""
        with answer_errors(), deadline(timeout):
            return refunds.make(self._client, refund_request, self._intent_id(refund_request.payment), self._shop_id)

    @question
    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        """Return what became of the refund's key; None if the payment has no such refund."""
        with answer_errors(), deadline(timeout):
            return refunds.find(self._client, refund_request, self._intent_id(refund_request.payment))

    def statement(self) -> Iterator[StatementEntry]:
        """Yield every movement of money that a charge, refund or dispute made. Raises NotSent or Unknown."""
        with answer_errors():
            yield from statement.entries(self._client)

    def read_event(self, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Check the signature with each of our secrets and read the event. Raises BadEvent."""
        return events.read(body, headers.get("Stripe-Signature", ""), self._webhook_secrets, live=self.live)

    def key_of(self, event: GatewayEvent, timeout: float) -> str | None:
        """Return our key, from the event itself or from the session of its payment."""
        if event.key or not event.gateway_reference or not event.gateway_reference.startswith("pi_"):
            return event.key
        with answer_errors(), deadline(timeout):
            found = self._session_of(event.gateway_reference)
            return our_key(found, KEY) if found else None

    def refunds_of(self, payment: Payment, timeout: float) -> list[GatewayRefund]:
        """Return every refund of the payment, whatever became of it."""
        with answer_errors(), deadline(timeout):
            return refunds.of_payment(self._client, self._intent_id(payment))

    def disputes_of(self, payment: Payment, timeout: float) -> list[GatewayDispute]:
        """Return every dispute of the payment, as it is now."""
        with answer_errors(), deadline(timeout):
            return disputes.of_payment(self._client, self._intent_id(payment))

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
        try:
            found = self._search(payment, stored)
        except Unknown:
            if not stored.is_long_fenced():
                raise
            return None
        if found:
            return self._read(answers.id_of(found))
        if stored.is_fenced():
            return None
        raise Unknown("the provider's list has no session for this key yet", again=False)

    def _session_of(self, intent_id: str) -> dict[str, Any] | None:
        """Return the session of a payment. An adopted charge knows only its payment, as the statement names it."""
        of_payment = {"payment_intent": intent_id, "limit": 1}
        return next(items(self._client.checkout.sessions.list, of_payment), None)

    def _read(self, session_id: str) -> dict[str, Any]:
        return ask(lambda: self._client.checkout.sessions.retrieve(session_id))

    def _search(self, payment: Payment, stored: StoredRequest) -> dict[str, Any] | None:
        """Search the provider's list. If the deadline ends the search, the next one goes on where it stopped."""
        created = {"gte": stored.made_at - CLOCK_DIFFERENCE, "lte": stored.session_ends_at + CLOCK_DIFFERENCE}
        last = self._searched.pop(payment.key, None)
        try:
            for session in items(self._client.checkout.sessions.list, {"created": created}, last):
                if session.get("client_reference_id") == payment.key:
                    return session
                last = answers.id_of(session)
        except (NotSent, Unknown):
            if last:
                self._searched[payment.key] = last
            raise
        return None

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
