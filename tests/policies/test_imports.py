"""Dependencies point one way: entry points → charges → orders, ledger, mail, gateways → foundations."""

import ast

import pytest

from tests.policies.sources import PACKAGES, ROOT, imports, modules, package_of, tree

FOUNDATIONS = {
    "database", "engines", "identifiers", "instance", "leases", "money", "networks", "settings", "timeouts",
    "unindexed",
}  # fmt: skip
ENTRY_POINTS = {"shop", "health", "webhooks", "cli"}
IN_FRONT_OF_VIEWS = {
    "current",
    "places",
    "security",
    "limiter",
    "tries",
    "proxies",
    "hosts",
    "errors",
    "locale",
    "logs",
    "measures",
    "visits",
    "assets",
}

MAY_IMPORT = {
    "money": set(),
    "watchdog": set(),
    "counting": set(),
    "draining": set(),
    "server": {"current", "database", "draining", "engines", "errors", "logs", "security"},
    "engines": {"watchdog"},
    "database": {"engines", "watchdog"},
    "leases": {"database"},
    "timeouts": set(),
    "revisions": set(),
    "identifiers": set(),
    "instance": set(),
    "networks": set(),
    "guessable": set(),
    "checks": {"guessable", "money"},
    "unindexed": set(),
    "settings": {"checks", "instance"},
    "logs": {"charges"},
    "measures": {"counting"},
    "visits": {"charges", "gateways", "logs", "networks"},
    "assets": set(),
    "current": {"charges", "gateways", "places", "settings"},
    "places": {"measures"},
    "proxies": {"logs", "networks"},
    "hosts": {"networks"},
    "security": {"identifiers"},
    "limiter": {"current", "networks", "settings"},
    "tries": {"limiter", "logs", "security"},
    "locale": {"money"},
    "errors": {"charges", "database", "hosts", "logs"},
    "ledger": {"database"},
    "mail": {"database", "leases", "watchdog"},
    "gateways": {"measures"} | FOUNDATIONS,
    "orders": FOUNDATIONS,
    "charges": {
        "orders", "ledger", "gateways", "mail", "database", "engines", "identifiers", "leases", "measures", "money",
        "unindexed",
    },
    "shop": {"charges", "orders", "gateways"} | FOUNDATIONS | IN_FRONT_OF_VIEWS,
    "health": {"charges", "gateways", "database", "timeouts", "draining", "revisions", "networks"} | IN_FRONT_OF_VIEWS,
    "webhooks": {"charges", "gateways", "database"} | IN_FRONT_OF_VIEWS,
    "cli": {"charges", "orders", "gateways", "mail", "ledger", "current"} | FOUNDATIONS,
    # The bank is a separate application. It uses the foundations, and shares the list of test cards with its client.
    "sandbox_bank": {"gateways"} | FOUNDATIONS,
    # The demonstration runs the whole program and shows its source, so it may import almost everything.
    "lab": {"charges", "orders", "ledger", "mail", "gateways", "shop", "webhooks", "sandbox_bank", "app"}
    | FOUNDATIONS | IN_FRONT_OF_VIEWS,
}  # fmt: skip
"""The packages that each package may import. A package that is missing here fails the test."""

CORE = {"money", "settings", "orders", "charges", "ledger"}
WEB_LIBRARIES = ("flask", "werkzeug", "wtforms", "flask_wtf", "jinja2")
OTHER_APPLICATIONS = ("sandbox_bank", "lab")
"""Packages outside the product. They commit to databases of their own."""


def dependencies() -> set[tuple[str, str, str]]:
    """Return (module, its package, the package that it imports) for every import between packages."""
    return {
        (name, package_of(name), package_of(target))
        for name, path in modules()
        for target in imports(path)
        if target.split(".")[0] in PACKAGES and package_of(target) != package_of(name)
    }


def test_imports_point_one_way() -> None:
    wrong = {
        (name, target)
        for name, package, target in dependencies()
        if package != "app" and target not in MAY_IMPORT.get(package, set())
    }
    assert not wrong


def test_the_table_has_no_cycle() -> None:
    remaining = {package: set(targets) for package, targets in MAY_IMPORT.items()}
    while remaining:
        independent = {package for package, targets in remaining.items() if not targets & remaining.keys()}
        assert independent, f"these packages import each other in a cycle: {sorted(remaining)}"
        remaining = {package: targets for package, targets in remaining.items() if package not in independent}


def test_entry_points_never_import_each_other() -> None:
    assert not {(package, target) for _, package, target in dependencies() if {package, target} <= ENTRY_POINTS}


def test_the_product_imports_neither_the_lab_nor_the_sandbox_bank() -> None:
    for name, path in modules():
        if name.startswith("app"):
            assert not {target for target in imports(path) if target.split(".")[0] in OTHER_APPLICATIONS}, name


def test_the_sandbox_bank_imports_only_test_cards_and_the_interface_of_the_gateways() -> None:
    imported = {target for name, path in modules() if package_of(name) == "sandbox_bank" for target in imports(path)}
    gateways = {target for target in imported if package_of(target) == "gateways"}
    assert gateways <= {"app.gateways.base", "app.gateways.sandbox.cards"}


def test_charges_import_only_the_interface_of_the_gateways_and_what_was_asked() -> None:
    imported = {target for name, path in modules() if package_of(name) == "charges" for target in imports(path)}
    gateways = {target for target in imported if package_of(target) == "gateways"}
    assert gateways == {"app.gateways.base", "app.gateways.questions"}


def test_the_core_imports_no_web_library() -> None:
    wrong = {
        (name, target)
        for name, path in modules()
        if package_of(name) in CORE
        for target in imports(path)
        if target.split(".")[0] in WEB_LIBRARIES
    }
    assert not wrong


def test_only_the_database_module_commits_or_rolls_back() -> None:
    """A method of the driver's class that extends the same method of its base is no exception to this."""
    wrong = {
        (name, node.attr)
        for name, path in modules()
        if name != "app.database" and not name.startswith(OTHER_APPLICATIONS)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in {"commit", "rollback", "begin", "begin_nested"}
        and ast.unparse(node.value) != "super()"
    }
    assert not wrong


def test_extensions_are_accessed_in_one_place() -> None:
    """Only `app/current.py` reads `app.extensions`, and gives typed access to its contents."""
    users = {
        name
        for name, path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "extensions"
    }
    assert users == {"app.current"}


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "services", "managers"])
def test_no_module_has_a_name_without_meaning(name: str) -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    assert not [path for path in paths if path.stem in {name, name.removesuffix("s")}]


def test_no_file_is_longer_than_300_lines() -> None:
    too_long = {str(path): lines for _, path in modules() if (lines := path.read_text().count("\n")) > 300}
    assert not too_long


def test_the_program_behaves_the_same_in_tests() -> None:
    """No module checks for a test mode or imports the tests."""
    assert not [name for name, path in modules() if "TESTING" in path.read_text() or "import tests" in path.read_text()]
