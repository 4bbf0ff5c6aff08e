"""Settings come from the environment only. They are checked at the start and refused in one line."""

from dataclasses import fields

import pytest

from app.settings import Settings, SettingsError

SECRET = "x" * 16


def read(**environ: str) -> Settings:
    return Settings.from_environ({"SECRET_KEY": SECRET, **environ})


def test_there_is_no_default_secret() -> None:
    with pytest.raises(SettingsError, match="SECRET_KEY is not set"):
        Settings.from_environ({})


def test_defaults() -> None:
    settings = read()
    assert (settings.payment_gateway, settings.shop_currency, settings.gateway_deadline) == ("sandbox", "EUR", 10.0)
    assert settings.sandbox_bank_url == "http://127.0.0.1:8010"
    assert settings.database_url.startswith("sqlite:///")
    assert settings.trusted_proxies == ()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read(SHOP_CURRENCY="", PAYMENT_GATEWAY="") == read()


INVALID = [
    ("MAIL_FROM", "shop"), ("MAIL_FROM", "shop@gr\u00fcn.de"), ("MAIL_FROM", "Shop <a@example.org>"),
    ("SECRET_KEY", "short"), ("SECRET_KEY_FALLBACKS", "short"), ("DATABASE_URL", "mysql://localhost/shop"),
    ("DATABASE_URL", "shop.sqlite"), ("PAYMENT_GATEWAY", "paypal"), ("GATEWAY_DEADLINE", "soon"),
    ("GATEWAY_DEADLINE", "0"), ("GATEWAY_DEADLINE", "-1"), ("GATEWAY_DEADLINE", "nan"), ("GATEWAY_DEADLINE", "inf"),
    ("ACTION_WINDOW", "0"), ("SANDBOX_BANK_URL", "127.0.0.1:8010"), ("SANDBOX_BANK_URL", "http://bank:99999"),
    ("SANDBOX_BANK_URL", "http://bank/path"), ("SHOP_NAME", "  "), ("SHOP_NAME", "a\nb"), ("SHOP_CURRENCY", "euro"),
    ("SHOP_CURRENCY", "DEM"), ("TRUSTED_PROXIES", "everybody"), ("TRUSTED_PROXIES", "10.0.0.0/33"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_value_is_refused_in_one_line_that_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_a_secret_is_never_in_the_message() -> None:
    with pytest.raises(SettingsError) as caught:
        read(SECRET_KEY="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg2://u@h/d"])
def test_every_postgresql_address_uses_psycopg2(url: str) -> None:
    assert read(DATABASE_URL=url).database_url == "postgresql+psycopg2://u@h/d"


def test_lists_are_separated_by_commas() -> None:
    settings = read(SECRET_KEY_FALLBACKS=f"{SECRET}1, {SECRET}2", TRUSTED_PROXIES="10.0.0.1, 192.168.0.0/16",
                    SHOP_HOSTS="shop.example, www.shop.example")  # fmt: skip
    assert settings.secret_key_fallbacks == (f"{SECRET}1", f"{SECRET}2")
    assert settings.trusted_proxies == ("10.0.0.1/32", "192.168.0.0/16")
    assert settings.shop_hosts == ("shop.example", "www.shop.example")


def test_every_setting_states_its_purpose() -> None:
    assert all(setting.metadata["purpose"] for setting in fields(Settings))
