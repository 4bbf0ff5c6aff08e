"""python -m tests.stripe.verify: check with Stripe itself what a stand-in can't show, through the shop's own gateway.

It needs a test key in STRIPE_SECRET_KEY. It pays with test cards only, and ends every session that it creates. It
prints one line per check, and the events that each webhook endpoint receives. The exit code is 1 if a check failed,
and 2 if nothing was sent, for example with a live key.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from secrets import token_hex
from time import time
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from app.gateways.base import Answer, Deadline, HostedPayment, NotSent, Outcome, Payment, PaymentLine, Unknown
from app.gateways.stripe import start
from app.gateways.stripe.answers import ErrorAnswer
from app.gateways.stripe.gateway import StripeGateway
from app.gateways.stripe.requests import LEAST_AHEAD, LONGEST_WINDOW, SLACK
from app.settings import Settings, SettingsError
from tests.stripe.verify_payments import AMOUNT, Payments, Unexpected

SETTINGS = ("STRIPE_SECRET_KEY", "STRIPE_API_BASE", "SHOP_CURRENCY")
PATIENCE = 15.0
"""Seconds in which a new session must appear in the list."""

TIMEOUT = 20.0
"""Seconds per question to the gateway."""


def gateway_of(settings: Settings) -> StripeGateway:
    """Return the gateway of a test account. Raises SettingsError before anything is sent."""
    if "_live_" in settings.stripe_secret_key:
        raise SettingsError(
            "STRIPE_SECRET_KEY is a live key; this command creates sessions, so it accepts test keys only"
        )
    gateway = start.from_settings(settings)
    assert gateway is not None
    return gateway


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return settings from only the variables about Stripe. The shop's other secrets are not needed.

    Raises SettingsError.
    """
    given = {name: environ.get(name, "") for name in SETTINGS}
    longest = {"ACTION_WINDOW": str(LONGEST_WINDOW)}
    return Settings.from_environ(given | longest | {"PAYMENT_GATEWAY": "stripe", "SECRET_KEY": token_hex(32)})


class Trial:
    """One session from its creation to its end. Each public method is a check.

    A check raises Unexpected, NotSent or Unknown if it fails.
    """

    def __init__(self, gateway: StripeGateway, currency: str) -> None:
        self.gateway, self.currency = gateway, currency
        self.sent = self.created = self._payment()
        self.payments = Payments(gateway, currency)

    def creates(self) -> None:
        """Create the session, whose page must be at the origin that the Content-Security-Policy allows."""
        answer = self.gateway.charge(self.sent, None, TIMEOUT)
        self.created = replace(self.sent, gateway_reference=answer.gateway_reference)
        page = urlsplit(_open(answer).action_url or "")
        if f"{page.scheme}://{page.netloc}" != self.gateway.page_origin:
            raise Unexpected(f"its page is at {page.netloc}, which the Content-Security-Policy does not allow")

    def found_by_id(self) -> None:
        """Look the session up by its id."""
        self._same_session(self.gateway.lookup(self.created, TIMEOUT))

    def found_by_repeating(self) -> None:
        """Repeat the request, which must return the same session."""
        self._same_session(self.gateway.charge(self.sent, None, TIMEOUT))
        self._same_session(self.gateway.lookup(self.sent, TIMEOUT))

    def found_in_the_list(self) -> None:
        """Find the session in the list, as if its key were forgotten and its request could not be repeated."""
        deadline, forgotten = Deadline(PATIENCE), self._ending(self.sent, LEAST_AHEAD - 1)
        while True:
            try:
                return self._same_session(self.gateway.lookup(forgotten, TIMEOUT))
            except Unknown:
                if not deadline.pause(1.0):
                    raise

    def refuses_another_request(self) -> None:
        """Send another request under the same key, which must be refused."""
        self._refused(self._ending(self.sent, LEAST_AHEAD + SLACK), "idempotency_error")

    def refuses_a_short_session(self) -> None:
        """Request a session of less than half an hour. The refusal is what fences a request that is delayed."""
        self._refused(self._ending(self._payment(), LEAST_AHEAD - 60))

    def ends(self) -> None:
        """Cancel the payment, which ends the session."""
        _canceled(self.gateway.cancel(self.created, TIMEOUT))

    def stays_ended(self) -> None:
        """Look the ended session up and cancel it again. It must stay canceled."""
        _canceled(self.gateway.lookup(self.created, TIMEOUT))
        _canceled(self.gateway.cancel(self.created, TIMEOUT))

    def has_a_statement(self) -> None:
        """Read the first entries of the account's statement."""
        list(islice(self.gateway.statement(), 3))

    def _payment(self) -> Payment:
        sale = HostedPayment(
            key=str(uuid4()), amount=AMOUNT, currency=self.currency, order_id=1,
            order_random_id=str(uuid4()), email="ada@example.com",
            return_url="https://shop.example.com/receipts/1", lines=[PaymentLine("Morning mug", 1, AMOUNT)],
        )  # fmt: skip
        return Payment(sale.key, sale.amount, sale.currency, gateway_request=self.gateway.prepare(sale))

    @staticmethod
    def _ending(payment: Payment, seconds: float) -> Payment:
        """Return the payment with a request whose session ends `seconds` from now."""
        stored: Mapping[str, Any] = payment.gateway_request or {}
        params = {**stored["params"], "expires_at": int(time() + seconds)}
        return replace(payment, gateway_request={**stored, "params": params})

    def _same_session(self, answer: Answer | None) -> None:
        if _open(answer).gateway_reference != self.created.gateway_reference:
            self._cancel_and_raise(self.sent, answer, "another session")

    def _cancel_and_raise(self, payment: Payment, answer: Answer | None, what: str) -> None:
        """Cancel a session that should not exist, and raise Unexpected."""
        self.gateway.cancel(replace(payment, gateway_reference=answer and answer.gateway_reference), TIMEOUT)
        raise Unexpected(what)

    def _refused(self, payment: Payment, code: str | None = None) -> None:
        try:
            answer = self.gateway.charge(payment, None, TIMEOUT)
        except ErrorAnswer as error:
            if (error.status, error.code) != (400, code):
                raise
            return
        if code or not answer.this_request_only:
            self._cancel_and_raise(payment, answer, "it was not refused")


