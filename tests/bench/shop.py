"""This checkout with a bank in the same process, so that the sandbox bank is not measured too.

BENCH_BANK_SECONDS is the number of seconds that the bank takes to approve a charge.
"""

import os
from collections.abc import Iterator
from time import sleep

from app import create_app, visits
from app.gateways.base import Answer, Card, Gateways, Outcome, Payment, RefundRequest, StatementEntry

SECONDS = float(os.environ.get("BENCH_BANK_SECONDS", "0"))


class ApprovingGateway:
    """A gateway that approves everything after SECONDS."""

    name = "sandbox"
    account = "bench"
    takes_cards = True
    page_origin: str | None = None

    def charge(self, payment: Payment, card: Card | None, timeout: float) -> Answer:
        if SECONDS:
            sleep(SECONDS)
        return Answer(Outcome.SUCCEEDED, gateway_reference=payment.key)

    def lookup(self, payment: Payment, timeout: float) -> Answer | None:
        return self.cancel(payment, timeout)

    def cancel(self, payment: Payment, timeout: float) -> Answer:
        return Answer(Outcome.SUCCEEDED, gateway_reference=payment.key)

    def refund(self, refund_request: RefundRequest, timeout: float) -> Answer:
        return Answer(Outcome.SUCCEEDED, gateway_reference=refund_request.key)

    def lookup_refund(self, refund_request: RefundRequest, timeout: float) -> Answer | None:
        return None

    def statement(self) -> Iterator[StatementEntry]:
        return iter(())


gateway = ApprovingGateway()
app = create_app(gateways=Gateways(gateway, (gateway,)))
visits.write_in_background(app)  # As wsgi.py does.
