"""The core: tokens, states, the protocol, refunds, recovery, receipts and the audit."""

from app.charges import triggers as triggers  # They belong to the tables, but no other module needs them.
