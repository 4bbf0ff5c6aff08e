"""The bank's page leads shoppers back to hosts of the account's shop only: it is no open redirector."""

from pathlib import Path
from typing import Any

import pytest

from app.gateways.sandbox.cards import Behaviour
from sandbox_bank import create_bank
from sandbox_bank.accounts import account_id
from sandbox_bank.settings import BankSettings
from tests.factories import API_KEY
from tests.gateways.bank import charge_body, new_payment

OTHER_KEY = "the-key-of-anybody-who-opens-an-account-at-the-bank"

OWN = ["https://shop.example/receipts/1", "http://shop.example:8080/", "https://SHOP.example/"]
LOOPBACK = ["http://127.0.0.1:8000/receipts/1", "http://localhost/", "http://[::1]:8000/", "http://shop.localhost/"]
FOREIGN = ["https://evil.example/", "https://shop.example.evil.example/", "https://evilshop.example/",
           "https://127.0.0.1.evil.example/", "https://evillocalhost/", "https://www.shop.example/"]  # fmt: skip


@pytest.fixture
def bank(tmp_path: Path) -> Any:
    hosts = {account_id(API_KEY): ["shop.example"]}
    bank = create_bank(f"sqlite:///{tmp_path}/bank/bank.sqlite", return_hosts=hosts)
    yield bank
    bank.config["BOOKS"].dispose()


def charge(bank: Any, url: str, key: str = API_KEY) -> tuple[int, str | None]:
    body = charge_body(new_payment(), Behaviour.ASKS_SHOPPER, return_url=url)
    answer = bank.test_client().post("/v1/charges", json=body, headers={"Authorization": f"Bearer {key}"})
    return answer.status_code, answer.json.get("error")


def test_an_account_leads_back_to_its_own_hosts(bank: Any) -> None:
    for url in OWN + LOOPBACK:
        assert charge(bank, url) == (200, None), url
    for url in FOREIGN:
        assert charge(bank, url) == (400, "bad_return_url"), url


def test_any_other_account_leads_back_to_the_shoppers_own_machine_only(bank: Any) -> None:
    for url in LOOPBACK:
        assert charge(bank, url, OTHER_KEY) == (200, None), url
    for url in OWN + FOREIGN:
        assert charge(bank, url, OTHER_KEY) == (400, "bad_return_url"), url


def test_the_shops_settings_name_its_hosts() -> None:
    settings = BankSettings.from_environ(
        {"SANDBOX_API_KEY": API_KEY, "SHOP_HOSTS": "shop.example,www.shop.example", "SHOP_URL": "https://pay.example"}
    )
    assert settings.shop_hosts == ("shop.example", "www.shop.example", "pay.example")
