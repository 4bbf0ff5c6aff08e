"""For every gateway: a host name with several addresses, of which some are dead, costs one deadline in total.

A dead address is a real address of this machine that drops every SYN, as a firewall or a lost host does. Only name
resolution is replaced. The tests check the time-out of each attempt, not the clock.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import httpx
import pytest

from app.gateways.base import Answer, NotSent, Outcome
from app.gateways.http import Clients, deadline
from tests.gateways.contract import COUNTERPARTS, TIMEOUT, Counterpart
from tests.network import dropping, resolving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers to all of 127.0.0.0/8"),
]

DEAD = ("127.0.0.2", "127.0.0.3")
NAME = "localhost"
"""The only host name to which the Stripe client sends a test key without TLS."""

ROUNDING = 0.01
"""Seconds by which the operating system may end a wait early."""


@pytest.fixture(scope="module", params=COUNTERPARTS, ids=[counterpart.name for counterpart in COUNTERPARTS])
def counterpart(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterpart]:
    with request.param(tmp_path_factory.mktemp(request.param.name)) as counterpart:
        yield counterpart


@pytest.fixture
def port(counterpart: Counterpart) -> int:
    return httpx.URL(counterpart.origin).port or 80


@pytest.fixture
def dead(port: int) -> Iterator[tuple[str, ...]]:
    """Addresses that drop every attempt to connect to the gateway's port."""
    with dropping(DEAD, port):
        yield DEAD


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes NAME resolve to these addresses, in this order."""
    return lambda *addresses: resolving(monkeypatch, *addresses, name=NAME)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The address and the time-out in seconds of every attempt to connect. The attempts are real."""
    made: list[tuple[str, float]] = []
    real = httpcore.SyncBackend.connect_tcp

    def connect(backend: Any, host: str, port: int, timeout: float, *rest: Any) -> Any:
        made.append((host, timeout))
        return real(backend, host, port, timeout, *rest)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    return made


def charge(counterpart: Counterpart, port: int, seconds: float) -> Answer:
    return counterpart.new_client(f"http://{NAME}:{port}").charge(counterpart.payment(), counterpart.card, seconds)


def check_shares(attempts: list[tuple[str, float]], addresses: tuple[str, ...], seconds: float) -> None:
    """Each attempt got at most an equal share of the time that was left, so together they fit into `seconds`."""
    assert [address for address, _ in attempts] == list(addresses[: len(attempts)])
    left = seconds
    for number, (_, timeout) in enumerate(attempts):
        assert 0 < timeout <= left / (len(addresses) - number) + ROUNDING
        left -= timeout
    assert left >= -ROUNDING


def test_only_dead_addresses_cost_one_deadline(
    counterpart: Counterpart, port: int, dead: tuple[str, ...], resolve: Callable[..., None],
    attempts: list[tuple[str, float]],
) -> None:  # fmt: skip
    resolve(*dead)
    with pytest.raises(NotSent):
        charge(counterpart, port, 1.0)
    check_shares(attempts, dead, 1.0)


def test_dead_addresses_leave_time_for_a_live_one(
    counterpart: Counterpart, port: int, dead: tuple[str, ...], resolve: Callable[..., None],
    attempts: list[tuple[str, float]],
) -> None:  # fmt: skip
    addresses = (*dead, "127.0.0.1")
    resolve(*addresses)
    assert charge(counterpart, port, 4.0).outcome is Outcome.REQUIRES_ACTION
    assert [address for address, _ in attempts[:3]] == list(addresses)
    check_shares(attempts[:3], addresses, 4.0)


def test_a_live_address_that_comes_first_is_the_only_one_tried(
    counterpart: Counterpart, port: int, dead: tuple[str, ...], resolve: Callable[..., None],
    attempts: list[tuple[str, float]],
) -> None:  # fmt: skip
    resolve("127.0.0.1", *dead)
    gateway = counterpart.new_client(f"http://{NAME}:{port}")
    assert gateway.lookup(counterpart.aged(counterpart.payment()), TIMEOUT) is None
    assert {address for address, _ in attempts} == {"127.0.0.1"}


@pytest.mark.parametrize("bound", ["deadline", "time-out"])
def test_connecting_is_bounded_with_and_without_a_deadline(
    port: int, dead: tuple[str, ...], resolve: Callable[..., None], attempts: list[tuple[str, float]], bound: str
) -> None:
    """Reading the statement has no deadline in total, only a time-out for each step. Connecting is one step."""
    resolve(*dead)
    clients = Clients(None, timeout=1.0 if bound == "time-out" else None)
    with deadline(1.0 if bound == "deadline" else 3600), pytest.raises(httpx.ConnectTimeout):
        clients.here().get(f"http://{NAME}:{port}/")
    clients.close()
    check_shares(attempts, dead, 1.0)
