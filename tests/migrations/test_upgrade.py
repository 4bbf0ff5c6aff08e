"""`db upgrade` from each earlier version that shops may still run: nothing is lost, and the shop continues to work.

The earlier database is made by the earlier revisions themselves, on an empty database of each engine, and filled by
plain SQL. To cover another version, add a module like `version_0003` to VERSIONS.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import DatabaseError, IntegrityError

from app.charges.states import PENDING, Status
from app.money import format_money
from tests.factories import ready_to_pay
from tests.migrations import upgrading, version_0003
from tests.migrations.upgrading import OldData, Receipt, Snapshot
from tests.migrations.world import World, world
from tests.page import Page, Shopper
from tests.policies.test_schema import create_schema, schema

VERSIONS: list[ModuleType] = [version_0003]


@dataclass
class Upgraded:
    """A database of an earlier version after the upgrade. `before` has the names of the present version."""

    url: str
    old: OldData
    before: Snapshot
    world: World

    def page(self, receipt_id: UUID, buyer_id: UUID | None) -> Page:
        """Open a receipt in its buyer's browser, or in one without a cookie."""
        shop = self.world.shop
        shopper = Shopper(self.world.browser(buyer_id)) if buyer_id else shop.shopper()
        return shopper.open(f"/receipts/{receipt_id}")


@pytest.fixture(params=VERSIONS, ids=lambda version: f"from {version.REVISION}")
def version(request: pytest.FixtureRequest) -> Any:
    return request.param


def fill(version: Any, url: str, around: World) -> tuple[OldData, Snapshot]:
    """Fill a database of that version. Return what was inserted, and the rows that are there now."""
    old: OldData = version.build(around)
    upgrading.insert(url, old)
    before = upgrading.read_all(url)
    assert {table: len(rows) for table, rows in before.items()} == {t: len(rows) for t, rows in old.rows.items()}
    return old, before


@pytest.fixture
def upgraded(version: Any, empty_url: str, tmp_path: Path) -> Iterator[Upgraded]:
    upgrading.upgrade(empty_url, version.REVISION)
    with world(empty_url, tmp_path) as around:
        old, before = fill(version, empty_url, around)
        upgrading.upgrade(empty_url)
        yield Upgraded(empty_url, old, upgrading.renamed(before, version.REVISION), around)


def test_every_row_and_value_is_still_there(upgraded: Upgraded) -> None:
    assert upgrading.current_revision(upgraded.url) == upgrading.head()
    after = upgrading.only(upgrading.read_all(upgraded.url), like=upgraded.before)
    for table, rows in upgraded.before.items():
        assert after[table] == rows


def test_the_old_data_have_every_state(upgraded: Upgraded) -> None:
    """Otherwise the other tests would say less than they seem to."""
    rows = upgraded.old.rows
    charges, refunds = rows["charge"], rows["refund"]
    assert {charge["status"] for charge in charges} == set(Status)
    assert {refund["status"] for refund in refunds} == {"processing", "in_doubt", "succeeded", "declined"}
    assert {refund["stray"] for refund in refunds} == {True, False}
    assert {order["state"] for order in rows["orders"]} == {"open", "placed"}
    assert {event["effect"] for event in rows["webhook_event"]} == {"foreign", "ignored", "noted", "recorded"}
    for name in ("request", "reference", "action_url", "note", "reason", "last4"):
        assert {charge[name] is None for charge in charges} == {True, False}, name
    assert {letter["sent_at"] is None for letter in rows["letter"]} == {True, False}


def test_an_upgrade_that_fails_changes_nothing(version: Any, empty_url: str, tmp_path: Path) -> None:
    """A late step fails because of an obstacle. Once it is removed, the upgrade succeeds."""
    upgrading.upgrade(empty_url, version.REVISION)
    with world(empty_url, tmp_path) as around:
        _, before = fill(version, empty_url, around)
        upgrading.execute(empty_url, version.OBSTACLE)
        parts = schema(empty_url)
        with pytest.raises(DatabaseError):
            upgrading.upgrade(empty_url)
        assert upgrading.current_revision(empty_url) == version.REVISION
        assert schema(empty_url) == parts
        assert upgrading.read_all(empty_url) == before
        upgrading.execute(empty_url, version.REMOVE_OBSTACLE)
        upgrading.upgrade(empty_url)
        renamed = upgrading.renamed(before, version.REVISION)
        assert upgrading.only(upgrading.read_all(empty_url), like=renamed) == renamed


def test_the_schema_is_as_the_models_declare_it(upgraded: Upgraded, second_url: str) -> None:
    create_schema(second_url, by_upgrade=False)
    upgraded_schema, declared = schema(upgraded.url), schema(second_url)
    assert sorted(upgraded_schema - declared) == sorted(declared - upgraded_schema) == []


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_sqlite_finds_its_file_whole(upgraded: Upgraded) -> None:
    """The revisions edit SQLite's own schema table, so SQLite itself must say that the file is sound."""
    with upgrading.connected(upgraded.url) as connection:
        for check in ("integrity_check", "quick_check"):
            assert connection.exec_driver_sql(f"PRAGMA {check}").all() == [("ok",)]
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []


