"""Measure the audit of a million payments on PostgreSQL, with the statement of a bank in another process.

Usage: python -m tests.faults.million [PAYMENTS]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg2
from sqlalchemy import make_url

from sandbox_bank.accounts import account_id
from sandbox_bank.storage import open_storage
from tests.conftest import migrate
from tests.factories import API_KEY, SECRET, SHOP_ID
from tests.gateways.bank import ROOT, running_bank
from tests.postgres import Cluster, private_cluster

SHOP = """
INSERT INTO orders (id, buyer_id, random_id, state, version, currency, created_at)
    SELECT i, gen_random_uuid(), gen_random_uuid(), 'placed', 1, 'EUR', now() - interval '1 day'
    FROM generate_series(1, {n}) i;
INSERT INTO order_line (order_id, product_id, quantity, unit_price)
    SELECT i, 1 + i % 10, 1, 1000 + i % 5000 FROM generate_series(1, {n}) i;
INSERT INTO charge (id, key, receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name,
                    receipt_url, last4, arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at,
                    ended_at)
    SELECT i, ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, gen_random_uuid()::text, i,
           (SELECT buyer_id FROM orders WHERE orders.id = i), 'succeeded',
           1000 + i % 5000, 'EUR', CASE WHEN i % 20 = 0 THEN 500 ELSE 0 END, 'ada' || i || '@example.org',
           'Ada Example', 'http://127.0.0.1/receipts/1', '4242', 1, 0, 'sandbox', 'sandbox', now(), 0,
           now() - interval '1 day', now() - interval '1 day' FROM generate_series(1, {n}) i;
INSERT INTO refund (charge_id, key, amount, status, stray, ask_at, send_until, times_asked, created_at, ended_at)
    SELECT i, ('00000000-0000-4000-9000-' || lpad(to_hex(i), 12, '0'))::uuid, 500, 'succeeded', false, now(), now(), 0,
           now() - interval '1 hour', now() - interval '1 hour' FROM generate_series(20, {n}, 20) i;
INSERT INTO charge_line (charge_id, position, product_id, name, quantity, unit_price)
    SELECT i, 1, 1 + i % 10, 'Thing', 1, 1000 + i % 5000 FROM generate_series(1, {n}) i;
INSERT INTO ledger_entry (charge_id, kind, account, amount, currency, created_at)
    SELECT i, 'charge', side.account, side.sign * (1000 + i % 5000), 'EUR', now() - interval '1 day'
    FROM generate_series(1, {n}) i, (VALUES ('gateway', 1), ('sales', -1)) side (account, sign);
INSERT INTO ledger_entry (charge_id, refund_id, kind, account, amount, currency, created_at)
    SELECT r.charge_id, r.id, 'refund', side.account, side.sign * r.amount, 'EUR', now()
    FROM refund r, (VALUES ('gateway', -1), ('sales', 1)) side (account, sign);
UPDATE product SET stocked = stock + held.pieces
    FROM (SELECT product_id, sum(quantity) AS pieces FROM order_line GROUP BY product_id) held
    WHERE held.product_id = product.id;
"""

BANK = """
INSERT INTO bank_account_movement (account, key, charge, kind, amount, currency, at)
    SELECT '{account}', '00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'),
           '00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'), 'charge', 1000 + i % 5000, 'EUR',
           now() - interval '1 day' FROM generate_series(1, {n}) i;
INSERT INTO bank_account_movement (account, key, charge, kind, amount, currency, at)
    SELECT '{account}', '00000000-0000-4000-9000-' || lpad(to_hex(i), 12, '0'),
           '00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'), 'refund', 500, 'EUR', now()
    FROM generate_series(20, {n}, 20) i;
"""


def fill(cluster: Cluster, database: str, script: str, payments: int) -> None:
    """Run a script on a database, then VACUUM ANALYZE it, as autovacuum does sooner or later."""
    dsn = make_url(cluster.url(database)).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(script.format(n=payments, account=account_id(API_KEY)))
        cursor.execute("VACUUM ANALYZE")
    connection.close()


def measure(payments: int) -> float:
    """Return the seconds that `audit` takes for this number of payments.

    Raises CalledProcessError if the audit finds a broken invariant.
    """
    with private_cluster(durable=False) as cluster, tempfile.TemporaryDirectory() as folder:
        shop_database, bank_database = cluster.create(), cluster.create()
        migrate(cluster.url(shop_database))
        open_storage(cluster.url(bank_database)).dispose()
        fill(cluster, shop_database, SHOP, payments)
        fill(cluster, bank_database, BANK, payments)
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
