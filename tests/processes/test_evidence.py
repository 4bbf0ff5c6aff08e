"""Evidence of real servers: a thread writes it, and a stop loses none. /metrics sums up all workers."""

import json
import re
from pathlib import Path

import httpx

from tests.factories import ready_to_pay
from tests.gateways.bank import until
from tests.processes.running import Deployment, RunningShop

EVIDENCE = """
SELECT a.answer, q.result, a.request_id = c.request_id FROM charge c
JOIN arrival a ON a.charge_key = c."key" JOIN question q ON q.charge_key = c."key" WHERE c.email = :email
"""


def test_a_stop_right_after_a_payment_loses_no_evidence(deployment: Deployment, tmp_path: Path, email: str) -> None:
    shop = RunningShop(deployment.shop.database_url, deployment.bank.url, tmp_path, workers=1).start()
    form = ready_to_pay(shop.shopper(), email=email)
    assert form.post().status_code == 303
    assert shop.stop() == 0
    assert [json.loads(line) for line in shop.log.read_text().splitlines()], "gunicorn's own lines are JSON, too"
    [row] = deployment.rows(EVIDENCE, email=email)
    assert (row[0], row[1], bool(row[2])) == ("succeeded", "succeeded", True)


def test_the_metrics_are_those_of_all_workers_and_of_the_database(deployment: Deployment, email: str) -> None:
    def paid() -> float:
        text = httpx.get(f"{deployment.shop.url}/metrics", timeout=60, trust_env=False).text
        [found] = re.findall(r'^payonce_outcomes_total{kind="charges",outcome="succeeded"} (\S+)$', text, re.M)
        assert "payonce_database_reachable 1.0" in text
        return float(found)

    before = paid()
    for number in range(4):
        ready_to_pay(deployment.shop.shopper(), email=f"{number}.{email}").submit()
    until(lambda: paid() >= before + 4, 30)