def _open(answer: Answer | None) -> Answer:
    if answer is None or answer.outcome is not Outcome.REQUIRES_ACTION:
        raise Unexpected(answer.outcome if answer else "no session")
    return answer


def _canceled(answer: Answer | None) -> None:
    if answer is None or answer.outcome is not Outcome.CANCELED:
        raise Unexpected(answer.outcome if answer else "no session")


CHECKS: dict[str, Callable[[Trial], None]] = {
    "a session of the longest duration is created": Trial.creates,
    "the session is found by its id": Trial.found_by_id,
    "the same request under the same key returns the same session": Trial.found_by_repeating,
    "the session is found in the list": Trial.found_in_the_list,
    "another request under the same key is refused": Trial.refuses_another_request,
    "a session of less than half an hour is refused": Trial.refuses_a_short_session,
    "the session is ended": Trial.ends,
    "ending it again returns the same outcome": Trial.stays_ended,
    "the account's statement is readable": Trial.has_a_statement,
    "a payment is in the statement under our key": lambda trial: trial.payments.in_the_statement(),
    "a refund is made once per key": lambda trial: trial.payments.refunded_once(),
    "a refund of what was refunded is refused": lambda trial: trial.payments.refund_refused(),
    "a refund that fails later is reported": lambda trial: trial.payments.refund_fails_later(),
    "a dispute withdraws the amount": lambda trial: trial.payments.disputed(),
    "each webhook endpoint receives the events that PayOnce needs": lambda trial: trial.payments.events_wanted(),
}


def failures(trial: Trial) -> int:
    """Run all checks and print the result of each. Return the number of failures."""
    return sum(not _holds(name, check, trial) for name, check in CHECKS.items())


def _holds(name: str, check: Callable[[Trial], None], trial: Trial) -> bool:
    try:
        check(trial)
    except (Unexpected, NotSent, Unknown) as error:
        print(f"FAILED  {name}: {error}")
        return False
    print(f"ok      {name}")
    return True


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Return the exit code: 0 if all checks passed, 1 if one failed, 2 if nothing was sent."""
    try:
        settings = settings_of(environ)
        gateway = gateway_of(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failures(Trial(gateway, settings.shop_currency)) > 0)


if __name__ == "__main__":
    sys.exit(main())
