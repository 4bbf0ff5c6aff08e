"""/metrics: who may read it, its form, and what it counts."""

import subprocess

import pytest

from app.places import GatewayPlaces
from setup import promtool
from tests.factories import DECLINES, ready_to_pay
from tests.recovery import recover
from tests.shops import ORIGIN, Shop

TOKEN = "a-token-of-the-tests-that-opens-the-metrics"


def read(shop: Shop) -> str:
    return shop.shopper().client.get("/metrics").text


def value(shop: Shop, series: str) -> float | None:
    """Return the value of a series, such as `name{label="x"}`, or None if it is not shown."""
    found = [line for line in read(shop).splitlines() if line.startswith(f"{series} ")]
    return float(found[0].rpartition(" ")[2]) if found else None


LOCAL = [({}, "127.0.0.1"), ({}, "::1"), ({"Authorization": f"Bearer {TOKEN}"}, "203.0.113.7")]
FOREIGN = [
    ({}, "203.0.113.7"),
    ({}, ""),
    ({"Authorization": "Bearer wrong"}, "203.0.113.7"),
    ({"Authorization": f"Basic {TOKEN}"}, "203.0.113.7"),
    *[
        ({name: "127.0.0.1"}, "127.0.0.1")
        for name in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "x-forwarded-host")
    ],
]


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("headers", "address", "status"), [(*each, 200) for each in LOCAL] + [(*each, 404) for each in FOREIGN]
)
def test_only_this_machine_and_the_token_may_read_them(
    make_shop: type[Shop], headers: dict[str, str], address: str, status: int
) -> None:
    shop = make_shop(metrics_token=TOKEN)  # type: ignore[call-arg]
    assert shop.shopper(ORIGIN, address=address).client.get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_without_a_token_no_bearer_opens_them(shop: Shop) -> None:
    client = shop.shopper(address="203.0.113.7").client
    for token in ("", "None", " "):
        assert client.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 404


@pytest.mark.slow
def test_promtool_finds_nothing_to_complain_about(shop: Shop) -> None:
    ready_to_pay(shop.shopper()).submit()
    with shop.app.app_context():
        for command in ("recover", "audit"):
            assert shop.app.test_cli_runner().invoke(args=[command]).exit_code == 0
    checked = subprocess.run(
        [str(promtool.find()), "check", "metrics"], input=read(shop), capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_payments_questions_and_duplicates_are_counted(shop: Shop) -> None:
    paid, twin = (
        'payonce_outcomes_total{kind="charges",outcome="succeeded"}',
        'payonce_duplicates_stopped_total{kind="same_form"}',
    )
    declined = 'payonce_outcomes_total{kind="charges",outcome="declined"}'
    asked = 'payonce_gateway_question_duration_seconds_count{gateway="sandbox",question="charge",result="declined"}'
    before = {series: value(shop, series) or 0.0 for series in (paid, twin, declined, asked)}
    form = ready_to_pay(shop.shopper())
    for _ in range(3):
        form.submit()
    ready_to_pay(shop.shopper(), card_number=DECLINES, email="b@example.org").submit()
    risen = {series: (value(shop, series) or 0.0) - count for series, count in before.items()}
    assert risen == {paid: 1, twin: 2, declined: 1, asked: 1}


def test_what_recovery_and_the_audit_do_is_read_from_the_database(shop: Shop) -> None:
    """They are processes of their own, which nobody scrapes."""
    assert value(shop, 'payonce_recovery_pass_age_seconds{kind="charges"}') is None
    assert value(shop, "payonce_audit_broken_invariants") is None
    ready_to_pay(shop.shopper()).submit()
    assert value(shop, 'payonce_open_items{kind="emails",status="owed"}') == 1
    with shop.app.app_context():
        run = shop.app.test_cli_runner().invoke
        output = run(args=["recover"]).output
        assert output.splitlines()[-1] == "Processed 1 items. Nothing is left."
        run(args=["audit"])
    assert value(shop, 'payonce_recovery_items_total{kind="emails",result="processed"}') == 1
    assert value(shop, 'payonce_recovery_items_total{kind="charges",result="stray"}') == 0, "shown before it rises"
    assert value(shop, 'payonce_open_items{kind="emails",status="owed"}') is None
    age = value(shop, 'payonce_recovery_pass_age_seconds{kind="charges"}')
    assert age is not None and 0 <= age < 60
    assert value(shop, "payonce_audit_broken_invariants") == 0
    shop.execute("UPDATE product SET stock = stock - 1")
    with shop.app.app_context():
        assert run(args=["audit"]).exit_code == 1
    assert value(shop, "payonce_audit_broken_invariants") == 1


def test_the_oldest_open_charge_has_its_age(shop: Shop) -> None:
    ready_to_pay(shop.shopper(), card_number="4000 0000 0006 0055").submit()
    hour_ago = {"sqlite": "datetime('now', '-1 hour') || '.000000'", "postgresql": "now() - interval '1 hour'"}
    engine = "postgresql" if shop.database_url.startswith("postgresql") else "sqlite"
    shop.execute(f"UPDATE charge SET created_at = {hour_ago[engine]}")
    age = value(shop, 'payonce_open_item_age_seconds{kind="charges",status="in_doubt"}')
    assert age is not None and 3590 < age < 3700
    recover(shop)
    assert value(shop, 'payonce_open_item_age_seconds{kind="charges",status="in_doubt"}') is None


def test_places_at_the_gateway_are_shown(shop: Shop) -> None:
    places = GatewayPlaces(48)
    with places.take(), places.take():
        assert value(shop, "payonce_gateway_waiting_requests") == 2
    assert (value(shop, "payonce_gateway_waiting_requests"), value(shop, "payonce_gateway_waiting_limit")) == (0, 48)


@pytest.mark.parametrize("engine_name", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
def test_the_use_of_the_pool_is_shown(shop: Shop) -> None:
    """Each request that ends leaves the figure, so a scrape shows that of the request before it."""
    with shop.app.app_context():
        from app.database import reading

        with reading(), reading():
            shop.shopper().open("/")
            assert value(shop, "payonce_pool_connections_in_use") == 2
        shop.shopper().open("/")
        assert value(shop, "payonce_pool_connections_in_use") == 0
    assert value(shop, "payonce_pool_connections_limit") == 20