REFUSED = {
    "UPDATE charge SET amount = amount + 1": "does not change",
    "UPDATE charge SET currency = 'USD'": "does not change",
    "UPDATE charge SET order_id = order_id + 1": "does not change",
    'UPDATE charge SET "key" = buyer_id': "does not change",
    "UPDATE charge SET receipt_id = name": "does not change",
    'UPDATE charge SET buyer_id = "key"': "does not change",
    "UPDATE charge SET status = 'succeeded' WHERE status = 'declined'": "does not change",
    "UPDATE charge SET status = 'declined' WHERE status = 'succeeded'": "does not change",
    "UPDATE charge SET status = 'in_doubt', ended_at = NULL WHERE status = 'canceled'": "does not change",
    "UPDATE charge SET status = 'processing' WHERE status = 'in_doubt'": "does not change",
    "UPDATE charge SET status = 'in_doubt' WHERE status = 'requires_action'": "does not change",
    "DELETE FROM charge": "never deleted",
    "UPDATE ledger_entry SET amount = amount + 1": "append-only",
    "DELETE FROM ledger_entry": "append-only",
}
"""What no writer may do to old rows, whatever program it is, and words of the trigger that refuses it."""

REFUSED_BY_POSTGRESQL = {"TRUNCATE ledger_entry": "append-only", "TRUNCATE charge CASCADE": "append-only"}


def test_old_rows_are_guarded(upgraded: Upgraded, engine_name: str) -> None:
    for statement, words in (REFUSED | (REFUSED_BY_POSTGRESQL if engine_name == "postgresql" else {})).items():
        with pytest.raises(IntegrityError, match=words):
            upgrading.execute(upgraded.url, statement)
    after = upgrading.only(upgrading.read_all(upgraded.url), like=upgraded.before)
    assert after == upgraded.before


def test_old_baskets_are_kept_for_another_month(upgraded: Upgraded) -> None:
    """Nobody knows when they were used, and only those without a charge may ever be deleted."""
    rows = upgraded.old.rows
    charged = {charge["order_id"] for charge in rows["charge"]}
    baskets = {row["id"] for row in rows["orders"] if row["state"] == "open"} - charged
    after = upgrading.read_all(upgraded.url)["orders"]
    assert baskets and {row["id"] for row in after if row["in_use_at"]} == baskets
    assert not {row["in_use_at"] for row in after if str(row["in_use_at"] or "3") < "2026"}


def test_old_receipts_open_for_their_buyers(upgraded: Upgraded) -> None:
    """With the cookie of before the upgrade; a stranger sees no details."""
    for receipt_id, receipt in upgraded.old.receipts.items():
        if receipt.has_ended:
            check_receipt(upgraded, receipt_id, receipt)


def check_receipt(upgraded: Upgraded, receipt_id: UUID, receipt: Receipt) -> None:
    page = upgraded.page(receipt_id, receipt.buyer_id)
    assert page.status == 200
    [charge] = [found for found in page.root.all("div") if "data-charge" in found.attrs]
    assert charge.attrs["data-charge"] == receipt.ends
    for words in (
        format_money(receipt.amount, "EUR"),
        f"Order {receipt.order_id}",
        receipt.last4 or "",
        *receipt.personal,
    ):
        assert words in page.text
    other = upgraded.page(receipt_id, None)
    assert format_money(receipt.amount, "EUR") in other.title
    assert not [words for words in receipt.personal if words in other.text]
    told = page.shopper.client.get(f"/receipts/{receipt_id}.json").json()
    assert told == {
        "id": str(receipt_id), "status": receipt.ends, "amount": receipt.amount, "currency": "EUR",
        "order": receipt.order_id,
    }  # fmt: skip


def test_recovery_settles_what_was_pending_and_the_audit_holds(upgraded: Upgraded) -> None:
    """By the real commands. The shop then continues to sell, so new rows get ids that no old row has."""
    code, output = upgraded.world.run("recover")
    assert code == 0, output
    for receipt_id, receipt in upgraded.old.receipts.items():
        check_receipt(upgraded, receipt_id, receipt)

    new = ready_to_pay(upgraded.world.shop.shopper(), slug="old-2").submit()
    assert new.statuses == [303, 200]
    owed = {str(receipt_id) for receipt_id in upgraded.old.owed} | {new.path.rpartition("/")[2]}
    settled = {receipt_id for receipt_id, receipt in upgraded.old.receipts.items() if not receipt.has_ended}
    paid_now = {str(receipt_id) for receipt_id in settled if upgraded.old.receipts[receipt_id].ends == "succeeded"}
    assert upgraded.world.run("recover")[0] == 0
    assert receipts_sent(upgraded) == owed | paid_now

    report = upgraded.world.audit()
    assert report["ok"], report
    assert report["foreign"] == []
    still_open = [receipt.ends for receipt in upgraded.old.receipts.values() if receipt.ends in PENDING]
    assert len(report["open"]) == len(still_open)
    strays = [refund["status"] for refund in upgraded.old.rows["refund"] if refund["stray"]]
    assert len(report["stray"]) == len(strays) + strays.count("declined"), "a declined one is tried once more"


def receipts_sent(upgraded: Upgraded) -> set[str]:
    """Return the receipts whose e-mails were written, by the links in them."""
    folder = Path(upgraded.world.shop.settings().mail_folder)
    links = [file.read_text().partition("/receipts/")[2] for file in folder.glob("*.eml")]
    return {link[:36] for link in links}
