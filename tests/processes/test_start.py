"""An invalid setting stops the start with one line; a database that can't be reached does not stop it."""

import json
from pathlib import Path

import httpx
import pytest

from tests.factories import ready_to_pay
from tests.processes.racing import Post, all_at_once
from tests.processes.running import Deployment, RunningShop


def refusal(deployment: Deployment, folder: Path, **settings: str) -> str:
    """Return the only line that a shop prints with settings that it must not start with."""
    shop = RunningShop(deployment.shop.database_url, deployment.bank.url, folder, settings=settings)
    assert shop.spawn().wait(60) != 0
    lines = [line for line in shop.log.read_text().splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("PayOnce can't start: ")
    return lines[0]


def test_another_currency_than_that_of_the_products_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    line = refusal(deployment, tmp_path, SHOP_CURRENCY="USD")
    assert "SHOP_CURRENCY is USD" in line and "set SHOP_CURRENCY=EUR" in line


@pytest.mark.parametrize(("name", "value"), [("SECRET_KEY", ""), ("SECRET_KEY", "short"), ("SHOP_CURRENCY", "GOLD")])
def test_an_invalid_setting_is_refused(deployment: Deployment, tmp_path: Path, name: str, value: str) -> None:
    assert name in refusal(deployment, tmp_path, **{name: value})


def test_the_shop_starts_without_a_database(deployment: Deployment, tmp_path: Path) -> None:
    shop = RunningShop("postgresql://nobody@127.0.0.1:9/none", deployment.bank.url, tmp_path, workers=1).start()
    ready = httpx.get(f"{shop.url}/readyz", timeout=60, trust_env=False)
    assert (ready.status_code, ready.text.startswith("the database can't be reached")) == (503, True)
    assert shop.shopper().open("/").status == 503
    assert shop.stop() == 0


def test_the_process_that_forks_the_workers_has_no_threads(deployment: Deployment) -> None:
    """A lock that another thread holds during a fork stays locked in the worker for ever."""
    assert deployment.shop.process
    assert len(list(Path(f"/proc/{deployment.shop.process.pid}/task").iterdir())) == 1


def test_several_workers_that_count_by_themselves_are_warned_about(deployment: Deployment) -> None:
    """The first shop has two workers, the second has one."""
    warnings = [line for line in deployment.output().splitlines() if '"event": "limits_per_worker"' in line]
    assert [json.loads(line)["workers"] for line in warnings] == [2]
    assert warnings[0] in deployment.shop.log.read_text()


def test_a_body_that_is_too_large_gets_a_413(deployment: Deployment, email: str) -> None:
    form = ready_to_pay(deployment.shop.shopper(), email=email)
    form.fields["checkout_token"] = "x" * 1_000_000
    [answer] = all_at_once([Post(form)])
    assert answer.status == 413
    assert "This try took no money." in answer.body


def test_no_log_contains_a_card_number_or_another_secret(deployment: Deployment, email: str) -> None:
    form = ready_to_pay(deployment.shop.shopper(), email=email, card_number="4012 8888 8888 1881")
    assert form.submit().status == 422
    assert form.fill(card_number="4242 4242 4242 4242").submit().heading == "Paid: €24.00"
    output = deployment.output() + deployment.bank.log.read_text()
    assert "charge_succeeded" in output
    card = ("40128888", "4012 8888", "42424242", "4242 4242")
    for secret in (*card, form.fields["checkout_token"], form.fields["csrf_token"], "a secret of the tests"):
        assert secret not in output
