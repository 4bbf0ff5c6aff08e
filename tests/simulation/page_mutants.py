"""Broken versions of the gateway to a provider with its own page.

Some break the protocol in a way that shows only with such a page.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from app.charges import protocol, recovery
from app.gateways.base import Answer, Outcome, Payment
from app.gateways.stripe.gateway import StripeGateway
from tests.simulation.broken import cancels_in_the_books_only
from tests.simulation.mutants import Mutant

real_ask, real_make = protocol.ask, StripeGateway._create_session


def not_sent_for_every_request(gateway: Any, payment: Payment, card: Any, deadline: Any) -> Answer:
    """Treat "not sent" as if no other process could have asked."""
    return replace(real_ask(gateway, payment, card, deadline), this_request_only=False)


def new_key_each_time(self: Any, payment: Payment) -> dict[str, Any]:
    """Send the same request under a new key each time."""
    made = self._client.checkout.sessions.list().data
    return real_make(self, replace(payment, key=str(uuid5(UUID(payment.key), str(len(made))))))


def cancels_without_reading_the_answer(self: Any, payment: Payment, timeout: float) -> Answer:
    """Cancel without reading the provider's answer."""
    if payment.gateway_reference:
        self._expire(payment.gateway_reference)
    return Answer(Outcome.CANCELED, payment.gateway_reference)


PAGE_MUTANTS = (
    Mutant("not sent, so canceled, although recovery has asked", "page, twins",
           ((protocol, "ask", not_sent_for_every_request),)),
    Mutant("given up in the books only; the page stays open", "page, given up",
           ((recovery, "cancel", cancels_in_the_books_only),), changes={"bank_faults": 0}),
    Mutant("an ended session counts as canceled although it was paid", "page, given up",
           ((StripeGateway, "cancel", cancels_without_reading_the_answer),), changes={"bank_faults": 0}),
    Mutant("a new key each time the request is repeated", "page, return",
           ((StripeGateway, "_create_session", new_key_each_time),)),
)  # fmt: skip
