"""The sandbox: a bank of its own to try everything with, and the shop's way to it. No real money moves."""
