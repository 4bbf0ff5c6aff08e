"""compose.yaml holds what a deployment needs, and the docker client accepts it if one is installed."""

import os
import shutil
import subprocess
from dataclasses import Field, fields
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.settings import Settings
from tests.deployment.dockerfile import ROOT


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


SECRETS = ("SECRET_KEY", "SANDBOX_API_KEY", "SHOP_ID", "POSTGRES_PASSWORD", "OWNER_PASSWORD", "SHOP_PASSWORD")


def test_secrets_come_from_outside_and_are_required(services: dict[str, Any]) -> None:
    """Containers must not make any of them themselves."""
    given = " ".join(str(value) for service in services.values() for value in service.get("environment", {}).values())
    for name in SECRETS:
        assert f"${{{name}:?" in given
        assert f"${{{name}}}" not in given and f"${{{name}:-" not in given


@pytest.mark.parametrize("setting", fields(Settings), ids=lambda setting: setting.name.upper())
def test_every_setting_can_be_passed(services: dict[str, Any], setting: Field[Any]) -> None:
    name = setting.name.upper()
    service = "bank" if name == "SANDBOX_DATABASE_URL" else "shop"
    value = str(services[service]["environment"][name])
    composed = name in {"DATABASE_URL", "SANDBOX_BANK_URL"}  # The addresses of other containers.
    assert composed or value.startswith(f"${{{name}:"), value


def test_the_shop_and_the_migration_use_different_roles_and_no_superuser(services: dict[str, Any]) -> None:
    for name, role in {"migrate": "payonce_owner", "shop": "payonce_shop", "recovery": "payonce_shop"}.items():
        assert services[name]["environment"]["DATABASE_URL"].startswith(f"postgresql://{role}:")
    for name, secrets in {"shop": "SHOP", "recovery": "SHOP", "migrate": "OWNER", "bank": ""}.items():
        given = str(services[name]["environment"])
        assert {secret for secret in ("POSTGRES", "OWNER", "SHOP") if f"{secret}_PASSWORD" in given} == {secrets} - {""}


def test_the_demonstration_is_off(services: dict[str, Any]) -> None:
    assert services["shop"]["environment"]["LAB"] == "${LAB:-off}"


def test_every_service_has_limits_and_a_health_check(services: dict[str, Any]) -> None:
    """The shop's health check is the image's. `migrate` ends, so its exit code is its check."""
    for name, service in services.items():
        assert service["mem_limit"] and service["pids_limit"], name
        assert name in {"shop", "migrate"} or service["healthcheck"]["test"], name
    assert "--host=127.0.0.1" in services["postgres"]["healthcheck"]["test"]


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
    assert services["shop"]["stop_grace_period"] == "60s"


def test_the_bank_has_one_name_for_containers_and_browsers(services: dict[str, Any]) -> None:
    bank = services["bank"]
    origin = urlsplit(bank["environment"]["SANDBOX_BANK_URL"])
    assert services["shop"]["environment"]["SANDBOX_BANK_URL"] == bank["environment"]["SANDBOX_BANK_URL"]
    assert origin.hostname in bank["networks"]["default"]["aliases"]
    assert bank["ports"] == [f"127.0.0.1:{origin.port}:{origin.port}"]


def test_the_bank_gets_no_secret_of_the_shop_but_the_key_of_its_account(services: dict[str, Any]) -> None:
    assert services["bank"]["command"] == ["python", "-m", "sandbox_bank"]
    bank, shop = services["bank"]["environment"], services["shop"]["environment"]
    public = {"SHOP_HOSTS", "SHOP_URL"}
    assert bank.keys() == {"SANDBOX_BANK_URL", "SANDBOX_API_KEY", "SANDBOX_DATABASE_URL"} | public
    assert bank["SANDBOX_API_KEY"] == shop["SANDBOX_API_KEY"]


def test_every_process_of_the_procfile_has_a_service(services: dict[str, Any]) -> None:
    """Its release step is the service that migrates."""
    names = {line.split(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()}
    assert names - {"release"} <= services.keys()


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
        given = dict.fromkeys(set(SECRETS) - {"SECRET_KEY"}, "k" * 32)
        assert compose("config", "--quiet", SECRET_KEY="k" * 32, **given).returncode == 0
        assert "set SECRET_KEY" in compose("config", "--quiet", **given).stderr
