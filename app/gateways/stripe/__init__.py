"""Stripe: Checkout Sessions on the provider's own page. No card data ever comes here."""
