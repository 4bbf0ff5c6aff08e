"""SIGTERM: /readyz fails first, the shop serves on until balancers have noticed, then it stops."""

import signal
from collections.abc import Callable

import httpx
import pytest

from tests.gateways.bank import until
from tests.processes.running import RunningShop
from tests.server.masters import children, end, upgrade

pytestmark = pytest.mark.slow


def get(shop: RunningShop, path: str) -> httpx.Response:
    return httpx.get(f"{shop.url}{path}", trust_env=False, timeout=60)


def test_a_stopping_host_is_not_ready_but_serves(make_running: Callable[..., RunningShop]) -> None:
    shop = make_running(workers=2, DRAIN_SECONDS="8")
    assert shop.process
    assert get(shop, "/readyz").status_code == 200
    shop.process.send_signal(signal.SIGTERM)
    until(lambda: get(shop, "/readyz").status_code == 503, 30)
    assert get(shop, "/readyz").text == "the host is about to stop\n"
    assert get(shop, "/").status_code == get(shop, "/healthz").status_code == 200
    for pid in children(shop.process.pid)[:1]:
        end(pid, signal.SIGKILL)
    assert get(shop, "/readyz").status_code == 503, "the other worker and its replacement are draining, too"
    assert shop.process.wait(60) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_second_signal_stops_at_once(make_running: Callable[..., RunningShop], second: signal.Signals) -> None:
    shop = make_running(DRAIN_SECONDS="3600")
    assert shop.process
    shop.process.send_signal(signal.SIGTERM)
    until(lambda: get(shop, "/readyz").status_code == 503, 30)
    shop.process.send_signal(second)
    assert shop.process.wait(60) == 0


def test_a_host_that_is_upgraded_stays_ready(make_running: Callable[..., RunningShop]) -> None:
    """The master before does not drain, because the new one serves on the same address."""
    shop = make_running(DRAIN_SECONDS="3600")
    new = upgrade(shop)
    try:
        assert shop.stop() == 0
        assert get(shop, "/readyz").status_code == 200
    finally:
        end(new, signal.SIGQUIT)


def test_a_reload_does_not_drain(make_running: Callable[..., RunningShop]) -> None:
    shop = make_running(DRAIN_SECONDS="3600")
    assert shop.process
    before = children(shop.process.pid)
    shop.process.send_signal(signal.SIGHUP)
    master = shop.process.pid
    until(lambda: get(shop, "/readyz").status_code == 200 and not set(children(master)) & set(before), 60)
    shop.process.send_signal(signal.SIGQUIT)
    assert shop.process.wait(60) == 0
