-- The limit that the database itself sets: only the statements of the protocol's two transactions, for pgbench.
-- Each client pays its own orders of one product each (see forms.py).
\set n :n + 1
\set order_id :first + :n * 16 + :client_id
\set product_id :order_id % :kinds + 1
-- claim
BEGIN;
INSERT INTO charge (key, receipt_id, order_id, status, amount, currency, refunded, email, name, last4, receipt_url, arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), :order_id, 'processing', 2400, 'EUR', 0, 'shopper@example.com', 'Ada Lovelace', '4242', 'http://127.0.0.1/receipts/' || gen_random_uuid(), 1, 0, 'sandbox', 'bench', clock_timestamp() + make_interval(secs => 15), 0, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING id AS charge_id \gset
UPDATE orders SET state = 'placed' WHERE id = :order_id AND version = 1 AND state = 'open';
SELECT product_id, quantity, unit_price FROM order_line WHERE order_id = :order_id ORDER BY product_id;
UPDATE product SET stock = stock - 1 WHERE id = :product_id AND stock >= 1 AND on_sale RETURNING price;
INSERT INTO same_order (fingerprint, charge_id) VALUES (encode(sha256(:order_id::text::bytea), 'hex'), :charge_id) ON CONFLICT DO NOTHING;
COMMIT;
-- record
BEGIN;
UPDATE charge SET status = 'succeeded', gateway_reference = 'bench', ended_at = clock_timestamp(), ask_at = clock_timestamp() WHERE id = :charge_id AND status = 'processing';
INSERT INTO ledger_entry (charge_id, account, amount, currency, created_at) VALUES (:charge_id, 'gateway', 2400, 'EUR', clock_timestamp()), (:charge_id, 'sales', -2400, 'EUR', clock_timestamp());
INSERT INTO outbox_email (charge_id, message_id, send_at, tries) VALUES (:charge_id, gen_random_uuid(), clock_timestamp(), 0);
COMMIT;
