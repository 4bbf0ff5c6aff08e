"""Measure the audit of a million payments on PostgreSQL, with the statement of a bank in another process.

Usage: python -m tests.faults.million [PAYMENTS]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sandbox_bank.accounts import account_id
from sandbox_bank.storage import open_storage
from tests import history
from tests.conftest import migrate
from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.gateways.bank import ROOT, running_bank
from tests.postgres import private_cluster

BANK = """
INSERT INTO bank_account_movement (account, key, charge, kind, amount, currency, at)
    SELECT '{account}', pg_temp.uuid('key', i)::text, pg_temp.uuid('key', i)::text, 'charge', 1000 + i % 5000, 'EUR',
           pg_temp.day(i) FROM generate_series(1, {n}) i;
INSERT INTO bank_account_movement (account, key, charge, kind, amount, currency, at)
    SELECT '{account}', pg_temp.uuid('refund', i)::text, pg_temp.uuid('key', i)::text, 'refund', 500, 'EUR',
           pg_temp.day(i) FROM generate_series(20, {n}, 20) i;
"""


def measure(payments: int) -> float:
    """Return the seconds that `audit` takes for this number of payments.

    Raises CalledProcessError if the audit finds a broken invariant.
    """
    with private_cluster(durable=False) as cluster, tempfile.TemporaryDirectory() as folder:
        shop_database, bank_database = cluster.create(), cluster.create()
        migrate(cluster.url(shop_database))
        open_storage(cluster.url(bank_database)).dispose()
        history.fill(cluster, shop_database, history.PAYMENTS, payments)
        history.fill(cluster, bank_database, BANK, payments, account=account_id(API_KEY))
        with running_bank(cluster.url(bank_database), Path(folder)) as bank:
            env = os.environ | {
                "DATABASE_URL": cluster.url(shop_database), "SANDBOX_BANK_URL": bank.url, "SECRET_KEY": SECRET,
                "SANDBOX_API_KEY": API_KEY, "SHOP_ID": SHOP_ID,
            }  # fmt: skip
            start = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "flask", "--app", "wsgi", "audit"], cwd=ROOT, env=env, check=True, timeout=1800
            )
            return time.monotonic() - start


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"audit of {count:,} payments: {measure(count):.0f} s", flush=True)
