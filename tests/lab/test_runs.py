"""The file of runs: what it keeps, for how long, and how much at once."""

from pathlib import Path

import pytest

from lab import runs as module
from lab.race import Result
from lab.runs import AT_ONCE, KEPT, Full, Runs, folder
from lab.trace import SHOPPER, Step

RESULT = Result(1, 2, 2, "paid", "red", 0.5, [Step(0.1, SHOPPER, "opens the form")])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_results_are_seen_by_another_process_of_the_shop(runs: Runs, tmp_path: Path) -> None:
    run, is_new = runs.begin("ann", [(1, 1), (1, 2)])
    assert is_new
    runs.note(run, (1, 2), "done", RESULT)
    other = Runs(tmp_path)
    assert other.waiting(run) == [(1, 1)]
    assert other.result(run, (1, 2)) == RESULT
    assert other.result(run, (1, 1)) is None
    assert other.matrix("ann")[1, 2].verdict == "red"
    assert other.matrix("ann")[1, 1].state == "waiting"
    assert other.matrix("bob") == {}


def test_a_visitor_has_one_run_at_a_time(runs: Runs) -> None:
    run, _ = runs.begin("ann", [(1, 1)])
    assert runs.begin("ann", [(2, 2)]) == (run, False)
    runs.end(run)
    assert not runs.going(run)
    assert runs.begin("ann", [(2, 2)])[1]
    assert set(runs.matrix("ann")) == {(1, 1), (2, 2)}


def test_few_wait_at_once_and_the_next_is_sent_away(runs: Runs) -> None:
    going = [runs.begin(f"visitor {number}", [(1, 1)])[0] for number in range(AT_ONCE)]
    with pytest.raises(Full):
        runs.begin("one more", [(1, 1)])
    runs.end(going[0])
    assert runs.begin("one more", [(1, 1)])[1]


def test_a_run_whose_runner_fell_silent_is_over(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = runs.begin("ann", [(1, 1)])
    now = module.time()
    monkeypatch.setattr(module, "time", lambda: now + module.ABANDONED + 1)
    assert not runs.going(run)
    assert runs.begin("ann", [(1, 1)])[1]


def test_after_an_hour_nothing_is_left(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = runs.begin("ann", [(1, 2)])
    runs.note(run, (1, 2), "done", RESULT)
    now = module.time()
    monkeypatch.setattr(module, "time", lambda: now + module.KEPT_FOR + 1)
    assert runs.visitor(run) is None
    assert runs.matrix("ann") == {}
    runs.begin("bob", [(1, 1)])
    assert runs.result(run, (1, 2)) is None


def test_no_more_runs_are_kept_than_the_file_may_hold(runs: Runs) -> None:
    made = []
    for number in range(KEPT + 3):
        run, _ = runs.begin(f"visitor {number}", [(1, 1)])
        runs.end(run)
        made.append(run)
    assert [run for run in made if runs.visitor(run)] == made[-KEPT:]


def test_the_folder_is_private_and_each_shop_has_its_own(lab_folder: Path) -> None:
    ours = folder("one secret")
    assert ours.parent == lab_folder
    assert ours.stat().st_mode & 0o777 == 0o700
    assert folder("another secret") != ours == folder("one secret")


def test_a_folder_that_is_a_link_is_refused(lab_folder: Path) -> None:
    ours = folder("one secret")
    ours.rmdir()
    ours.symlink_to(lab_folder)
    with pytest.raises(PermissionError):
        folder("one secret")
