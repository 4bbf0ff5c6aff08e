"""Data goes one way, from a door to the storage and back; an arrow that points the wrong way fails here."""

import ast

import pytest

from tests.policies.sources import APP, imports, modules, room, tree

GROUND = {"database", "money", "settings"}
DOORS = {"shop", "health", "webhooks", "lab", "cli"}
BEFORE_DOORS = {"security", "errors", "locale", "logs", "assets"}

MAY_IMPORT = {
    "money": set(),
    "database": set(),
    "settings": {"money"},
    "logs": set(),
    "assets": set(),
    "security": set(),
    "locale": {"money"},
    "errors": {"charges", "database"},
    "ledger": {"database"},
    "mail": {"database"},
    "gateways": GROUND,
    "orders": GROUND,
    "charges": {"orders", "ledger", "gateways", "mail", "database"},
    "shop": {"charges", "orders", "gateways"} | GROUND | BEFORE_DOORS,
    "health": {"charges", "gateways", "database"},
    "webhooks": {"charges", "gateways", "database"} | BEFORE_DOORS,
    "cli": {"charges", "orders", "gateways", "mail", "ledger"} | GROUND,
    # It shows the shop's own code beside the broken ones, and so must find it.
    "lab": {"charges", "orders", "ledger", "gateways", "shop"} | GROUND | BEFORE_DOORS,
}
"""Room → the rooms that it may know. Whoever is not named here is a room not yet thought about."""

INNER = {"money", "settings", "orders", "charges", "ledger"}
OF_REQUESTS = ("flask", "werkzeug", "wtforms", "flask_wtf", "jinja2")
# The sandbox bank is an application of its own; the Lab throws its storages away.
OWN_STORAGE = ("app.gateways.sandbox.bank", "app.lab")


def arrows() -> set[tuple[str, str, str]]:
    """(module, room, room that it imports), between different rooms."""
    return {
        (name, room(name), room(target))
        for name, path in modules()
        for target in imports(path)
        if target.startswith("app.") and room(target) != room(name)
    }


def test_imports_run_one_way() -> None:
    wrong = {
        (name, there) for name, here, there in arrows() if here != "app" and there not in MAY_IMPORT.get(here, set())
    }
    assert not wrong


def test_the_table_has_no_circle() -> None:
    left = {name: set(known) for name, known in MAY_IMPORT.items()}
    while left:
        free = {name for name, known in left.items() if not known & left.keys()}
        assert free, f"these lead in a circle: {sorted(left)}"
        left = {name: known for name, known in left.items() if name not in free}


def test_doors_never_import_each_other() -> None:
    between = {(here, there) for _, here, there in arrows() if {here, there} <= DOORS}
    assert between <= {("lab", "shop")}


def test_nothing_imports_the_lab() -> None:
    assert not [name for name, _, there in arrows() if there == "lab"]
    told = [name for name, path in modules() if "app.lab" in path.read_text() and room(name) != "lab"]
    assert told == ["app"], "the factory alone, by name and only where it is on"


def test_charges_know_gateways_by_their_base_alone() -> None:
    known = {target for name, path in modules() if room(name) == "charges" for target in imports(path)}
    assert {name for name in known if room(name) == "gateways"} == {"app.gateways.base"}


def test_inner_rooms_know_nothing_of_requests() -> None:
    knows = {
        (name, target)
        for name, path in modules()
        if room(name) in INNER
        for target in imports(path)
        if target.split(".")[0] in OF_REQUESTS
    }
    assert not knows


def test_only_the_database_commits_or_rolls_back() -> None:
    ends = {
        (name, node.attr)
        for name, path in modules()
        if name != "app.database" and not name.startswith(OWN_STORAGE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback", "begin", "begin_nested"}
    }
    assert not ends


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "services", "managers"])
def test_no_room_is_called(name: str) -> None:
    assert not [path for path in APP.rglob("*") if path.stem in {name, name.removesuffix("s")}]


def test_no_file_is_longer_than_a_reader_likes() -> None:
    long = {str(path): lines for _, path in modules() if (lines := path.read_text().count("\n")) > 300}
    assert not long


def test_the_program_does_not_know_that_it_is_tested() -> None:
    assert not [name for name, path in modules() if "TESTING" in path.read_text() or "import tests" in path.read_text()]
