"""Limits that are counted in Redis: shared by all workers, and never in the way of a shopper if Redis is away.

Redis is a real server. The shop and its bank run in this process, as in all tests of this folder.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.security import REDIS_TIMEOUT, make_limiter
from app.settings import SettingsError
from tests.factories import DECLINES, SECRET, checkout_form, fill_basket
from tests.gateways.bank import ROOT
from tests.page import Page, Shopper
from tests.redis_server import RedisServer, running_redis
from tests.shops import Shop

AWAY = {"killed": RedisServer.kill, "frozen": RedisServer.freeze}


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def shop(make_shop: Callable[..., Shop], redis_server: RedisServer) -> Shop:
    return make_shop(limits_storage_url=redis_server.url)


def decline(shopper: Shopper) -> Page:
    return checkout_form(shopper, card_number=DECLINES).submit()


def logged(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the errors of all `limiter_failed` lines since the last call, one per request."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    found = [line for line in lines if line["event"] == "limiter_failed"]
    assert len({line["request_id"] for line in found}) == len(found), "a request asked again after a failure"
    return [line["error"] for line in found]


@pytest.mark.slow
def test_two_workers_count_together(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Each application has its own limiter and its own connections, as two workers or two hosts have."""
    here = shop.shopper()
    fill_basket(here)
    elsewhere = shop.another().shopper(like=here)
    assert [decline(shopper).status for shopper in (here, elsewhere) * 5] == [200] * 10
    assert [decline(shopper).status for shopper in (here, elsewhere)] == [429, 429]
    assert shop.charges() == {"declined": 10}
    assert logged(capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize("away", AWAY)
def test_a_redis_that_is_away_stops_nobody(
    shop: Shop, redis_server: RedisServer, away: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shopper is at the limit when Redis fails. A request asks a failed storage only once."""
    shopper = shop.shopper()
    fill_basket(shopper)
    for _ in range(10):
        decline(shopper)
    assert decline(shopper).status == 429
    assert logged(capsys) == []

    AWAY[away](redis_server)
    page = decline(shopper)
    assert (page.statuses, page.heading) == ([303, 200], "Your card was declined")
    paid = checkout_form(shopper).submit()
    assert (paid.statuses, paid.heading) == ([303, 200], "Paid: €24.00")
    errors = logged(capsys)
    assert len(errors) == 2
    assert set(errors) <= ({"ConnectionError"} if away == "killed" else {"TimeoutError"})
    assert [(moved.kind, moved.amount) for moved in shop.statement()] == [("charge", 2400)]


@pytest.mark.slow
def test_redis_counts_again_when_it_is_back(
    shop: Shop, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    shopper = shop.shopper()
    fill_basket(shopper)
    for _ in range(9):
        decline(shopper)
    redis_server.freeze()
    assert decline(shopper).status == 200
    assert logged(capsys) == ["TimeoutError"]
    redis_server.thaw()
    assert [decline(shopper).status for _ in range(2)] == [200, 429]
    redis_server.kill()
    redis_server.start()
    assert [decline(shopper).status for _ in range(11)] == [200] * 10 + [429], "a new Redis has counted nothing"
    assert logged(capsys) == []


@pytest.mark.slow
def test_a_redis_that_is_away_at_the_start_does_not_stop_it(
    make_shop: Callable[..., Shop], redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis_server.kill()
    shopper = make_shop(limits_storage_url=redis_server.url).shopper()
    fill_basket(shopper)
    assert checkout_form(shopper).submit().heading == "Paid: €24.00"
    assert logged(capsys) == ["ConnectionError"]


def test_every_wait_for_redis_is_bounded_and_none_is_repeated() -> None:
    """One time-out per request, for connecting or for the answer, keeps a silent Redis below about a second."""
    for url in ("redis://127.0.0.1:9", "rediss://127.0.0.1:9", "redis+unix:///nowhere"):
        connection = make_limiter(url).storage.storage.connection_pool.make_connection()
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (REDIS_TIMEOUT, REDIS_TIMEOUT)
        assert connection.retry.get_retries() == 0
    assert REDIS_TIMEOUT <= 0.5


def test_the_address_may_choose_another_time_out() -> None:
    limiter = make_limiter("redis://127.0.0.1:9?socket_timeout=2")
    assert limiter.storage.storage.connection_pool.make_connection().socket_timeout == 2


BAD = {
    "an unknown scheme": "cassandra://user:hunter2@db:9042",
    "an untested storage": "memcached://user:hunter2@db:11211",
    "an asynchronous storage": "async+memory://hunter2",
    "no scheme": "hunter2",
    "no port": "redis://user:hunter2@redis:port",
    "a password that is not quoted": "redis://user:hunter2/x@redis:6379",
    "a broken address": "redis://[hunter2",
    "an unknown option": "redis://user:hunter2@redis:6379?colour=red",
    "an option that makes no sense": "redis://user:hunter2@redis:6379?socket_timeout=soon",
}


@pytest.mark.parametrize("name", BAD)
def test_a_storage_that_makes_no_sense_stops_the_start_with_one_line(name: str) -> None:
    with pytest.raises(SettingsError) as told:
        make_limiter(BAD[name])
    assert str(told.value).startswith("LIMITS_STORAGE_URL ")
    assert "\n" not in str(told.value)
    assert "hunter2" not in str(told.value), "the address may contain a password"


WITHOUT_REDIS = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import wsgi
"""
"""Starts the shop as gunicorn does, in an installation without the optional package."""


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
