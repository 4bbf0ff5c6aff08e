"""From 0006 on, a migration only expands: the version before works on the new schema, during and after an upgrade.

Two checks. The structure of the database must offer everything that it offered before; this does not judge triggers.
And the code of the version before the newest migration, taken from the checkout's history, takes a payment, recovers
and audits on the new schema. Without a history (a downloaded archive, a shallow clone) only the structure is checked.
"""

import itertools
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from app import revisions
from tests.gateways.bank import ROOT
from tests.migrations import upgrading
from tests.migrations.structure import read, read_from, taken_away

VERSIONS = "app/migrations/versions"
CONTRACTED_BEFORE = "0005"
"""The last revision that needed a stop of all processes."""


def expanding() -> list[tuple[str, str]]:
    """Return (revision before, revision) of each migration that must only expand."""
    history = revisions.known()[::-1]
    return [pair for pair in itertools.pairwise(history) if pair[1] > CONTRACTED_BEFORE]


def test_each_migration_only_expands(empty_url: str) -> None:
    upgrading.upgrade(empty_url, CONTRACTED_BEFORE)
    structure = read(empty_url)
    for _, revision in expanding():
        upgrading.upgrade(empty_url, revision)
        after = read(empty_url)
        assert taken_away(structure, after) == [], revision
        structure = after


TAKES_AWAY = {
    "DROP TABLE webhook_event": "table webhook_event is gone",
    "ALTER TABLE webhook_event RENAME TO event": "table webhook_event is gone",
    "ALTER TABLE outbox_email RENAME COLUMN sent_at TO sent": "column outbox_email.sent_at is gone",
    "ALTER TABLE charge ADD COLUMN extra integer NOT NULL DEFAULT 0": None,
    "ALTER TABLE charge ADD COLUMN extra integer": None,
    "ALTER TABLE outbox_email ADD COLUMN extra integer CHECK (extra > 0)": None,
    "CREATE UNIQUE INDEX mine ON outbox_email (sent_at)": "rule mine on outbox_email allows less",
    "CREATE INDEX mine ON outbox_email (sent_at)": None,
    "CREATE TABLE extra (id integer PRIMARY KEY)": None,
}
POSTGRESQL_TAKES_AWAY = {
    "ALTER TABLE webhook_event ADD COLUMN x integer NOT NULL": "column webhook_event.x is new and must have a value",
    "ALTER TABLE charge ALTER COLUMN note SET NOT NULL": "column charge.note must have a value now",
    "ALTER TABLE outbox_email ALTER COLUMN sent_at TYPE text": "column outbox_email.sent_at has another type",
    "ALTER TABLE charge ADD CONSTRAINT mine CHECK (amount < 1000)": "rule mine on charge allows less",
}


def test_the_check_finds_what_is_taken_away(empty_url: str, engine_name: str) -> None:
    upgrading.upgrade(empty_url)
    structure = read(empty_url)
    cases = TAKES_AWAY | (POSTGRESQL_TAKES_AWAY if engine_name == "postgresql" else {})
    for statement, finding in cases.items():
        with upgrading.connected(empty_url) as connection:
            connection.exec_driver_sql("BEGIN" if engine_name == "sqlite" else "SELECT 1")
            connection.exec_driver_sql(statement)
            found = taken_away(structure, read_from(connection))
            connection.exec_driver_sql("ROLLBACK")
        assert found == ([finding] if finding else []), statement


def newest() -> str:
    """Return a pattern of the newest migration's file. It may have had another number at first."""
    [file] = (ROOT / VERSIONS).glob(f"{revisions.known()[0]}_*.py")
    return f"*_{file.name.partition('_')[2]}"


def version_before() -> bytes | None:
    """Return a tar file of the commit before the newest migration was added, or None without a history."""
    git = ["git", "-C", str(ROOT)]
    added = subprocess.run(
        [*git, "log", "--diff-filter=A", "--format=%H", "--", f"{VERSIONS}/{newest()}"], capture_output=True, text=True
    )
    if added.returncode or not added.stdout.strip():
        return None
    commit = f"{added.stdout.split()[-1]}^"
    archive = subprocess.run([*git, "archive", commit], capture_output=True)
    return archive.stdout if archive.returncode == 0 else None


PAY = """
import sys
from pathlib import Path
from app import timeouts
from tests.factories import ready_to_pay
from tests.recovery import recover_and_audit
from tests.shops import Shop

shop = Shop(sys.argv[1], Path(sys.argv[2]))
print(ready_to_pay(shop.shopper()).submit().heading)
recover_and_audit(shop)
shop.close()
"""


@pytest.mark.slow
def test_the_version_before_takes_a_payment_on_the_new_schema(own_url: str, tmp_path: Path) -> None:
    """The docstring of this file says when there is nothing to run."""
    archive = version_before() if expanding() else None
    if archive is None:
        return
    earlier = tmp_path / "earlier"
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(earlier, filter="data")
    assert not list((earlier / VERSIONS).glob(newest()))
    command = [sys.executable, "-c", PAY, own_url, str(tmp_path)]
    done = subprocess.run(command, cwd=earlier, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "Paid: €24.00"), done.stderr
