"""The payment gateways: one interface (base) and whoever speaks it."""
