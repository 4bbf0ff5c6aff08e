"""Fields that the provider's objects always have, and that no test needs: empty, as for the simplest payment."""

from typing import Any

Object = dict[str, Any]

SESSION: Object = {
    "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
    "billing_address_collection": None, "custom_fields": [],
    "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
    "customer": None, "customer_creation": "if_required", "invoice": None, "locale": None, "origin_context": None,
    "payment_link": None, "payment_method_collection": "if_required", "redirect_on_completion": "always",
    "setup_intent": None, "shipping_options": [], "submit_type": None, "subscription": None, "ui_mode": "hosted_page",
}  # fmt: skip

INTENT: Object = {
    "amount_capturable": 0, "amount_received": 0, "application": None, "cancellation_reason": None,
    "capture_method": "automatic_async", "confirmation_method": "automatic", "customer": None, "latest_charge": None,
    "on_behalf_of": None, "payment_method": None, "payment_method_types": ["card"], "payment_record": None,
    "review": None, "setup_future_usage": None, "source": None,
}  # fmt: skip

CHARGE: Object = {
    "application": None, "application_fee": None, "balance_transaction": None,
    "billing_details": {"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
    "customer": None, "disputed": False, "failure_balance_transaction": None, "on_behalf_of": None, "review": None,
    "source": None, "source_transfer": None, "transfer": None,
}  # fmt: skip

REFUND: Object = {
    "balance_transaction": None, "customer": None, "failure_balance_transaction": None, "payment_method": None,
    "pending_reason": None, "source_transfer_reversal": None, "transfer_reversal": None,
}  # fmt: skip

DISPUTE: Object = {"enhanced_eligibility_types": [], "evidence": {}}

BALANCE_TRANSACTION: Object = {"balance_type": "payments"}
