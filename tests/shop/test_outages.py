"""The bank or the database is unreachable: pages say only what is known, and the shop recovers by itself."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.factories import MUG, fields, ready_to_pay
from tests.shops import Shop


class RefusedConnection(httpx.BaseTransport):
    """A transport to a bank that refuses connections."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")


class LostResponses(httpx.BaseTransport):
    """A transport that delivers every request to the bank and loses every response."""

    def __init__(self, bank: object) -> None:
        self.bank = httpx.WSGITransport(app=bank)  # type: ignore[arg-type]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.bank.handle_request(request)
        raise httpx.ReadError("reset")


def test_nothing_is_charged_if_the_bank_is_unreachable(shop: Shop) -> None:
    shop.use_transport(RefusedConnection())
    page = ready_to_pay(shop.shopper()).submit()
    assert page.heading == "Nothing was charged"
    assert "The bank could not be reached, so the payment was never sent. No money was taken." in page.text
    assert "This order is your basket again. You can pay for it now." in page.text
    assert shop.stock(MUG) == 200
    shop.use_transport(httpx.WSGITransport(app=shop.bank))
    assert page.follow("Pay again").submit("Pay", **fields()).heading == "Paid: €24.00"


def test_a_charge_is_in_doubt_if_every_response_is_lost(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(gateway_deadline=0.5)
    shop.use_transport(LostResponses(shop.bank))
    page = ready_to_pay(shop.shopper()).submit()
    assert page.heading == "Your payment is still being confirmed"
    assert "No money was taken" not in page.text
    assert [entry.amount for entry in shop.statement()] == [2400], "charged once, although asked several times"
    assert shop.charges() == {"in_doubt": 1}


class Storage:
    """A shop with a database of its own, which a test can make unreachable and reachable again.

    `server` is the PostgreSQL server, or None for SQLite.
    """

    def __init__(self, url: str, folder: Path, server: object) -> None:
        self.shop, self.folder, self.server = Shop(url, folder), folder, server
        self.name = url.rpartition("/")[2].partition("?")[0]

    def make_unreachable(self) -> None:
        """Make new connections to the database fail, and close the open ones."""
        if self.server is None:
            self.shop.close()
            (self.folder / "storage").rename(self.folder / "elsewhere")
        else:
            self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false')  # type: ignore[attr-defined]
            self.server.terminate(self.name)  # type: ignore[attr-defined]

    def make_reachable(self) -> None:
        """Make new connections succeed again."""
        if self.server is None:
            (self.folder / "elsewhere").rename(self.folder / "storage")
        else:
            self.server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')  # type: ignore[attr-defined]


@pytest.fixture
def storage(own_url: str, engine_name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Storage]:
    server = request.getfixturevalue("postgres") if engine_name == "postgresql" else None
    storage = Storage(own_url, tmp_path, server)
    yield storage
    storage.shop.close()


def test_a_checkout_fails_without_a_charge_if_the_database_is_unreachable_before_the_claim(storage: Storage) -> None:
    form = ready_to_pay(storage.shop.shopper())
    storage.make_unreachable()
    page = form.submit()
    assert (page.status, page.heading) == (503, "The shop can't reach its records right now")
    assert "This try took no money" in page.text
    assert page.response.headers["Retry-After"] == "5"
    assert storage.shop.statement() == []
    storage.make_reachable()
    assert form.submit().heading == "Paid: €24.00", "the same form is still valid"


def test_a_payment_redirects_to_its_receipt_if_the_database_fails_while_the_bank_is_asked(storage: Storage) -> None:
    """The money has moved. The receipt can't be read yet, and it must not say that nothing was charged."""
    shop = storage.shop
    form = ready_to_pay(shop.shopper())

    class DatabaseFails(httpx.WSGITransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            storage.make_unreachable()
            return super().handle_request(request)

    shop.use_transport(DatabaseFails(app=shop.bank))
    response = form.post()
    assert response.status_code == 303
    waiting = form.page.shopper.open(response.headers["Location"])
    assert waiting.status == 503
    assert "Do not pay again." in waiting.text
    assert "No money" not in waiting.text and "Nothing was charged" not in waiting.text
    storage.make_reachable()
    assert waiting.reload().heading == "Your payment is being confirmed"
    assert form.submit().url.endswith(response.headers["Location"])
    assert len(shop.statement()) == 1


def test_every_page_is_a_503_while_the_database_is_unreachable(storage: Storage) -> None:
    shopper = storage.shop.shopper()
    shopper.open("/")
    storage.make_unreachable()
    for path in ("/", f"/products/{MUG}", "/basket", "/checkout"):
        assert shopper.open(path).status == 503
    payments = shopper.open("/receipts")
    assert (payments.status, payments.heading) == (503, "We can't look up your payments right now")
    assert "by itself" not in payments.text, "only the page of one receipt reloads itself"
    assert shopper.client.get("/readyz").status_code == 503
    assert shopper.client.get("/healthz").status_code == 200
    storage.make_reachable()
    assert shopper.open("/").status == 200
