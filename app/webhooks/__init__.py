"""What gateways tell us by themselves."""
