"""The README lists every route and every setting, and a test requests every route."""

import re
from dataclasses import Field, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from app.settings import Settings
from tests.factories import SECRET
from tests.policies.sources import ROOT, strings_of_tests


@cache
def readme() -> str:
    return (ROOT / "README.md").read_text()


def documented_settings() -> dict[str, str]:
    """Return the first and the last column of each row of the README's table of settings."""
    table = readme().partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `")]
    return {row[0].strip(): row[-1].strip() for row in rows}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the paths of the shop's routes as the README writes them, such as /products/<slug>."""
    path: Path = tmp_path_factory.mktemp("routes") / "private" / "shop.sqlite"
    app = create_app(Settings(secret_key=SECRET, database_url=f"sqlite:///{path}"))
    rules = {re.sub(r"<\w+:", "<", rule.rule).replace("_id>", ">") for rule in app.url_map.iter_rules()}
    return sorted(rules - {"/static/<filename>"})


def test_every_route_is_requested_by_a_test(rules: list[str]) -> None:
    texts = strings_of_tests()
    for rule in rules:
        pattern = re.compile(re.sub(r"<\w+>", "[^/]+", rule) + r"(\?.*)?")
        assert any(pattern.fullmatch(text) for text in texts), f"no test requests {rule}"


def test_every_route_is_in_the_readme(rules: list[str]) -> None:
    """The README lists only the first page of the Lab, which links to its other pages."""
    for rule in rules:
        if not rule.startswith("/lab/"):
            assert f"{rule}`" in readme(), f"README.md does not list {rule}"


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name.upper())
def test_every_setting_is_in_the_readme_with_its_purpose(setting: Field[Any]) -> None:
    assert documented_settings()[f"`{setting.name.upper()}`"] == setting.metadata["purpose"]


def test_the_readme_lists_no_unknown_setting() -> None:
    documented = set(re.findall(r"`([A-Z_]+)`", " ".join(documented_settings())))
    known = {setting.name.upper() for setting in fields(Settings)} | {"PORT", "WEB_CONCURRENCY"}
    assert documented <= known


DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
IN_FILE = re.compile(r"((?:`[\w.()]+`(?:, | and )?)+)\s+in\s+\[`[^`]+`\]\(([^)#]+\.py)\)")
"""Text such as: `pay` in [`app/charges/protocol.py`](app/charges/protocol.py)."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_that_contains_what_is_named(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in target or (document.parent / target).exists(), target
    for names, target in IN_FILE.findall(text):
        source = (document.parent / target).read_text()
        for name in re.findall(r"`[\w.]*?(\w+)(?:\(\))?`", names):
            assert re.search(rf"\b{name}\b", source), f"{name} is not in {target}"


NAMED = re.compile(r"\[`(\w+)`\]\(([^)#]+\.py)\)")


def test_the_design_names_what_is_there() -> None:
    """Every name that is a link is in the file that it leads to, and every quoted mutant exists."""
    design = (ROOT / "docs" / "design.md").read_text()
    for name, target in NAMED.findall(design):
        assert re.search(rf"\b{name}\b", (ROOT / "docs" / target).read_text()), f"{name} is not in {target}"
    files = [path for name in ("simulation", "isolation") for path in (ROOT / "tests" / name).glob("*mutants.py")]
    mutants = "".join(path.read_text() for path in files)
    quoted = [name for row in re.findall(r"mutants? [^|]*", design) for name in re.findall(r'"([^"]+)"', row)]
    assert quoted
    for name in quoted:
        assert f'"{name}' in mutants, f"there is no mutant {name}"


LEVEL_2 = {
    "1": (2, 9, 11, 3, 2), "2": (3, 3, 4, 1), "3": (0, 2, 4, 6, 5, 0, 2), "4": (3, 1, 2, 4), "5": (1, 3, 2, 3),
    "6": (3, 12, 4, 4, 5, 3, 0, 4), "7": (3, 4, 2, 5, 2, 2), "8": (2, 3, 1, 1), "9": (3, 4),
    "10": (2, 2, 4, 11, 5, 2, 3), "11": (2, 3, 3, 4, 1, 1), "12": (3, 2, 4), "13": (1, 5, 2, 5), "14": (2, 4, 3),
    "15": (3, 3, 7), "16": (1, 5, 4, 3, 3), "17": (1, 4, 2),
}  # fmt: skip
"""How many requirements of the levels 1 and 2 each section of ASVS 5.0 has, by chapter. They are numbered from 1."""


def test_the_table_of_the_asvs_has_every_requirement_once() -> None:
    wanted = [
        f"{chapter}.{section}.{number}"
        for chapter, counts in LEVEL_2.items()
        for section, count in enumerate(counts, 1)
        for number in range(1, count + 1)
    ]
    table = (ROOT / "docs" / "security.md").read_text().partition("## ASVS")[2]
    found: list[str] = []
    for numbers in re.findall(r"^\| ([\d., –]+) \| [^|]+ \| [^|]+ \|", table, re.M):
        for part in numbers.split(", "):
            first, _, last = part.partition("–")
            found += wanted[wanted.index(first) : wanted.index(last or first) + 1]
    assert sorted(found) == sorted(wanted)


def test_the_page_about_security_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`((?:app|docs|requirements|sandbox_bank|static|templates|tests)/[\w./-]+)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
