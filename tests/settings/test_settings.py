"""Settings come from the environment only. They are checked at the start and refused in one line."""

import stat
from dataclasses import fields
from pathlib import Path
from secrets import token_hex, token_urlsafe
from uuid import uuid4

import pytest

from app import instance
from app.guessable import is_guessable
from app.settings import Settings, SettingsError
from sandbox_bank.settings import BankSettings

SECRET = "5d0b7f2e9ac41863"
KEY = "the-key-of-the-tests-for-the-sandbox-bank"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `instance` of an installation that has never been started."""
    monkeypatch.setattr(instance, "FOLDER", tmp_path / "instance")
    return tmp_path / "instance"


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
    ("SANDBOX_API_KEY", "k" * 31), ("SANDBOX_API_KEY", "k" * 31 + " k"), ("SANDBOX_API_KEY", "ü" * 32),
    ("SHOP_ID", "my shop"), ("SHOP_ID", "s" * 65), ("SHOP_CURRENCY", "DEM"),
    ("GUNICORN_THREADS", "0"), ("GUNICORN_THREADS", "many"),
    ("TRUSTED_PROXIES", "everybody"), ("TRUSTED_PROXIES", "10.0.0.0/33"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_value_is_refused_in_one_line_that_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**{name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


GUESSABLE = ["aaaaaaaaaaaaaaaa", "passwordpassword", "letmeinletmeinletmein", "0123456789abcdef", "abcdefghijklmnop",
             "my-shop-secret-key", "changeme-changeme", "a long random text", "1111111122222222", "abababababababab",
             "qwertyuiopasdfghjkl", "Secret_Key_For_Payonce", "9876543210987654", "x" * 200, "abcabcabcabcabcd",
             "please change this secret key", "grapes!grapes!grapes!"]  # fmt: skip


@pytest.mark.parametrize("value", GUESSABLE)
def test_a_secret_that_is_easy_to_guess_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"^SECRET_KEY must not be easy to guess; `openssl[^\n]+$") as caught:
        read(SECRET_KEY=value)
    assert value not in str(caught.value)
    with pytest.raises(SettingsError, match=r"^SANDBOX_API_KEY must"):
        read(SANDBOX_API_KEY=(value * 3)[:200])
    assert read(SECRET_KEY_FALLBACKS=value).secret_key_fallbacks == (value,), "a shop can still leave it"


def test_random_secrets_are_accepted() -> None:
    for make in (lambda: token_hex(8), lambda: token_hex(32), lambda: token_urlsafe(12), lambda: str(uuid4())):
        refused = sum(is_guessable(make()) for _ in range(2000))
        assert refused <= 10, make()
    assert read(SECRET_KEY="four horses eat blue grapes").secret_key


def test_a_secret_is_never_in_the_message() -> None:
    with pytest.raises(SettingsError) as caught:
        read(SECRET_KEY="hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg2://u@h/d"])
def test_every_postgresql_address_uses_psycopg2(url: str) -> None:
    assert read(DATABASE_URL=url).database_url == "postgresql+psycopg2://u@h/d"


def test_the_banks_key_and_the_shops_id_are_made_once_and_kept(folder: Path) -> None:
    """The bank, which is a process of its own, reads the same key. Only the owner can read the files."""
    first, second = read(), read()
    assert (len(first.sandbox_api_key), len(first.shop_id)) == (64, 64)
    assert (second.sandbox_api_key, second.shop_id) == (first.sandbox_api_key, first.shop_id)
    assert BankSettings.from_environ({}).api_key == first.sandbox_api_key
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("sandbox_key", "shop_id")] == [0o600] * 2
    assert first.sandbox_api_key not in repr(first) + repr(BankSettings.from_environ({}))
    given = read(SANDBOX_API_KEY=KEY, SHOP_ID="my-shop")
    assert (given.sandbox_api_key, given.shop_id) == (KEY, "my-shop")


@pytest.mark.parametrize("text", ["", "short"])
def test_a_key_file_that_is_not_a_key_is_refused_in_one_line(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "sandbox_key").write_text(text)
    for settings in (read, lambda: BankSettings.from_environ({})):
        with pytest.raises(SettingsError, match=r"^SANDBOX_API_KEY [^\n]+$"):
            settings()


def test_an_id_that_can_t_be_kept_is_refused_in_one_line(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    with pytest.raises(SettingsError, match=r"^SHOP_ID is not set, and can't be kept in [^\n]+$"):
        read()
    assert read(SHOP_ID="my-shop", SANDBOX_API_KEY=KEY).shop_id == "my-shop"


def test_a_shop_with_another_gateway_makes_no_key_for_the_sandbox_bank(folder: Path) -> None:
    assert read(PAYMENT_GATEWAY="stripe", STRIPE_SECRET_KEY="sk_test_12345678").sandbox_api_key == ""
    assert [path.name for path in folder.iterdir()] == ["shop_id"]


def test_lists_are_separated_by_commas() -> None:
    settings = read(SECRET_KEY_FALLBACKS=f"{SECRET}1, {SECRET}2", TRUSTED_PROXIES="10.0.0.1, 192.168.0.0/16",
                    SHOP_HOSTS="shop.example, www.shop.example")  # fmt: skip
    assert settings.secret_key_fallbacks == (f"{SECRET}1", f"{SECRET}2")
    assert settings.trusted_proxies == ("10.0.0.1/32", "192.168.0.0/16")
    assert settings.shop_hosts == ("shop.example", "www.shop.example")


def test_every_setting_states_its_purpose() -> None:
    assert all(setting.metadata["purpose"] for setting in fields(Settings))
