"""Warnings at the start."""

import os

import pytest

from app.server import starting
from tests.shops import Shop


@pytest.mark.parametrize(("user", "warned"), [(0, True), (10001, False)])
def test_running_as_root_is_warned_about(
    shop: Shop, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, user: int, warned: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    starting.warn(shop.app, 1)
    assert ("runs_as_root" in capfd.readouterr().err) is warned
