"""The host names under which the shop answers, and the address that its links have."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app import hosts
from tests.factories import ASKS_SHOPPER, ready_to_pay
from tests.shop.test_security import policy
from tests.shops import Shop


@pytest.fixture
def engine_name() -> str:
    """Run these tests on one engine, because they are about requests."""
    return "sqlite"


@pytest.fixture
def public(make_shop: Callable[..., Shop]) -> Shop:
    """Return a shop in production, behind a proxy on the same machine."""
    return make_shop(shop_hosts=("shop.example",), trusted_proxies=("127.0.0.1/32",))


def get(shop: Shop, path: str, host: str, address: str = "127.0.0.1", **headers: str) -> httpx.Response:
    return shop.shopper(address=address).client.get(path, headers={"Host": host, **headers})


def test_a_foreign_host_is_refused(shop: Shop) -> None:
    client = shop.shopper().client
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "127.0.0.1@evil.example"):
        for method, path in (("GET", "/"), ("GET", "/nothing"), ("POST", "/checkout")):
            response = client.request(method, path, headers={"Host": host})
            assert response.status_code == 400
            assert host not in response.text
            assert policy(response)["default-src"] == "'none'"


def test_our_own_hosts_are_accepted_with_any_port(shop: Shop) -> None:
    for host in ("127.0.0.1:8000", "localhost", "localhost:9999"):
        assert shop.shopper().client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:8000", "localhost:80"])
def test_loopback_names_are_for_health_checks_from_this_machine_only(public: Shop, host: str) -> None:
    for path in hosts.HEALTH_PATHS:
        assert get(public, path, host).status_code == 200
        assert get(public, path, host, **{"X-Forwarded-For": "203.0.113.9"}).status_code == 400
        assert get(public, path, host, address="203.0.113.9").status_code == 400
    for path in ("/", "/nothing", "/receipts"):
        assert get(public, path, host).status_code == 400
        assert get(public, path, "shop.example").status_code in (200, 404)


def test_the_log_says_what_is_missing(public: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    """A proxy that does not pass Host, and a name that nobody has listed. A scanner's many names fill no disk."""
    for host, words in (("127.0.0.1:8000", "proxy_set_header Host"), ("www.shop.example", "SHOP_HOSTS")):
        other = public.another()
        for _ in range(50):
            assert get(other, "/", host).status_code == 400
        [line] = [line for line in capfd.readouterr().err.splitlines() if "host_refused" in line]
        logged = json.loads(line)
        assert logged["host"] == host
        assert words in logged["hint"]
        other.close()


def test_a_refused_name_is_cut_in_the_log(public: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    get(public, "/", "x" * 5000)
    assert len(capfd.readouterr().err) < 600


CANONICAL = "https://shop.example"


def test_links_have_the_canonical_address(make_shop: Callable[..., Shop]) -> None:
    """In the e-mail, and as the way back from the gateway, whatever name the request had."""
    shop = make_shop(shop_url=CANONICAL)
    assert get(shop, "/", "shop.example").status_code == 200, "its host need not be in SHOP_HOSTS"
    receipt = ready_to_pay(shop.shopper()).submit()
    waiting = ready_to_pay(shop.shopper(), card_number=ASKS_SHOPPER, email="b@example.org").post()
    assert waiting.headers["Location"].startswith("http://127.0.0.1:8010/3ds/")
    links = [row.receipt_url for row in shop.rows("SELECT receipt_url FROM charge ORDER BY id")]
    assert links[0] == f"{CANONICAL}{receipt.path}"
    assert links[1].startswith(f"{CANONICAL}/receipts/")
    [returns] = _bank_rows(shop, "SELECT return_url FROM bank_account_charge WHERE status = 'requires_action'")
    assert returns.return_url == links[1]


def test_without_a_canonical_address_links_have_that_of_the_request(shop: Shop) -> None:
    receipt = ready_to_pay(shop.shopper()).submit()
    assert shop.value("SELECT receipt_url FROM charge") == f"http://127.0.0.1:8000{receipt.path}"


def _bank_rows(shop: Shop, sql: str) -> list[Any]:
    with shop.bank.config["BOOKS"].connect() as connection:
        return list(connection.exec_driver_sql(sql).all())


@pytest.mark.parametrize("client", ["unknown", "_hidden", "203.0.113.9:1234", "::ffff:127.0.0.1.", ""])
def test_a_client_address_that_is_none_gets_no_more_than_a_stranger(public: Shop, client: str) -> None:
    """A trusted proxy may write anything into X-Forwarded-For, or pass it on."""
    forwarded = {"X-Forwarded-For": client}
    http = public.shopper().client
    assert http.get("/", headers={"Host": "shop.example", **forwarded}).status_code == 200
    if client:
        assert http.get("/readyz", headers={"Host": "127.0.0.1", **forwarded}).status_code == 400
        assert http.get("/metrics", headers={"Host": "shop.example", **forwarded}).status_code == 404
