"""The file of runs: its contents, how long they are kept, and the limits."""

from pathlib import Path

import pytest

from lab import runs as module
from lab.race import Result
from lab.runs import MOST_ACTIVE, MOST_KEPT, Runs, TooManyRuns, folder
from lab.trace import SHOPPER, Step

RESULT = Result(1, 2, 2, "paid", "red", 0.5, [Step(0.1, SHOPPER, "opens the form")])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_another_process_of_the_shop_can_read_the_results(runs: Runs, tmp_path: Path) -> None:
    run, is_new = runs.begin("ann", [(1, 1), (1, 2)])
    assert is_new
    runs.set_state(run, (1, 2), "done", RESULT)
    other = Runs(tmp_path)
    assert other.waiting(run) == [(1, 1)]
    assert other.result(run, (1, 2)) == RESULT
    assert other.result(run, (1, 1)) is None
    assert other.matrix("ann")[1, 2].verdict == "red"
    assert other.matrix("ann")[1, 1].state == "waiting"
    assert other.matrix("bob") == {}


def test_a_visitor_has_one_active_run_at_a_time(runs: Runs) -> None:
    run, _ = runs.begin("ann", [(1, 1)])
    assert runs.begin("ann", [(2, 2)]) == (run, False)
    runs.end(run)
    assert not runs.is_active(run)
    assert runs.begin("ann", [(2, 2)])[1]
    assert set(runs.matrix("ann")) == {(1, 1), (2, 2)}


def test_the_number_of_active_runs_is_limited(runs: Runs) -> None:
    active = [runs.begin(f"visitor {number}", [(1, 1)])[0] for number in range(MOST_ACTIVE)]
    with pytest.raises(TooManyRuns):
        runs.begin("one more", [(1, 1)])
    runs.end(active[0])
    assert runs.begin("one more", [(1, 1)])[1]


def test_a_run_without_sign_of_life_is_ended(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = runs.begin("ann", [(1, 1)])
    now = module.time()
    monkeypatch.setattr(module, "time", lambda: now + module.SILENT_SECONDS + 1)
    assert not runs.is_active(run)
    assert runs.begin("ann", [(1, 1)])[1]


def test_results_are_deleted_after_an_hour(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = runs.begin("ann", [(1, 2)])
    runs.set_state(run, (1, 2), "done", RESULT)
    now = module.time()
    monkeypatch.setattr(module, "time", lambda: now + module.KEPT_SECONDS + 1)
    assert runs.visitor(run) is None
    assert runs.matrix("ann") == {}
    runs.begin("bob", [(1, 1)])
    assert runs.result(run, (1, 2)) is None


def test_the_number_of_kept_runs_is_limited(runs: Runs) -> None:
    created = []
    for number in range(MOST_KEPT + 3):
        run, _ = runs.begin(f"visitor {number}", [(1, 1)])
        runs.end(run)
        created.append(run)
    assert [run for run in created if runs.visitor(run)] == created[-MOST_KEPT:]


def test_the_folder_is_private_and_depends_on_the_secret_key(lab_folder: Path) -> None:
    ours = folder("one secret")
    assert ours.parent == lab_folder
    assert ours.stat().st_mode & 0o777 == 0o700
    assert folder("another secret") != ours == folder("one secret")


def test_a_symbolic_link_as_folder_is_refused(lab_folder: Path) -> None:
    ours = folder("one secret")
    ours.rmdir()
    ours.symlink_to(lab_folder)
    with pytest.raises(PermissionError):
        folder("one secret")
