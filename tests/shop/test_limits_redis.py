"""Limits that are counted in Redis: all workers share them, and a Redis that fails never stops a payment.

Redis is a real server. The shop and its bank run in this process, as in all tests of this folder.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.limiter import REDIS_TIMEOUT, make_limiter
from app.settings import SettingsError
from tests.factories import DECLINES, SECRET, checkout_form, fill_basket
from tests.gateways.bank import ROOT
from tests.page import Page, Shopper
from tests.redis_server import RedisServer, running_redis
from tests.shops import Shop
from tests.silence import Line, at, line

FAILURES = {"killed": "ConnectionError", "frozen": "TimeoutError", "link down": "TimeoutError"}
"""What happens to Redis, and the error that is logged."""


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def shop(make_shop: Callable[..., Shop], redis_server: RedisServer) -> Shop:
    return make_shop(limits_storage_url=redis_server.url)


@pytest.fixture
def link(redis_server: RedisServer) -> Iterator[Line]:
    """Yield a link to Redis that can go down."""
    with line(at(redis_server.url), "wire") as link:
        yield link


def decline(shopper: Shopper) -> Page:
    """Pay with a card that is declined. Return the page."""
    return checkout_form(shopper, card_number=DECLINES).submit()


def logged_errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the errors of all `limiter_failed` lines since the last call, at most one per request."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    found = [line for line in lines if line["event"] == "limiter_failed"]
    assert len({line["request_id"] for line in found}) == len(found), (
        "a request asked the storage again after a failure"
    )
    return [line["error"] for line in found]


@pytest.mark.slow
def test_two_workers_count_together(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Each application has its own limiter and its own connections, as two workers or two hosts have."""
    at_one = shop.shopper()
    fill_basket(at_one)
    at_other = shop.another().shopper(like=at_one)
    assert [decline(shopper).status for shopper in (at_one, at_other) * 5] == [200] * 10
    assert [decline(shopper).status for shopper in (at_one, at_other)] == [429, 429]
    assert shop.charges() == {"declined": 10}
    assert logged_errors(capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_a_shopper_is_not_refused_while_redis_fails(
    make_shop: Callable[..., Shop], redis_server: RedisServer, link: Line, failure: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The shopper is at the limit when Redis fails. Each request then asks the storage only once."""
    fail = {"killed": redis_server.kill, "frozen": redis_server.freeze, "link down": link.go_silent}[failure]
    shop = make_shop(
        limits_storage_url=f"redis://{link.host}:{link.port}" if failure == "link down" else redis_server.url
    )
    shopper = shop.shopper()
    fill_basket(shopper)
    for _ in range(10):
        decline(shopper)
    assert decline(shopper).status == 429
    assert logged_errors(capsys) == []

    fail()
    page = decline(shopper)
    assert (page.statuses, page.heading) == ([303, 200], "Your card was declined")
    paid = checkout_form(shopper).submit()
    assert (paid.statuses, paid.heading) == ([303, 200], "Paid: €24.00")
    errors = logged_errors(capsys)
    assert len(errors) == 2
    assert set(errors) == {FAILURES[failure]}
    assert [(entry.kind, entry.amount) for entry in shop.statement()] == [("charge", 2400)]
    if failure == "link down":
        link.restore()
        fill_basket(shopper)
        assert decline(shopper).status == 429, "declines are counted again"


@pytest.mark.slow
def test_declines_are_counted_again_when_redis_is_back(
    shop: Shop, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    for _ in range(9):
        decline(shopper)
    redis_server.freeze()
    assert decline(shopper).status == 200
    assert logged_errors(capsys) == ["TimeoutError"]
    redis_server.thaw()
    assert [decline(shopper).status for _ in range(2)] == [200, 429]
    redis_server.kill()
    redis_server.start()
    assert [decline(shopper).status for _ in range(11)] == [200] * 10 + [429], "a new Redis starts without counts"
    assert logged_errors(capsys) == []


@pytest.mark.slow
def test_the_shop_starts_without_redis(
    make_shop: Callable[..., Shop], redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis_server.kill()
    shopper = make_shop(limits_storage_url=redis_server.url).shopper()
    fill_basket(shopper)
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    assert logged_errors(capsys) == ["ConnectionError"]


def test_every_wait_for_redis_is_bounded_and_none_is_repeated() -> None:
    """A Redis that does not respond delays a request by one time-out: for connecting or for its response."""
    for url in ("redis://127.0.0.1:9", "rediss://127.0.0.1:9", "redis+unix:///nowhere"):
        connection = make_limiter(url).storage.storage.connection_pool.make_connection()
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (REDIS_TIMEOUT, REDIS_TIMEOUT)
        assert connection.retry.get_retries() == 0
    assert REDIS_TIMEOUT <= 0.5


def test_the_url_can_set_another_time_out() -> None:
    limiter = make_limiter("redis://127.0.0.1:9?socket_timeout=2")
    assert limiter.storage.storage.connection_pool.make_connection().socket_timeout == 2


INVALID = {
    "an unknown scheme": "cassandra://user:hunter2@db:9042",
    "an untested storage": "memcached://user:hunter2@db:11211",
    "an asynchronous storage": "async+memory://hunter2",
    "no scheme": "hunter2",
    "no port": "redis://user:hunter2@redis:port",
    "a password that is not quoted": "redis://user:hunter2/x@redis:6379",
    "a malformed URL": "redis://[hunter2",
    "an unknown option": "redis://user:hunter2@redis:6379?colour=red",
    "an option with an invalid value": "redis://user:hunter2@redis:6379?socket_timeout=soon",
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_storage_url_stops_the_start_with_one_line(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_limiter(INVALID[name])
    assert str(caught.value).startswith("LIMITS_STORAGE_URL ")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value), "the URL may contain a password"


WITHOUT_REDIS = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import wsgi
"""
"""Start the shop as gunicorn does, in an installation without the optional package."""


@pytest.mark.slow
def test_a_missing_package_stops_the_start_with_one_line(tmp_path: Path) -> None:
    environ = {"SECRET_KEY": SECRET, "DATABASE_URL": f"sqlite:///{tmp_path}/private/shop.sqlite"}
    command = [sys.executable, "-c", WITHOUT_REDIS]
    for storage, code in (("memory://", 0), ("redis://user:hunter2@redis:6379", 1)):
        environ["LIMITS_STORAGE_URL"] = storage
        start = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True)
        assert start.returncode == code, start.stderr
    [line] = start.stderr.splitlines()
    assert line.startswith("PayOnce can't start: LIMITS_STORAGE_URL can't be used: 'redis' prerequisite not available")
    assert "hunter2" not in line
