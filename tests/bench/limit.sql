-- What the engine itself can do: the protocol's two transactions and nothing else, for pgbench.
-- Each client pays orders of its own, of one product each (as in forms.py).
\set n :n + 1
\set order :first + :n * 16 + :client_id
\set product :order % :kinds + 1
-- claim
BEGIN;
INSERT INTO charge (token, receipt, order_id, status, amount, currency, refunded, email, name, last4, link, arrivals, rivals, gateway, account, ask_at, asked, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), :order, 'processing', 2400, 'EUR', 0, 'shopper@example.com', 'Ada Lovelace', '4242', 'http://127.0.0.1/receipts/' || gen_random_uuid(), 1, 0, 'sandbox', 'bench', clock_timestamp() + make_interval(secs => 15), 0, clock_timestamp()) ON CONFLICT DO NOTHING RETURNING id AS charge \gset
UPDATE orders SET state = 'placed' WHERE id = :order AND version = 1 AND state = 'open';
SELECT product_id, quantity, unit_price FROM order_line WHERE order_id = :order ORDER BY product_id;
UPDATE product SET stock = stock - 1 WHERE id = :product AND stock >= 1 AND on_sale RETURNING price;
INSERT INTO same_order (fingerprint, charge_id) VALUES (encode(sha256(:order::text::bytea), 'hex'), :charge) ON CONFLICT DO NOTHING;
COMMIT;
-- record
BEGIN;
UPDATE charge SET status = 'succeeded', reference = 'bench', ended_at = clock_timestamp(), ask_at = clock_timestamp() WHERE id = :charge AND status = 'processing';
INSERT INTO ledger_entry (charge_id, account, amount, currency, created_at) VALUES (:charge, 'gateway', 2400, 'EUR', clock_timestamp()), (:charge, 'sales', -2400, 'EUR', clock_timestamp());
INSERT INTO letter (charge_id, message, send_at, tries) VALUES (:charge, gen_random_uuid(), clock_timestamp(), 0);
COMMIT;
