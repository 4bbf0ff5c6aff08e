"""The shopper's pages. Each module that has views defines its own `blueprint`."""
