"""A payment provider of our own that speaks the part of Stripe's interface that the shop uses, edges included."""
