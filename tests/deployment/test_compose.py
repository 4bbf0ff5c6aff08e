"""compose.yaml holds what a deployment needs, and the docker client accepts it if one is installed."""

import os
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deployment.dockerfile import ROOT


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def test_secrets_come_from_outside_and_are_required(services: dict[str, Any]) -> None:
    environment = services["shop"]["environment"]
    assert environment["SECRET_KEY"].startswith("${SECRET_KEY:?")
    assert environment["SANDBOX_API_KEY"].startswith("${SANDBOX_API_KEY:?")
    assert environment["SHOP_ID"].startswith("${SHOP_ID:?"), "containers must not make one each"
    assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_the_database_is_migrated_before_the_shop_serves(services: dict[str, Any]) -> None:
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["shop"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert "db upgrade" in services["migrate"]["command"][-1]


def test_our_containers_can_change_only_their_own_data(services: dict[str, Any]) -> None:
    for name in services.keys() - {"postgres"}:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_the_shop_has_more_than_one_worker_and_time_to_stop(services: dict[str, Any]) -> None:
    assert services["shop"]["environment"]["WEB_CONCURRENCY"] == "${WEB_CONCURRENCY:-4}"
    assert services["shop"]["stop_grace_period"] == "40s"


def test_the_bank_has_one_name_for_containers_and_browsers(services: dict[str, Any]) -> None:
    bank = services["bank"]
    origin = urlsplit(bank["environment"]["SANDBOX_BANK_URL"])
    assert services["shop"]["environment"]["SANDBOX_BANK_URL"] == bank["environment"]["SANDBOX_BANK_URL"]
    assert origin.hostname in bank["networks"]["default"]["aliases"]
    assert bank["ports"] == [f"127.0.0.1:{origin.port}:{origin.port}"]


def test_the_bank_gets_no_secret_of_the_shop_but_the_key_of_its_account(services: dict[str, Any]) -> None:
    assert services["bank"]["command"] == ["python", "-m", "sandbox_bank"]
    bank, shop = services["bank"]["environment"], services["shop"]["environment"]
    assert bank.keys() == {"SANDBOX_BANK_URL", "SANDBOX_API_KEY"}
    assert bank["SANDBOX_API_KEY"] == shop["SANDBOX_API_KEY"]


def test_every_process_of_the_procfile_has_a_service(services: dict[str, Any]) -> None:
    names = {line.split(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()}
    assert names <= services.keys()


def compose(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `docker compose` on the project's file. The commands used here need no Docker daemon."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment
    command = ["docker", "compose", "--file", str(ROOT / "compose.yaml"), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def has_compose() -> bool:
    """Return whether the docker client and its compose plugin are installed. Both are optional."""
    return shutil.which("docker") is not None and compose("version").returncode == 0


def test_the_docker_client_accepts_the_file() -> None:
    if has_compose():  # Without it, only the tests above check the file.
        given = {"POSTGRES_PASSWORD": "p", "SANDBOX_API_KEY": "k" * 32, "SHOP_ID": "s"}
        assert compose("config", "--quiet", SECRET_KEY="k" * 32, **given).returncode == 0
        assert "set SECRET_KEY" in compose("config", "--quiet", **given).stderr
