"""What is kept of each arrival and question, and the story that is told from it."""

import json
from itertools import groupby
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from app.charges.evidence import KEPT
from app.charges.models import ARRIVALS_COUNTED
from app.charges.tokens import reference
from app.networks import shortened
from app.visits import PREFIXES, browser_family
from tests.factories import DECLINES, ready_to_pay
from tests.recovery import recover
from tests.shops import Shop

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
NEVER_ANSWERS = "4000 0000 0006 0055"


def arrivals(shop: Shop) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in shop.rows("SELECT answer, browser, network FROM arrival ORDER BY id")]


def questions(shop: Shop) -> list[tuple[str, str, str]]:
    return [tuple(row) for row in shop.rows("SELECT kind, asked_by, result FROM question ORDER BY id")]


def tell(shop: Shop, *arguments: str) -> tuple[int, str]:
    with shop.app.app_context():
        done = shop.app.test_cli_runner().invoke(args=["story", *arguments])
    return done.exit_code, done.output


def test_every_arrival_and_question_is_kept(shop: Shop) -> None:
    shopper = shop.shopper(address="203.0.113.77")
    shopper.client.headers["User-Agent"] = FIREFOX
    form = ready_to_pay(shopper)
    for _ in range(2):
        form.submit()
    assert arrivals(shop) == [
        ("succeeded", "Firefox", "203.0.113.0/24"),
        ("repeat", "Firefox", "203.0.113.0/24"),
    ]
    assert questions(shop) == [("charge", "request", "succeeded")]
    (claim, _), key = (
        shop.rows("SELECT request_id FROM arrival ORDER BY id"),
        shop.value("SELECT charge_key FROM arrival"),
    )
    assert claim.request_id == shop.value("SELECT request_id FROM charge")
    assert UUID(str(key)) == UUID(str(shop.value('SELECT "key" FROM charge')))


def test_another_form_for_the_same_order_is_an_arrival(shop: Shop) -> None:
    shopper = shop.shopper()
    forms = [ready_to_pay(shopper), shopper.open("/checkout").form("Pay")]
    forms[0].submit()
    forms[1].submit()
    assert [answer for answer, _, _ in arrivals(shop)] == ["succeeded", "other_form"]


def test_a_flood_of_copies_writes_only_as_many_rows_as_are_counted(shop: Shop) -> None:
    form = ready_to_pay(shop.shopper())
    for _ in range(ARRIVALS_COUNTED + 5):
        form.post()
    assert len(arrivals(shop)) == shop.value("SELECT arrivals FROM charge") == ARRIVALS_COUNTED


def test_of_many_questions_the_first_and_the_latest_are_kept(shop: Shop) -> None:
    ready_to_pay(shop.shopper(), card_number=NEVER_ANSWERS).submit()
    shop.execute("UPDATE charge SET times_asked = 1")
    first = questions(shop)
    shop.use_transport(httpx.MockTransport(lambda request: httpx.Response(502, json={})))
    for _ in range(3 * KEPT):
        recover(shop)
    assert len(questions(shop)) == 2 * KEPT
    assert questions(shop)[: len(first)] == first
    assert shop.value("SELECT max(id) FROM question") >= 3 * KEPT
    assert questions(shop)[-1] == ("lookup", "recovery", "unknown")


@pytest.mark.parametrize("lost", ["arrival", "question"])
def test_a_payment_never_fails_because_its_evidence_can_not_be_written(
    lost: str, own_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(own_url, tmp_path)
    shop.execute(f"DROP TABLE {lost}")
    form = ready_to_pay(shop.shopper())
    assert form.submit().statuses == [303, 200]
    assert form.submit().statuses == [303, 200]
    assert recover(shop) == 0
    assert (shop.charges(), shop.value("SELECT arrivals FROM charge")) == ({"succeeded": 1}, 2)
    assert '"event": "evidence_lost"' in capfd.readouterr().err
    shop.close()


def test_the_story_puts_everything_on_one_timeline(shop: Shop) -> None:
    page = ready_to_pay(shop.shopper(), card_number=NEVER_ANSWERS).submit()
    recover(shop)
    receipt_id = page.path.rpartition("/")[2]
    with shop.app.app_context():
        run = shop.app.test_cli_runner().invoke
        assert run(args=["refund", receipt_id, "--amount", "1.00"]).exit_code == 0
    code, text = tell(shop, receipt_id)
    assert code == 0, text
    moments = [line.split("Z  ")[1].partition("  ")[0].strip() for line in text.splitlines()[1:]]
    once = [moment for moment, _ in groupby(moments)]
    assert once == [
        "form arrived", "claimed", "ask charge", "ask lookup", "succeeded", "e-mail due",
        "refund claimed", "ask refund", "refund succeeded",
    ]  # fmt: skip
    assert receipt_id not in text
    assert not [word for word in ("ada@example.org", "Ada", "127.0.0.1") if word in text]


def test_the_story_is_found_by_every_name_of_the_payment(shop: Shop) -> None:
    page = ready_to_pay(shop.shopper(), card_number=DECLINES).submit()
    key = str(UUID(str(shop.value('SELECT "key" FROM charge'))))
    receipt_id = page.path.rpartition("/")[2]
    for name in (receipt_id, reference(receipt_id), key):
        told = json.loads(tell(shop, name, "--json")[1])
        assert (told["key"], told["status"]) == (key, "declined")
        assert {"claimed", "form arrived", "ask charge", "declined"} <= {moment["what"] for moment in told["moments"]}
    assert tell(shop, str(uuid4()))[0] == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2:3::4", "2001:db8:1::/48"), ("", ""), ("unix:", "")],
)
def test_addresses_are_shortened(address: str, network: str) -> None:
    assert shortened(address, PREFIXES) == network


def test_of_the_browser_only_the_family_is_kept() -> None:
    chrome = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36"
    assert [browser_family(text) for text in (FIREFOX, chrome, f"{chrome} Edg/142.0", "x" * 9000, "")] == [
        "Firefox", "Chrome", "Edge", "other", "other",
    ]  # fmt: skip
