"""A standby is promoted under running requests, and the forms that are still open are sent again.

Both servers are real, and the shop reaches them through one address, as through HAProxy. The bank is the sandbox bank,
within this process. Requests that are under way survive the failover.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest

from app.charges.states import SUCCEEDED
from tests.conftest import migrate
from tests.factories import ASKS_SHOPPER, ready_to_pay
from tests.faults.commits import proxied
from tests.faults.standby import Pair, pair
from tests.page import Form
from tests.recovery import is_listed, recover_and_audit, run_audit
from tests.shops import Shop

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(240)]

LOST = "We have no record of this order"


class Failover:
    """A shop that reaches the primary, and after `promote` the standby, at the same address."""

    def __init__(self, servers: Pair, shop: Shop, promote: Callable[[], None]) -> None:
        self.servers, self.shop, self.promote = servers, shop, promote

    def promote_while_the_bank_is_asked(self, form: Form) -> httpx.Response:
        """Send the form. The failover happens after the bank took the money and before the shop reads its answer."""
        self.shop.use_transport(PromotesMeanwhile(self))
        return form.post()


class PromotesMeanwhile(httpx.BaseTransport):
    """The network to the bank. The failover happens before the first answer arrives."""

    def __init__(self, failover: Failover) -> None:
        self.inner, self.failover, self.done = httpx.WSGITransport(app=failover.shop.bank), failover, False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.inner.handle_request(request)
        if not self.done:
            self.done = True
            self.failover.promote()
        return response


@contextmanager
def failover(tmp_path: object, *, synchronous: bool) -> Iterator[Failover]:
    with pair(synchronous=synchronous) as servers, proxied(servers.primary) as proxy:
        name = servers.primary.create()
        migrate(servers.primary.url(name))
        shop = Shop(proxy.url(name), tmp_path)  # type: ignore[arg-type]

        def promote() -> None:
            proxy.cluster = servers.promote()

        try:
            yield Failover(servers, shop, promote)
        finally:
            shop.close()


def form(shop: Shop, **changes: str) -> Form:
    """Return the filled form of a new shopper."""
    return ready_to_pay(shop.shopper(), email=f"{uuid4().hex}@example.org", **changes)


def keys(shop: Shop) -> list[str]:
    """Return the key of each charge in the bank's statement."""
    return [entry.key for entry in shop.statement() if entry.kind == "charge"]


def test_a_synchronous_standby_has_everything_that_a_shopper_was_told(tmp_path: object) -> None:
    with failover(tmp_path, synchronous=True) as world:
        shop = world.shop
        paid = [form(shop) for _ in range(3)]
        receipts = [each.post().headers["Location"] for each in paid]
        under_way = form(shop)
        receipts.append(world.promote_while_the_bank_is_asked(under_way).headers["Location"])
        assert shop.charges() == {SUCCEEDED: 4}, "the outcome was recorded on the new primary"
        again = [each.post().headers["Location"] for each in (*paid, under_way)]
        assert again == receipts
        assert len(keys(shop)) == 4
        assert recover_and_audit(shop).foreign == []


def test_after_a_lagging_standby_took_over_nobody_pays_twice_and_lost_money_is_listed(tmp_path: object) -> None:
    """The standby does not have: one payment, one whole order with its payment, and one claim that is under way."""
    with failover(tmp_path, synchronous=False) as world:
        shop = world.shop
        kept, payment_lost = form(shop), form(shop)
        receipt = kept.post().headers["Location"]
        world.servers.catch_up()
        world.servers.freeze()
        assert payment_lost.submit().heading == "Paid: €24.00"
        order_lost, under_way = form(shop), form(shop)
        assert order_lost.submit().heading == "Paid: €24.00"
        page = under_way.page.shopper.follow_redirects(world.promote_while_the_bank_is_asked(under_way))
        assert (page.status, page.heading) == (404, LOST)
        shop.use_transport(httpx.WSGITransport(app=shop.bank))
        stranger = form(shop, card_number=ASKS_SHOPPER).post()
        assert stranger.status_code == 303
        check_forms_sent_again(shop, kept, receipt, payment_lost, [order_lost, under_way])


def check_forms_sent_again(shop: Shop, kept: Form, receipt: str, payment_lost: Form, lost: list[Form]) -> None:
    """Check what the old forms lead to, that the audit lists the money that the books lost, and that it is adopted."""
    assert kept.post().headers["Location"] == receipt
    assert payment_lost.submit().heading == "Paid: €24.00", "under its key the bank took the money before"
    pages = [each.submit() for each in lost]
    assert [page.heading for page in pages] == [LOST, LOST]
    assert len(keys(shop)) == len(set(keys(shop))) == 4
    assert shop.charges() == {SUCCEEDED: 2, "requires_action": 1}
    listed = [key for key in keys(shop) if is_listed(run_audit(shop), key)]
    assert len(listed) == 2
    assert all(any(key in page.text for page in pages) for key in listed)
    with shop.app.app_context():
        for key in listed:
            assert shop.app.test_cli_runner().invoke(args=["reconcile", "--adopt", key]).exit_code == 0
    report = recover_and_audit(shop, waiting=1)
    assert (len(report.adopted), report.foreign) == (2, [])
