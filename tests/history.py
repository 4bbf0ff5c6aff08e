"""The past of a shop on PostgreSQL: any number of paid orders, inserted in bulk, for measurements."""

import psycopg2
from sqlalchemy import make_url

from tests.postgres import Server

IDS = """
CREATE FUNCTION pg_temp.id(kind text, i bigint) RETURNS text IMMUTABLE LANGUAGE sql
    AS $$ SELECT lpad(to_hex(1700000000000 + i * 1000), 12, '0') || left(md5(kind || i), 24) $$;
CREATE FUNCTION pg_temp.uuid(kind text, i bigint) RETURNS uuid IMMUTABLE LANGUAGE sql
    AS $$ SELECT left(pg_temp.id(kind, i), 32)::uuid $$;
CREATE FUNCTION pg_temp.day(i bigint) RETURNS timestamptz IMMUTABLE LANGUAGE sql
    AS $$ SELECT to_timestamp(1700000000 + i) $$;
"""
"""Ids as the program makes them: the time, then something random. Payment `i` was made in second `i` since 2023."""

PAYMENTS = """
INSERT INTO orders (id, buyer_id, random_id, state, version, currency, created_at)
    SELECT i, pg_temp.uuid('buyer', i), pg_temp.uuid('order', i), 'placed', 1 + i, 'EUR', pg_temp.day(i)
    FROM generate_series(1, {n}) i;
INSERT INTO order_line (order_id, product_id, quantity, unit_price)
    SELECT i, 1 + i % 10, 1, 1000 + i % 5000 FROM generate_series(1, {n}) i;
INSERT INTO charge (id, key, receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name,
                    receipt_url, last4, arrivals, other_arrivals, gateway, account, gateway_reference, ask_at,
                    times_asked, created_at, ended_at)
    SELECT i, pg_temp.uuid('key', i), pg_temp.id('receipt', i), i, pg_temp.uuid('buyer', i), 'succeeded',
           1000 + i % 5000, 'EUR', CASE WHEN i % 20 = 0 THEN 500 ELSE 0 END, 'ada' || i || '@example.org',
           'Ada Example', 'http://127.0.0.1:8000/receipts/' || pg_temp.id('receipt', i), '4242', 1, 0, 'sandbox',
           'sandbox', pg_temp.uuid('key', i), pg_temp.day(i), 0, pg_temp.day(i), pg_temp.day(i)
    FROM generate_series(1, {n}) i;
INSERT INTO charge_line (charge_id, position, product_id, name, quantity, unit_price)
    SELECT i, 1, 1 + i % 10, 'Thing', 1, 1000 + i % 5000 FROM generate_series(1, {n}) i;
INSERT INTO outbox_email (charge_id, message_id, send_at, tries, sent_at)
    SELECT i, gen_random_uuid(), pg_temp.day(i), 1, pg_temp.day(i) FROM generate_series(1, {n}) i;
INSERT INTO refund (charge_id, key, amount, status, stray, ask_at, send_until, times_asked, created_at, ended_at)
    SELECT i, pg_temp.uuid('refund', i), 500, 'succeeded', false, now(), now(), 0, pg_temp.day(i), pg_temp.day(i)
    FROM generate_series(20, {n}, 20) i;
INSERT INTO ledger_entry (charge_id, kind, account, amount, currency, created_at)
    SELECT i, 'charge', side.account, side.sign * (1000 + i % 5000), 'EUR', pg_temp.day(i)
    FROM generate_series(1, {n}) i, (VALUES ('gateway', 1), ('sales', -1)) side (account, sign);
INSERT INTO ledger_entry (charge_id, refund_id, kind, account, amount, currency, created_at)
    SELECT r.charge_id, r.id, 'refund', side.account, side.sign * r.amount, 'EUR', r.created_at
    FROM refund r, (VALUES ('gateway', -1), ('sales', 1)) side (account, sign);
UPDATE product SET stocked = stocked + held.pieces
    FROM (SELECT product_id, sum(quantity) AS pieces FROM charge_line GROUP BY product_id) held
    WHERE held.product_id = product.id;
SELECT setval(pg_get_serial_sequence('orders', 'id'), {n}), setval(pg_get_serial_sequence('charge', 'id'), {n});
"""


def fill(server: Server, database: str, script: str, payments: int, **values: object) -> None:
    """Run a script of this module's functions, then VACUUM ANALYZE, as autovacuum does sooner or later.

    Triggers, which check foreign keys too, do not run: the rows are right.
    """
    dsn = make_url(server.url(database)).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET session_replication_role = replica")
        cursor.execute(IDS + script.format(n=payments, **values))
        cursor.execute("VACUUM ANALYZE")
    connection.close()
