"""An older version meets a database that a later version has migrated: one line, no change, and it serves on."""

from pathlib import Path

import pytest

from app import revisions
from tests.factories import ready_to_pay
from tests.migrations import upgrading
from tests.migrations.world import world


def test_an_upgrade_by_an_older_version_changes_nothing_and_says_so(own_url: str, tmp_path: Path) -> None:
    with world(own_url, tmp_path) as around:
        around.shop.execute("UPDATE alembic_version SET version_num = '9999'")
        code, output = around.run("db", "upgrade")
        assert code == 0, "the steps after it, which start the older version, must run"
        lines = [line for line in output.splitlines() if "PayOnce" in line]
        assert lines == [
            "A later version of PayOnce has migrated this database to 9999. Nothing was changed: this version works "
            "with it."
        ]
        assert "Traceback" not in output and "locate" not in output
        assert upgrading.current_revision(own_url) == "9999"
        assert ready_to_pay(around.shop.shopper()).submit().heading == "Paid: €24.00"


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_a_revision_of_another_program_is_refused(own_url: str, tmp_path: Path) -> None:
    with world(own_url, tmp_path) as around:
        around.shop.execute("UPDATE alembic_version SET version_num = 'a1b2c3'")
        code, output = around.run("db", "upgrade")
        assert code != 0
        assert "Traceback" not in output


def test_the_newest_revision_is_known() -> None:
    assert revisions.known()[0] == upgrading.head()
    assert [revisions.is_later(revision) for revision in (None, "0001", "9999", "other")] == [False, False, True, False]
