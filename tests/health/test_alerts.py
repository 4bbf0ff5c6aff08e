"""The alerts and the dashboard name only metrics that exist, and the runbook has a section for each alert."""

import json
import re
import subprocess
from collections.abc import Iterable

import pytest
import yaml
from prometheus_client import REGISTRY

from app.health.metrics import Stored
from setup import promtool
from tests.policies.sources import ROOT
from tests.shops import Shop

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
TESTS = ROOT / "deploy" / "prometheus" / "rules_test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "payonce.json"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()

SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterable[str]:
    """Return every query of the alerts and of the dashboard."""
    yield from (rule["expr"] for rule in rules())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_every_metric_that_is_named_exists_and_every_metric_is_on_the_dashboard(shop: Shop) -> None:
    with shop.app.app_context():
        assert shop.app.test_cli_runner().invoke(args=["audit"]).exit_code == 0
        families = [family for source in (REGISTRY, Stored()) for family in source.collect()]
    ours = [family for family in families if family.name.startswith("payonce_")]
    existing = {family.name + suffix for family in ours for suffix in SUFFIXES[family.type]}
    named = {name for expression in expressions() for name in re.findall(r"payonce_\w+", expression)}
    assert named - existing == set()
    shown = DASHBOARD.read_text()
    assert [family.name for family in ours if family.name not in shown] == []
    assert [family.name for family in ours if not family.documentation.endswith(".")] == []


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    sections = dict(re.findall(r"^## (PayOnce\w+)$(.*?)(?=^## |\Z)", RUNBOOK, re.M | re.S))
    assert set(sections) == {rule["alert"] for rule in rules()}
    for name, text in sections.items():
        for part in ("**Means**", "**Look at**", "**Do**", "**Never**"):
            assert part in text, f"{name} does not say: {part}"


@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_every_command_in_the_runbook_exists(shop: Shop) -> None:
    commands = shop.app.cli.commands
    used = set(re.findall(r"\$FLASK ([\w-]+)", RUNBOOK))
    assert used and used <= set(commands)
    for name, rest in re.findall(r"\$FLASK ([\w-]+)([^\n`]*)", RUNBOOK):
        options = {each for parameter in commands[name].params for each in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= options, f"{name}{rest}"


@pytest.mark.slow
def test_promtool_accepts_the_rules_and_each_alert_fires_when_it_should() -> None:
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(TESTS)]):
        done = subprocess.run([str(promtool.find()), *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    fired = {
        check["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for check in test["alert_rule_test"]
        if check["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules()}
