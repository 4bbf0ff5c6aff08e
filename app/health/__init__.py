"""Endpoints for machines: liveness, readiness and metrics."""
