"""A stand-in for Stripe. It speaks the part of Stripe's API that the shop uses, with its edge cases."""
