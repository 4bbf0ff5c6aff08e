"""Dependencies point one way: entry points → charges → orders, ledger, mail, gateways → foundations."""

import ast

import pytest

from tests.policies.sources import PACKAGES, ROOT, imports, modules, part, tree

FOUNDATIONS = {"database", "engines", "leases", "money", "settings", "timeouts"}
ENTRY_POINTS = {"shop", "health", "webhooks", "cli"}
IN_FRONT_OF_VIEWS = {"current", "security", "errors", "locale", "logs", "assets"}

MAY_IMPORT = {
    "money": set(),
    "watchdog": set(),
    "engines": set(),
    "database": {"engines", "watchdog"},
    "leases": {"database"},
    "timeouts": set(),
    "settings": {"money"},
    "logs": set(),
    "assets": set(),
    "current": {"charges", "gateways", "settings"},
    "security": {"current", "settings"},
    "locale": {"money"},
    "errors": {"charges", "database"},
    "ledger": {"database"},
    "mail": {"database", "leases"},
    "gateways": FOUNDATIONS,
    "orders": FOUNDATIONS,
    "charges": {"orders", "ledger", "gateways", "mail", "database", "leases"},
    "shop": {"charges", "orders", "gateways"} | FOUNDATIONS | IN_FRONT_OF_VIEWS,
    "health": {"charges", "gateways", "database", "timeouts"} | IN_FRONT_OF_VIEWS,
    "webhooks": {"charges", "gateways", "database"} | IN_FRONT_OF_VIEWS,
    "cli": {"charges", "orders", "gateways", "mail", "ledger", "current"} | FOUNDATIONS,
    # An application of its own: it shares the foundations, and the list of test cards with the client.
    "sandbox_bank": {"gateways"} | FOUNDATIONS,
    # The demonstration runs the whole program and shows its source, so it may import all of it.
    "lab": {"charges", "orders", "ledger", "mail", "gateways", "shop", "webhooks", "sandbox_bank", "app"}
    | FOUNDATIONS | IN_FRONT_OF_VIEWS,
}  # fmt: skip
"""Which parts of the program each part may import. A part that is missing here fails the test."""

CORE = {"money", "settings", "orders", "charges", "ledger"}
OF_REQUESTS = ("flask", "werkzeug", "wtforms", "flask_wtf", "jinja2")
OWN_STORAGE = ("sandbox_bank", "lab")
"""Packages that commit to databases of their own."""


def arrows() -> set[tuple[str, str, str]]:
    """Return (module, its part, the part that it imports) for every import between parts."""
    return {
        (name, part(name), part(target))
        for name, path in modules()
        for target in imports(path)
        if target.split(".")[0] in PACKAGES and part(target) != part(name)
    }


def test_imports_point_one_way() -> None:
    wrong = {
        (name, there) for name, here, there in arrows() if here != "app" and there not in MAY_IMPORT.get(here, set())
    }
    assert not wrong


def test_the_table_has_no_cycle() -> None:
    left = {name: set(known) for name, known in MAY_IMPORT.items()}
    while left:
        free = {name for name, known in left.items() if not known & left.keys()}
        assert free, f"these import each other in a cycle: {sorted(left)}"
        left = {name: known for name, known in left.items() if name not in free}


def test_entry_points_never_import_each_other() -> None:
    assert not {(here, there) for _, here, there in arrows() if {here, there} <= ENTRY_POINTS}


def test_the_product_does_not_know_the_demonstration() -> None:
    for name, path in modules():
        if name.startswith("app"):
            assert not {target for target in imports(path) if target.split(".")[0] in OWN_STORAGE}, name


def test_the_sandbox_bank_knows_only_test_cards_and_statement_entries_of_the_gateways() -> None:
    known = {target for name, path in modules() if part(name) == "sandbox_bank" for target in imports(path)}
    gateways = {name for name in known if part(name) == "gateways"}
    assert gateways <= {"app.gateways.base", "app.gateways.sandbox.cards"}


def test_charges_know_gateways_only_by_their_interface() -> None:
    known = {target for name, path in modules() if part(name) == "charges" for target in imports(path)}
    assert {name for name in known if part(name) == "gateways"} == {"app.gateways.base"}


def test_the_core_knows_nothing_of_requests() -> None:
    knows = {
        (name, target)
        for name, path in modules()
        if part(name) in CORE
        for target in imports(path)
        if target.split(".")[0] in OF_REQUESTS
    }
    assert not knows


def test_only_the_database_module_commits_or_rolls_back() -> None:
    ends = {
        (name, node.attr)
        for name, path in modules()
        if name != "app.database" and not name.startswith(OWN_STORAGE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback", "begin", "begin_nested"}
    }
    assert not ends


def test_extensions_are_accessed_in_one_place() -> None:
    """`app/current.py` gives typed access; a string key anywhere else would be a second way."""
    users = {
        name
        for name, path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "extensions"
    }
    assert users == {"app.current"}


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "services", "managers"])
def test_no_module_is_called(name: str) -> None:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    assert not [path for path in found if path.stem in {name, name.removesuffix("s")}]


def test_no_file_is_longer_than_300_lines() -> None:
    long = {str(path): lines for _, path in modules() if (lines := path.read_text().count("\n")) > 300}
    assert not long


def test_the_program_does_not_know_that_it_is_tested() -> None:
    assert not [name for name, path in modules() if "TESTING" in path.read_text() or "import tests" in path.read_text()]
