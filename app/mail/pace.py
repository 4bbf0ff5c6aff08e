"""How many receipt e-mails one person can get: a shopper can enter a stranger's address.

E-mails beyond the limits are sent later, not dropped: they are receipts of money that was taken.
"""

from hashlib import sha256
from time import time

import structlog
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.strategies import RateLimiter

from app.mail.outbox import Postponed

LIMITS = (parse("5 per hour"), parse("20 per day"))
"""E-mails to one person. Shoppers seldom pay more often, and so many do not flood a stranger."""

log = structlog.get_logger()


class Pace:
    """Counts the e-mails that were sent to each person. With LIMITS_STORAGE_URL=memory://, each worker counts its own.

    If the storage of the limits fails, every e-mail is sent at once.
    """

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    def check(self, address: str) -> None:
        """Raise Postponed if this person has had enough e-mails for now."""
        person = _person(address)
        try:
            waits = [self._seconds(rate, person) for rate in LIMITS if not self._limiter.test(rate, "emails", person)]
        except StorageError as error:
            log.warning("limiter_failed", error=type(error.storage_error).__name__)
            return
        if waits:
            raise Postponed(max(waits), "too many e-mails to one address")

    def count(self, address: str) -> None:
        """Count one e-mail that was sent."""
        try:
            for rate in LIMITS:
                self._limiter.hit(rate, "emails", _person(address))
        except StorageError as error:
            log.warning("limiter_failed", error=type(error.storage_error).__name__)

    def _seconds(self, rate: RateLimitItem, person: str) -> float:
        """Return the seconds until the limit's window ends."""
        return max(1.0, self._limiter.get_window_stats(rate, "emails", person).reset_time - time())


def _person(address: str) -> str:
    """Return a hash that is equal for spellings which usually reach one mailbox: Ada.L+shop@… and adal@…"""
    name, _, domain = address.casefold().rpartition("@")
    mailbox = name.partition("+")[0].replace(".", "")
    return sha256(f"{mailbox}@{domain}".encode()).hexdigest()
