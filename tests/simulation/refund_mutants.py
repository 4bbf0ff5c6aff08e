"""Broken versions of refunds, of what follows from the provider's events, and of what depends on clocks."""

from typing import Any

from app.charges import gateway_refunds, outcomes, recovery, refund_rows, refunds
from app.gateways.base import Answer, RefundRequest
from tests.simulation import broken
from tests.simulation.mutants import Mutant


def refunds_without_looking(gateway: Any, request: RefundRequest, _refund: Any, seconds: float) -> Answer:
    """Ask for the refund again, although the provider may have forgotten the key."""
    return gateway.refund(request, seconds)


NOTHING_OPEN = refund_rows.SAME_OPEN.where(refund_rows.refunds.c.id < 0)

REFUND_MUTANTS = (
    Mutant("an open refund of the same amount is not looked for", "refund repeated",
           ((refund_rows, "SAME_OPEN", NOTHING_OPEN),)),
    Mutant("a refund is asked for again without looking first", "page, refund forgotten",
           ((refunds, "_ask", refunds_without_looking),)),
    Mutant("refunds by hand are ignored", "page, events", ((gateway_refunds, "_take_over", broken.nothing),)),
    Mutant("a refund by hand that does not fit yet is noted at once", "page, refund",
           ((refunds, "is_unsettled", broken.nothing),)),
    Mutant("a stray payment at the provider is ignored", "page, stray",
           ((outcomes, "ended_before", broken.ignores_late_money),)),
    Mutant("a provider's payment is fenced by one clock alone", "page, the worker's clock is a day ahead",
           ((recovery, "HostedGateway", type("Nothing", (), {})),)),
)  # fmt: skip
