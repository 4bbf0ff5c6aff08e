"""Every route and every setting is in the README, and every route is requested by a test."""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from app import create_app
from app.settings import Settings
from tests.factories import SECRET
from tests.policies.sources import ROOT, strings_of_tests


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every address of the shop, such as /products/<slug>."""
    file: Path = tmp_path_factory.mktemp("routes") / "private" / "shop.sqlite"
    app = create_app(Settings(secret_key=SECRET, database_url=f"sqlite:///{file}"))
    found = {re.sub(r"<\w+:", "<", rule.rule).replace("_id>", ">") for rule in app.url_map.iter_rules()}
    return sorted(found - {"/static/<filename>"})


def test_every_route_is_requested_by_a_test(rules: list[str]) -> None:
    texts = strings_of_tests()
    for rule in rules:
        address = re.compile(re.sub(r"<\w+>", "[^/]+", rule) + r"(\?.*)?")
        assert any(address.fullmatch(text) for text in texts), f"no test requests {rule}"


def test_every_route_is_in_the_readme(rules: list[str]) -> None:
    """Of the Lab only its front page: all else there is reached from it."""
    for rule in rules:
        if not rule.startswith("/lab/"):
            assert f"{rule}`" in readme(), f"README.md does not tell of {rule}"


@pytest.mark.parametrize("setting", [setting.name.upper() for setting in fields(Settings)])
def test_every_setting_is_in_the_readme(setting: str) -> None:
    assert re.search(rf"^\|.*`{setting}`", readme(), re.MULTILINE)


def test_the_readme_tells_of_no_setting_that_is_none() -> None:
    table = readme().partition("## Settings")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([A-Z_]+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    known = {setting.name.upper() for setting in fields(Settings)} | {"PORT", "WEB_CONCURRENCY", "GUNICORN_THREADS"}
    assert told <= known


def test_files_that_the_readme_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", readme()):
        if "://" not in target:
            assert (ROOT / target).exists(), target
