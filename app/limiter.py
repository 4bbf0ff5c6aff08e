"""Limits on card testing: how many declined cards one browser and one address may try."""

from collections.abc import Callable
from typing import Any

import structlog
from flask import g, request
from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, RateLimiter

from app import current
from app.security import buyer_id
from app.settings import SettingsError

log = structlog.get_logger()

DECLINES_PER_BUYER = parse("10 per 10 minutes")
DECLINES_PER_ADDRESS = parse("100 per 10 minutes")
"""Higher than the limit per buyer, because offices and mobile networks share one address. Card testing needs thousands
of tries."""

LIMITER_STORAGES = ("memory", "redis", "rediss", "redis+unix")
REDIS_TIMEOUT = 0.5
"""Seconds in which Redis must accept a connection, and then respond. Longer waits would delay every checkout."""


class TooManyDeclines(Exception):
    """Too many cards from this browser or address were declined, which is a sign of card testing."""


def check_declines() -> None:
    """Raise TooManyDeclines if a limit is reached. Only declines count, so shoppers who pay never reach one."""
    if not all(_allows(current.limiter().test, rate, identifier) for rate, identifier in _decline_limits()):
        raise TooManyDeclines


def count_decline() -> None:
    """Count one declined card for this browser and for its address."""
    for rate, identifier in _decline_limits():
        _allows(current.limiter().hit, rate, identifier)


def _allows(test_or_hit: Callable[..., bool], rate: RateLimitItem, identifier: str) -> bool:
    """Return whether the limiter allows the request. If its storage fails, allow it: the shop must continue to sell.

    After a failure, the same request does not use the storage again. So a storage that does not respond delays a
    request by one time-out at most.
    """
    if g.get("limiter_failed"):
        return True
    try:
        return test_or_hit(rate, "declines", identifier)
    except StorageError as error:
        g.limiter_failed = True
        log.warning("limiter_failed", error=type(error.storage_error).__name__)
        return True


def _decline_limits() -> list[tuple[RateLimitItem, str]]:
    """Return each limit with the browser or address whose declines it counts."""
    return [(DECLINES_PER_BUYER, buyer_id().hex), (DECLINES_PER_ADDRESS, str(request.remote_addr))]


def make_limiter(storage_url: str) -> RateLimiter:
    """Return the counter behind the rate limits. It connects to its storage when it is first used.

    Raises SettingsError if the storage is unknown or its client is not installed. The message never contains the
    URL, because a URL may contain a password.
    """
    scheme = storage_url.partition(":")[0]
    if scheme not in LIMITER_STORAGES:
        known = ", ".join(f"{name}://" for name in LIMITER_STORAGES)
        raise SettingsError(f"LIMITS_STORAGE_URL must begin with one of {known}")
    try:
        storage = _redis(storage_url) if scheme.startswith("redis") else storage_from_string(storage_url)
        return FixedWindowRateLimiter(storage)
    except ConfigurationError as error:
        raise SettingsError(f"LIMITS_STORAGE_URL can't be used: {error}") from None
    except (TypeError, ValueError):
        raise SettingsError("LIMITS_STORAGE_URL is not a valid URL, or has an unknown option") from None


def _redis(url: str) -> Any:
    """Return the storage. Raises TypeError or ValueError if the URL or one of its options is invalid."""
    options = {"socket_timeout": REDIS_TIMEOUT, "socket_connect_timeout": REDIS_TIMEOUT}
    storage: Any = storage_from_string(url, wrap_exceptions=True, **options)
    pool = storage.storage.connection_pool
    # This checks the options now. Otherwise a wrong one would fail in every checkout.
    pool.connection_class(**pool.connection_kwargs)
    return storage
