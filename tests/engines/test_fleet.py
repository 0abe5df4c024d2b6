"""The driver's policy, with an engine that starts nothing: what is submitted, taken over, lost, and tried again."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pretended import GONE, LATE, LOST, Node, Pretended

from nmbench._util.errors import UsageError
from nmbench.engines.engine import Busy, Fate, Phase, Unreachable
from nmbench.records.attempt import LOST as LOST_FILE
from nmbench.records.schema import Status
from nmbench.running.flight import noted, prefix

RUNNING = Fate(Phase.RUNNING)


def submitted(engine: Pretended, node: Node) -> list[list[str]]:
    return [[node.cells[cell_id].label for cell_id in node.ids(ticket)] for ticket in engine.submitted]


def test_each_cell_is_a_ticket_and_one_that_takes_its_twin_over_waits_for_it(fleet, node, cells):
    engine = Pretended(node.all_well)
    records = fleet(engine).run(cells)
    dense, asp, ste = cells
    assert submitted(engine, node) == [[dense.label], [ste.label], [asp.label]]
    assert {record.status for record in records} == {Status.OK}
    assert noted(node.store) == {}


def test_packed_cells_share_a_ticket(fleet, node, cells):
    engine = Pretended(node.all_well)
    fleet(engine, pack=5).run(cells)
    dense, asp, ste = cells
    assert submitted(engine, node) == [[dense.label, ste.label], [asp.label]]


def test_so_many_tickets_are_out_at_a_time(fleet, node, cells):
    most = 0

    def act(handle, ticket):
        nonlocal most
        out = [other for other in engine.submitted if not node.store.state(node.cells[node.ids(other)[0]]).done]
        most = max(most, len(out))
        return node.all_well(handle, ticket)

    engine = Pretended(act)
    fleet(engine, workers=1).run(cells)
    assert most == 1


def test_a_ticket_without_a_record_is_lost_and_told_with_its_log(fleet, node, cells):
    def act(handle, ticket):
        ticket.log.write_text("a line\nthe last words\n")
        return GONE

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert (record.status, record.error.kind) == (Status.CRASH, "lost")
    assert record.error.message == "it is gone; its log ends: the last words"
    assert len(list(node.store.folder.rglob(LOST_FILE))) == 1
    assert node.store.state(cells[0]).status is Status.CRASH
    assert record.environment is None, "it would be that of the driver's machine"


def test_a_ticket_that_printed_nothing_may_not_see_the_folder(fleet, cells):
    (record,) = fleet(Pretended(lambda handle, ticket: GONE)).run(cells[:1])
    assert "do the nodes see this folder?" in record.error.message


def test_a_record_that_comes_late_is_waited_for(fleet, node, cells):
    looks = []

    def act(handle, ticket):
        looks.append(handle)
        if len(looks) == 4:
            node.attempt(cells[0].id)
        return GONE

    (record,) = fleet(Pretended(act), settle_s=30.0).run(cells[:1])
    assert record.status is Status.OK
    assert list(node.store.folder.rglob(LOST_FILE)) == []


@pytest.mark.parametrize(("moves", "tries"), [(False, 3), (True, 6)])
def test_a_cell_whose_time_was_up_goes_on_as_long_as_its_checkpoint_moves(fleet, node, cells, moves, tries):
    def act(handle, ticket):
        done = int(handle) == 6
        node.attempt(cells[0].id, Status.OK if done else Status.INTERRUPTED, LATE, moves=moves)
        return GONE

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert len(node.runs) == tries
    assert record.status is (Status.OK if moves else Status.INTERRUPTED)


@pytest.mark.parametrize("status", [Status.OOM, Status.DATA, Status.NAN, Status.ERROR, Status.TIMEOUT])
def test_a_cell_that_failed_by_itself_is_not_tried_again(fleet, node, cells, status):
    def act(handle, ticket):
        node.attempt(cells[0].id, status)
        return LOST

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert (record.status, len(node.runs)) == (status, 1)


def test_a_cell_that_its_engine_lost_is_tried_again(fleet, node, cells):
    engine = Pretended(lambda handle, ticket: LOST if handle == "1" else node.all_well(handle, ticket))
    (record,) = fleet(engine).run(cells[:1])
    assert (record.status, record.attempt, len(engine.submitted)) == (Status.OK, 2, 2)


def test_a_cell_that_was_cancelled_by_hand_stays_so(fleet, node, cells):
    def act(handle, ticket):
        node.attempt(cells[0].id, Status.INTERRUPTED, LATE)
        return Fate(Phase.GONE, Status.INTERRUPTED, "it is gone", cancelled=True)

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert (record.status, len(node.runs)) == (Status.INTERRUPTED, 1)


def test_an_interrupted_attempt_of_a_ticket_that_waits_again_is_not_the_end(fleet, node, cells):
    looks = []

    def act(handle, ticket):
        looks.append(handle)
        if len(looks) == 1:
            node.attempt(cells[0].id, Status.INTERRUPTED, "cancelled")
        return Fate(Phase.WAITING) if len(looks) < 5 else node.all_well(handle, ticket)

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert (record.status, record.attempt) == (Status.OK, 2)


def test_a_cell_that_waits_on_its_node_for_room_is_not_at_its_end(fleet, node, cells):
    looks = []

    def act(handle, ticket):
        looks.append(handle)
        if len(looks) == 1:
            node.attempt(cells[0].id, Status.ERROR, words="OSError: [Errno 28] No space left on device")
        return RUNNING if len(looks) < 5 else node.all_well(handle, ticket)

    (record,) = fleet(Pretended(act)).run(cells[:1])
    assert (record.status, record.attempt) == (Status.OK, 2)


def test_tickets_of_an_earlier_driver_are_taken_over(fleet, node, cells, told):
    engine = Pretended(node.all_well)
    first = fleet(engine, pack=2)
    number, trouble = first.detach(cells)
    assert (number, trouble) == (2, "")
    assert engine.submitted[1].after == ("1",), "ASP starts after its twin"
    engine.there = {ticket.name: handle for handle, ticket in engine.tickets.items()}
    records = fleet(engine, pack=2).run(cells)
    assert len(engine.submitted) == 2
    assert {record.status for record in records} == {Status.OK}
    assert sum("taken over" in line for line in told.lines) == 2


def test_a_pack_of_an_earlier_driver_is_taken_over_as_a_whole_though_a_cell_of_it_waits_for_its_twin(
    fleet, node, cells, store
):
    dense, asp, ste = cells
    engine = Pretended(node.all_well)
    driver = fleet(engine, pack=2)
    driver._submit("nm-first", [dense], {dense.id: 0})
    driver._submit(prefix(store) + "pack", [ste, asp], {ste.id: 0, asp.id: 0})
    engine.there = {prefix(store) + "pack": "2"}
    records = fleet(engine, pack=2).run(cells)
    assert [node.ids(ticket) for ticket in engine.submitted[2:]] == [[dense.id]]
    assert {record.status for record in records} == {Status.OK}
    assert len(node.runs) == 3


def test_a_ticket_that_cannot_start_unless_somebody_acts_is_told_once_for_a_reason(fleet, node, cells, told):
    looks = []

    def act(handle, ticket):
        looks.append(handle)
        return Fate(Phase.WAITING, message="held") if len(looks) < 9 else node.all_well(handle, ticket)

    records = fleet(Pretended(act)).run(cells)
    assert {record.status for record in records} == {Status.OK}
    assert told.lines == ["pretended: 1 cannot start as it is: held"]


@pytest.mark.parametrize(("terms", "words"), [({}, "dense twins"), ({"workers": 1}, "--workers")])
def test_an_engine_that_holds_no_ticket_back_detaches_no_chain_and_nothing_is_submitted(
    fleet, node, cells, terms, words
):
    engine = Pretended(node.all_well)
    engine.chains = False
    with pytest.raises(UsageError, match=words):
        fleet(engine, **terms).detach(cells)
    assert engine.submitted == []
    assert fleet(engine).detach(cells[:1]) == (1, "")


def test_an_engine_that_is_away_at_the_start_is_told_in_a_line(fleet, cells):
    class Away(Pretended):
        def known(self, prefix):
            raise Unreachable("no controller")

    with pytest.raises(UsageError, match="nothing was submitted: no controller"):
        fleet(Away(lambda handle, ticket: GONE)).run(cells)


def test_a_cell_that_was_done_while_its_driver_was_away_is_no_loss(fleet, node, cells):
    engine = Pretended(node.all_well)
    fleet(engine).detach(cells[:1])
    engine.there = {engine.submitted[0].name: "1"}
    driver = fleet(engine)
    node.attempt(cells[0].id)
    (record,) = driver.run(cells[:1])
    assert (record.status, record.attempt) == (Status.OK, 1)
    assert list(node.store.folder.rglob(LOST_FILE)) == []


def test_a_done_cell_that_is_to_be_done_again_needs_a_new_record(fleet, node, cells):
    node.attempt(cells[0].id)

    def act(handle, ticket):
        assert ticket.command[-1].endswith("@1")
        node.attempt(cells[0].id)
        return GONE

    (record,) = fleet(Pretended(act), again=True).run(cells[:1])
    assert record.attempt == 2


class Flaky(Pretended):
    """Its first submissions and questions fail."""

    def __init__(self, act, *errors: Exception) -> None:
        super().__init__(act)
        self.errors = list(errors)

    def submit(self, ticket):
        if self.errors:
            raise self.errors.pop()
        return super().submit(ticket)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Busy("MaxSubmitJobs"), "pretended: MaxSubmitJobs"),
        (Unreachable("no controller"), "pretended: no controller"),
        (OSError(errno.ENOSPC, "No space left on device", "work"), "no room is left in work"),
    ],
)
def test_an_engine_or_a_disk_that_is_full_or_away_is_waited_for_and_told_once(fleet, node, cells, told, error, words):
    (record,) = fleet(Flaky(node.all_well, error, error)).run(cells[:1])
    assert record.status is Status.OK
    assert [words in line for line in told.lines] == [True]


def test_questions_that_fail_end_nothing(fleet, node, cells, told):
    class Away(Pretended):
        def fates(self, handles):
            if len(told.lines) == 0:
                raise Unreachable("no controller")
            return super().fates(handles)

    (record,) = fleet(Away(node.all_well)).run(cells[:1])
    assert record.status is Status.OK


@pytest.fixture
def heeded() -> Iterator[Callable[[int], None]]:
    """A signal that the tests themselves may have been started to ignore, as with nohup, is not ignored."""
    before: dict[int, Any] = {}

    def heed(number: int) -> None:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        before[number] = signal.signal(number, usual)

    yield heed
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "cancelled"), [(signal.SIGINT, ["1"]), (signal.SIGHUP, []), (signal.SIGTERM, [])])
def test_ctrl_c_cancels_and_other_signals_leave_the_tickets_be(fleet, cells, number, cancelled, heeded):
    heeded(number)

    def act(handle, ticket):
        os.kill(os.getpid(), number)
        return RUNNING

    engine = Pretended(act)
    driver = fleet(engine)
    with pytest.raises(KeyboardInterrupt):
        driver.run(cells[:1])
    assert engine.cancelled == cancelled
    assert driver.left is not bool(cancelled)


def test_tickets_of_two_results_folders_have_other_names(tmp_path, store):
    from nmbench.records.store import Store

    assert prefix(store) != prefix(Store(tmp_path / "b", "toys"))
    assert prefix(store) == prefix(Store(tmp_path / "x" / ".." / "results", "toys"))
