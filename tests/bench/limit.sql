-- The limit that the database itself sets: only the statements of the protocol's two transactions, for pgbench.
-- Each client pays its own orders of one product each (see forms.py).
\set n :n + 1
\set order_id :first + :n * 16 + :client_id
\set product_id :order_id % :kinds + 1
-- claim
BEGIN;
INSERT INTO charge (key, receipt_id, order_id, buyer_id, status, amount, currency, refunded, email, name, last4, receipt_url, arrivals, other_arrivals, gateway, account, ask_at, times_asked, created_at) SELECT gen_random_uuid(), gen_random_uuid(), id, buyer_id, 'processing', 2400, 'EUR', 0, 'shopper@example.com', 'Ada Lovelace', '4242', 'http://127.0.0.1/receipts/' || gen_random_uuid(), 1, 0, 'sandbox', 'bench', clock_timestamp() + make_interval(secs => 15), 0, clock_timestamp() FROM orders WHERE id = :order_id ON CONFLICT DO NOTHING RETURNING id AS charge_id \gset
UPDATE orders SET state = 'placed' WHERE id = :order_id AND version = 1 AND state || '' = 'open';
SELECT product_id, quantity, unit_price FROM order_line WHERE order_id = :order_id ORDER BY product_id;
UPDATE product SET stock = stock - 1 WHERE id = :product_id AND stock >= 1 AND on_sale;
INSERT INTO charge_line (charge_id, position, product_id, name, quantity, unit_price) SELECT :charge_id, 1, l.product_id, p.name, l.quantity, p.price FROM order_line l JOIN product p ON p.id = l.product_id WHERE l.order_id = :order_id;
INSERT INTO same_order (fingerprint) VALUES (encode(sha256(:order_id::text::bytea), 'hex')) ON CONFLICT (fingerprint) DO UPDATE SET fingerprint = excluded.fingerprint;
SELECT c.created_at FROM charge c JOIN same_order_charge e ON e.charge_id = c.id WHERE e.fingerprint = encode(sha256(:order_id::text::bytea), 'hex') ORDER BY c.id DESC LIMIT 1;
INSERT INTO same_order_charge (fingerprint, charge_id) VALUES (encode(sha256(:order_id::text::bytea), 'hex'), :charge_id);
COMMIT;
-- record
BEGIN;
UPDATE charge SET status = 'succeeded', gateway_reference = 'bench', ended_at = clock_timestamp(), ask_at = clock_timestamp() WHERE id = :charge_id AND status || '' = 'processing';
INSERT INTO ledger_entry (charge_id, kind, account, amount, currency, created_at) VALUES (:charge_id, 'charge', 'gateway', 2400, 'EUR', clock_timestamp()), (:charge_id, 'charge', 'sales', -2400, 'EUR', clock_timestamp());
INSERT INTO outbox_email (charge_id, message_id, send_at, tries) VALUES (:charge_id, gen_random_uuid(), clock_timestamp(), 0);
COMMIT;
