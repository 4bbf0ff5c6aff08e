"""The gateway that calls the sandbox bank. No real money moves."""
