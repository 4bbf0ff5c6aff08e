"""python -m tests.stripe.verify: what a stand-in can't show, asked of Stripe itself, through the shop's own gateway.

With a test key in STRIPE_SECRET_KEY; nothing is paid, and every session that is made is ended again. One line a
check. Exit 1 where one failed, 2 where nothing was sent, as with a live key.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
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

SETTINGS = ("STRIPE_SECRET_KEY", "STRIPE_API_BASE", "SHOP_CURRENCY")
AMOUNT = 20_000
"""Minor units: above every minimum, below every maximum, and with no third decimal place in any currency."""

PATIENCE = 15.0
"""Seconds for a new session to appear in the list."""

TIMEOUT = 20.0


class Odd(Exception):
    """Something else came than what was written for."""


def gateway_of(settings: Settings) -> StripeGateway:
    """The gateway of a test account. Raises SettingsError, before anything is sent."""
    if "_live_" in settings.stripe_secret_key:
        raise SettingsError("STRIPE_SECRET_KEY is a live key; this makes sessions, so it takes test keys only")
    gateway = start.from_settings(settings)
    assert gateway is not None
    return gateway


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Only what concerns Stripe; no secret of the shop's own is needed here. Raises SettingsError."""
    given = {name: environ.get(name, "") for name in SETTINGS}
    longest = {"ACTION_WINDOW": str(LONGEST_WINDOW)}
    return Settings.from_environ(given | longest | {"PAYMENT_GATEWAY": "stripe", "SECRET_KEY": "unused " * 3})


class Trial:
    """One session, from its making to its end. Every method is a check: it raises where something else came."""

    def __init__(self, gateway: StripeGateway, currency: str) -> None:
        self.gateway, self.currency = gateway, currency
        self.sent = self.made = self._payment()

    def makes(self) -> None:
        answer = self.gateway.charge(self.sent, None, TIMEOUT)
        self.made = replace(self.sent, gateway_reference=answer.gateway_reference)
        page = urlsplit(_open(answer).action_url or "")
        if f"{page.scheme}://{page.netloc}" != self.gateway.page_origin:
            raise Odd(f"its page is at {page.netloc}, where the security policy lets no form lead to")

    def found_by_id(self) -> None:
        self._the_one(self.gateway.lookup(self.made, TIMEOUT))

    def found_by_repeating(self) -> None:
        self._the_one(self.gateway.charge(self.sent, None, TIMEOUT))
        self._the_one(self.gateway.lookup(self.sent, TIMEOUT))

    def found_in_the_list(self) -> None:
        """As it is looked for when its key is forgotten: its request may not be repeated any more."""
        deadline, forgotten = Deadline(PATIENCE), self._ending(self.sent, LEAST_AHEAD - 1)
        while True:
            try:
                return self._the_one(self.gateway.lookup(forgotten, TIMEOUT))
            except Unknown:
                if not deadline.pause(1.0):
                    raise

    def refuses_another_request(self) -> None:
        self._refused(self._ending(self.sent, LEAST_AHEAD + SLACK), "idempotency_error")

    def refuses_a_short_session(self) -> None:
        """What can't be made any more after some time is what fences a key that was never heard of."""
        self._refused(self._ending(self._payment(), LEAST_AHEAD - 60))

    def ends(self) -> None:
        _canceled(self.gateway.cancel(self.made, TIMEOUT))

    def ended_for_good(self) -> None:
        _canceled(self.gateway.lookup(self.made, TIMEOUT))
        _canceled(self.gateway.cancel(self.made, TIMEOUT))

    def tells_what_moved(self) -> None:
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
        """The same, but its session ends so many seconds from now."""
        kept: Mapping[str, Any] = payment.gateway_request or {}
        params = {**kept["params"], "expires_at": int(time() + seconds)}
        return replace(payment, gateway_request={**kept, "params": params})

    def _the_one(self, answer: Answer | None) -> None:
        if _open(answer).gateway_reference != self.made.gateway_reference:
            self._not_wanted(self.sent, answer, "another session")

    def _not_wanted(self, payment: Payment, answer: Answer | None, what: str) -> None:
        """A session that should not be there must not stay."""
        self.gateway.cancel(replace(payment, gateway_reference=answer and answer.gateway_reference), TIMEOUT)
        raise Odd(what)

    def _refused(self, payment: Payment, code: str | None = None) -> None:
        try:
            answer = self.gateway.charge(payment, None, TIMEOUT)
        except ErrorAnswer as refused:
            if refused.status != 400 or refused.code != (code or refused.code):
                raise
            return
        self._not_wanted(payment, answer, "it was not refused")


def _open(answer: Answer | None) -> Answer:
    if answer is None or answer.outcome is not Outcome.REQUIRES_ACTION:
        raise Odd(answer.outcome if answer else "no session")
    return answer


def _canceled(answer: Answer | None) -> None:
    if answer is None or answer.outcome is not Outcome.CANCELED:
        raise Odd(answer.outcome if answer else "no session")


CHECKS: dict[str, Callable[[Trial], None]] = {
    "a session is made, as long as any may be": Trial.makes,
    "it is found by its id": Trial.found_by_id,
    "the same request under the same key brings it back": Trial.found_by_repeating,
    "the list shows it": Trial.found_in_the_list,
    "another request under the same key is refused": Trial.refuses_another_request,
    "a session of less than half an hour is refused": Trial.refuses_a_short_session,
    "it is ended": Trial.ends,
    "ending what has ended answers the same": Trial.ended_for_good,
    "the account's statement is readable": Trial.tells_what_moved,
}


def failures(trial: Trial) -> int:
    """Go through all checks, telling each; how many failed."""
    return sum(not _holds(name, check, trial) for name, check in CHECKS.items())


def _holds(name: str, check: Callable[[Trial], None], trial: Trial) -> bool:
    try:
        check(trial)
    except (Odd, NotSent, Unknown) as came:
        print(f"FAILED  {name}: {came}")
        return False
    print(f"ok      {name}")
    return True


def main(environ: Mapping[str, str] = os.environ) -> int:
    """0: all as written for; 1: some is not; 2: nothing was sent."""
    try:
        settings = settings_of(environ)
        gateway = gateway_of(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return int(failures(Trial(gateway, settings.shop_currency)) > 0)


if __name__ == "__main__":
    sys.exit(main())
