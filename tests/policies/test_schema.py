"""`db upgrade` creates what the models declare: tables, constraints, partial indexes and triggers, on both engines."""

import re

import flask_migrate
from sqlalchemy import create_engine, text

from app import create_app
from app.database import db
from app.settings import Settings
from tests.factories import SECRET

POSTGRESQL = {
    "columns": """SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraints": """SELECT conrelid::regclass, conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": "SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT proname, '', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}
SQLITE = {"schema": "SELECT tbl_name, type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL"}


def create_schema(url: str, *, by_upgrade: bool) -> None:
    """Create the schema in an empty database: by all migrations, or directly from the models."""
    app = create_app(Settings(secret_key=SECRET, database_url=url))
    with app.app_context():
        if by_upgrade:
            flask_migrate.upgrade()
        else:
            db.create_all()
        db.engine.dispose()


def schema(url: str) -> set[tuple[str, ...]]:
    """Return every part of a schema as texts that can be compared: kind, table, name and definition."""
    engine = create_engine(url)
    queries = SQLITE if engine.dialect.name == "sqlite" else POSTGRESQL
    with engine.connect() as connection:
        parts = {
            (kind, *map(_normalised, row)) for kind, sql in queries.items() for row in connection.execute(text(sql))
        }
    engine.dispose()
    return {part for part in parts if "alembic_version" not in part[1]}


def _normalised(value: object) -> str:
    """Make white space equal, and sort the columns and constraints of a CREATE TABLE."""
    normalised = " ".join(str(value).split())
    if normalised.startswith("CREATE TABLE"):
        head, _, body = normalised.partition("(")
        parts = re.split(r", (?=(?:CONSTRAINT |\w+ [A-Z]))", body.removesuffix(")").strip())
        return head + " | ".join(sorted(part.strip() for part in parts))
    return normalised


def test_the_upgraded_schema_is_the_declared_one(empty_url: str, second_url: str) -> None:
    create_schema(empty_url, by_upgrade=True)
    create_schema(second_url, by_upgrade=False)
    upgraded, declared = schema(empty_url), schema(second_url)
    assert sorted(upgraded - declared) == sorted(declared - upgraded) == []


def test_the_indexes_and_triggers_behind_the_guarantee_exist(empty_url: str, engine_name: str) -> None:
    create_schema(empty_url, by_upgrade=True)
    definitions = " ".join(" ".join(part) for part in schema(empty_url))
    live = "status IN ('in_doubt', 'processing', 'requires_action', 'succeeded')"
    assert "uq_charge_key" in definitions
    assert "uq_charge_one_live_per_order" in definitions
    assert "uq_orders_one_open_per_buyer" in definitions
    assert "uq_ledger_entry_one_posting_per_charge" in definitions
    if engine_name == "sqlite":
        assert f"ON charge (order_id) WHERE {live}" in definitions
        triggers = {part[2] for part in schema(empty_url) if part[2].startswith("trigger")}
        assert len(triggers) == 8
    else:
        assert definitions.count("CREATE TRIGGER") == 3
