"""The audit's longer queries: what refunds, stray payments, disputes and the ledger must agree with.

Each returns the ids of the rows that contradict an invariant, or that a person should look at.
"""

from app.charges.states import REFUND_PENDING, WITHOUT_MONEY, WITHOUT_REFUND, sql_list

COMPARED = """NOT EXISTS (
    SELECT 1 FROM absent_account a WHERE a.gateway = c.gateway AND a.account = c.account)"""
"""A charge whose gateway and account have been asked for their statement."""

REVERSED = f"""
SELECT 'charge ' || c.id || ' ' || c.key FROM bank_statement s JOIN charge c ON c.key = s.key
WHERE s.kind = 'charge' AND c.status IN ({sql_list(WITHOUT_MONEY)}) AND NOT EXISTS (
    SELECT 1 FROM refund r JOIN bank_statement b ON b.key = r.key AND b.kind = 'refund'
    WHERE r.charge_id = c.id AND r.stray AND b.amount = s.amount)
AND s.amount <> (
    SELECT coalesce(sum(CASE b.kind WHEN 'refund' THEN b.amount ELSE -b.amount END), 0) FROM bank_statement b
    WHERE b.payment = s.payment AND b.currency = s.currency AND b.kind IN ('refund', 'refund_failed'))
"""

LEDGER = f"""
SELECT 'currency ' || currency FROM ledger_entry GROUP BY currency HAVING sum(amount) <> 0
UNION ALL
SELECT 'charge ' || charge_id FROM ledger_entry GROUP BY charge_id HAVING sum(amount) <> 0
UNION ALL
SELECT 'charge ' || c.id FROM charge c
LEFT JOIN (SELECT charge_id, sum(amount) AS took FROM ledger_entry
           WHERE account = 'gateway' AND dispute_id IS NULL GROUP BY charge_id) l ON l.charge_id = c.id
LEFT JOIN (SELECT charge_id, sum(CASE WHEN status = 'succeeded' THEN amount ELSE 0 END) AS gave,
           max(CASE WHEN stray THEN amount ELSE 0 END) AS stray FROM refund GROUP BY charge_id) r
    ON r.charge_id = c.id
WHERE coalesce(l.took, 0) <>
    CASE WHEN c.status = 'succeeded' THEN c.amount ELSE coalesce(r.stray, 0) END - coalesce(r.gave, 0)
UNION ALL
SELECT 'charge ' || charge_id || ' ' || kind FROM (
    SELECT l.charge_id, l.kind, abs(l.amount) AS known, 0 AS moved, 0 AS overdue,
        CASE WHEN l.created_at < :began THEN abs(l.amount) ELSE 0 END AS due
    FROM ledger_entry l JOIN charge c ON c.id = l.charge_id AND {COMPARED}
    WHERE l.dispute_id IS NOT NULL AND l.account = 'gateway'
    UNION ALL
    SELECT c.id, s.kind, 0, s.amount, CASE WHEN s.at < :overdue THEN s.amount ELSE 0 END, 0
    FROM bank_statement s JOIN charge c ON c.key = s.key
    WHERE s.kind IN ('dispute', 'dispute_reversed', 'fee')) d
GROUP BY charge_id, kind HAVING sum(due) > sum(moved) OR sum(overdue) > sum(known)
"""

REFUNDS = f"""
SELECT 'charge ' || c.id FROM charge c
LEFT JOIN (SELECT charge_id, sum(amount) AS promised FROM refund
           WHERE NOT stray AND status NOT IN ({sql_list(WITHOUT_REFUND)}) GROUP BY charge_id) r
    ON r.charge_id = c.id
WHERE c.refunded > c.amount OR c.refunded <> coalesce(r.promised, 0)
UNION ALL
SELECT 'key ' || coalesce(cast(key AS varchar), foreign_key) FROM bank_statement WHERE kind = 'refund'
GROUP BY key, foreign_key HAVING count(*) > 1
UNION ALL
SELECT 'refund ' || r.id FROM refund r JOIN charge c ON c.id = r.charge_id AND {COMPARED} LEFT JOIN (
    SELECT key, sum(CASE WHEN kind = 'refund' THEN amount ELSE -amount END) AS gave FROM bank_statement
    WHERE kind IN ('refund', 'refund_failed') GROUP BY key) s ON s.key = r.key
WHERE r.status NOT IN ({sql_list(REFUND_PENDING)}) AND r.ended_at < :began
    AND coalesce(s.gave, 0) <> CASE WHEN r.status = 'succeeded' THEN r.amount ELSE 0 END
"""

DISPUTED = """
    SELECT 'charge ' || charge_id || ' ' || status || ', dispute ' || gateway_reference || coalesce(', ' || reason, '')
    FROM dispute WHERE status IN ('open', 'lost')
"""

STRAY = """
    SELECT 'charge ' || c.id || ' ' || c.status || ' took money; its refund ' || r.id || ' ' || r.status
    FROM refund r JOIN charge c ON c.id = r.charge_id WHERE r.stray
"""
