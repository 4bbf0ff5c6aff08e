"""The bank or the database is away: what the pages say is true, and the shop heals by itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.factories import MUG, fields, ready_to_pay
from tests.shops import Shop


class Closed(httpx.BaseTransport):
    """Nobody listens."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")


class Drops(httpx.BaseTransport):
    """Takes everything in and never gives an answer."""

    def __init__(self, bank: object) -> None:
        self.bank = httpx.WSGITransport(app=bank)  # type: ignore[arg-type]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.bank.handle_request(request)
        raise httpx.ReadError("reset")


def test_a_bank_that_can_not_be_reached(shop: Shop) -> None:
    shop.way_to_bank(Closed())
    page = ready_to_pay(shop.shopper()).submit()
    assert page.heading == "Nothing was charged"
    assert "The bank could not be reached, so the payment was never sent. No money was taken." in page.text
    assert "Your basket is as it was. You can pay now." in page.text
    assert shop.stock(MUG) == 200
    shop.way_to_bank(httpx.WSGITransport(app=shop.bank))
    assert page.follow("Pay again").submit("Pay", **fields()).heading == "Paid: €24.00"


def test_an_answer_that_is_lost_every_time(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.5)
    shop.way_to_bank(Drops(shop.bank))
    page = ready_to_pay(shop.shopper()).submit()
    assert page.heading == "Your payment is still being confirmed"
    assert "No money was taken" not in page.text
    assert [line.amount for line in shop.statement()] == [2400], "once, however often it was asked for"
    assert shop.charges() == {"in_doubt": 1}


class Storage:
    """The shop over a database of its own that can go away and come back."""

    def __init__(self, url: str, folder: Path, server: object) -> None:
        self.shop, self.url, self.folder, self.server = Shop(url, folder), url, folder, server
        self.name = url.rpartition("/")[2].partition("?")[0]

    def leave(self) -> None:
        if self.server is None:
            self.shop.close()
            (self.folder / "storage").rename(self.folder / "elsewhere")
        else:
            self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false')  # type: ignore[attr-defined]
            self.server.terminate(self.name)  # type: ignore[attr-defined]

    def come_back(self) -> None:
        if self.server is None:
            (self.folder / "elsewhere").rename(self.folder / "storage")
        else:
            self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')  # type: ignore[attr-defined]


@pytest.fixture
def storage(own_url: str, engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Storage]:
    server = request.getfixturevalue("postgres") if engine_name == "postgresql" else None
    made = Storage(own_url, tmp_path, server)
    yield made
    made.shop.close()


def test_a_database_that_is_away_before_the_claim(storage: Storage) -> None:
    form = ready_to_pay(storage.shop.shopper())
    storage.leave()
    page = form.submit()
    assert (page.status, page.heading) == (503, "The shop can't reach its records right now")
    assert "This try took no money" in page.text
    assert page.answer.headers["Retry-After"] == "5"
    assert storage.shop.statement() == []
    storage.come_back()
    assert form.submit().heading == "Paid: €24.00", "the same form is still good"


def test_a_database_that_goes_away_while_the_bank_is_asked(storage: Storage) -> None:
    """The money has moved; the way leads to the receipt, which tells as soon as it can."""
    shop = storage.shop
    form = ready_to_pay(shop.shopper())

    class Leaves(httpx.WSGITransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            storage.leave()
            return super().handle_request(request)

    shop.way_to_bank(Leaves(app=shop.bank))
    answer = form.post()
    assert answer.status_code == 303
    waiting = form.page.shopper.open(answer.headers["Location"])
    assert waiting.status == 503
    assert "Do not pay again." in waiting.text
    assert "No money" not in waiting.text and "Nothing was charged" not in waiting.text
    storage.come_back()
    assert waiting.reload().heading == "Your payment is being confirmed"
    assert form.submit().url.endswith(answer.headers["Location"])
    assert len(shop.statement()) == 1


def test_every_page_says_so(storage: Storage) -> None:
    shopper = storage.shop.shopper()
    shopper.open("/")
    storage.leave()
    for path in ("/", f"/products/{MUG}", "/basket", "/checkout"):
        assert shopper.open(path).status == 503
    assert shopper.client.get("/readyz").status_code == 503
    assert shopper.client.get("/healthz").status_code == 200
    storage.come_back()
    assert shopper.open("/").status == 200
