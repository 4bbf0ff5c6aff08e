"""Events that gateways send to the shop (webhooks)."""
