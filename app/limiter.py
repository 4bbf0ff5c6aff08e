"""Counters behind every limit: in this process, or in Redis for all workers and hosts.

If the storage fails, everything is allowed: the shop must continue to sell.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

import structlog
from flask import g, request
from limits import RateLimitItem
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter, RateLimiter

from app import current, networks
from app.settings import SettingsError

Result = TypeVar("Result")

LIMITER_STORAGES = ("memory", "redis", "rediss", "redis+unix")
REDIS_TIMEOUT = 0.5
"""Seconds in which Redis must accept a connection, and then respond. Longer waits would delay every checkout."""

NETWORK_BITS = {4: 32, 6: 64}
"""Bits of an address that count, by IP version: a household or server can use all addresses of an IPv6 /64."""

PSEUDONYM_LENGTH = 16

log = structlog.get_logger()


class Window(NamedTuple):
    """What was counted in the present window, and when the window began, in seconds since 1970."""

    used: int
    began: float


def network() -> str:
    """Return the network that the client is counted by: its IPv4 address, or the /64 of its IPv6 address."""
    return networks.shortened(request.remote_addr, NETWORK_BITS) or str(request.remote_addr)


def network_pseudonym() -> str:
    """Return a text that is the same for all requests from the client's network and does not show which one it is."""
    secret = current.settings().secret_key.encode()
    return hmac.new(secret, network().encode(), sha256).hexdigest()[:PSEUDONYM_LENGTH]


def window(rate: RateLimitItem, *name: str) -> Window:
    """Return what was counted under this name."""

    def read() -> Window:
        reset_time, remaining = current.limiter().get_window_stats(rate, *name)
        return Window(rate.amount - remaining, reset_time - rate.get_expiry())

    return _unless_it_fails(read, Window(0, 0.0))


def count(rate: RateLimitItem, *name: str, weight: int = 1) -> bool:
    """Count `weight` under this name. Return False if that is more than the rate allows."""
    return _unless_it_fails(lambda: current.limiter().hit(rate, *name, cost=weight), True)


def take(rate: RateLimitItem, *name: str) -> bool:
    """Count 1 if the rate allows it, and return whether it did. This also holds for simultaneous requests."""
    allowed = count(rate, *name)
    if not allowed:
        give_back(rate, *name)
    return allowed


def give_back(rate: RateLimitItem, *name: str) -> None:
    """Undo a `take`."""
    count(rate, *name, weight=-1)


def _unless_it_fails(use: Callable[[], Result], otherwise: Result) -> Result:
    """Use the storage. If it fails, return `otherwise`.

    After a failure, the same request does not use the storage again. So a storage that does not respond delays a
    request by one time-out at most.
    """
    if g.get("limiter_failed"):
        return otherwise
    try:
        return use()
    except StorageError as error:
        g.limiter_failed = True
        log.warning("limiter_failed", error=type(error.storage_error).__name__)
        return otherwise


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
