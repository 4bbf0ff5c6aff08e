"""Stripe: Checkout Sessions on the provider's own page. This program never sees card data."""
