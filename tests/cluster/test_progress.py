"""What a person sees while waiting."""

from __future__ import annotations

import io

import pytest

from tests.cluster.progress import Progress, duration, heading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def clock(*times: float) -> object:
    return iter(times).__next__


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (38.2, "38 s"), (59.6, "1 min 0 s"), (278, "4 min 38 s")],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_times_of_all_steps_stand_in_one_column() -> None:
    assert len(heading(3, 12, "build etcd")) == len(heading(10, 12, "build kubelet, kube-proxy"))
    assert heading(3, 12, "build etcd").startswith("[ 3/12] build etcd ....")


def test_a_log_gets_a_line_at_the_start_and_one_at_the_end() -> None:
    log = io.StringIO()
    progress = Progress(log, clock=clock(0.0, 278.0))  # type: ignore[arg-type]
    progress.plan(2)
    with progress.step("build kubelet"):
        assert log.getvalue() == "[1/2] build kubelet\n"
    assert log.getvalue().splitlines()[1].endswith(".... 4 min 38 s")


def test_a_terminal_has_the_running_step_redrawn_in_place() -> None:
    terminal = Terminal()
    with Progress(terminal).step("build kubelet"):
        pass
    assert terminal.getvalue().count("\n") == 1
    assert "\r[1/1] build kubelet" in terminal.getvalue()


def test_a_failed_step_says_so() -> None:
    log = io.StringIO()
    with pytest.raises(RuntimeError), Progress(log).step("build kubelet"):
        raise RuntimeError
    assert "failed after" in log.getvalue()


def test_more_steps_than_planned_are_still_counted_right() -> None:
    log = io.StringIO()
    progress = Progress(log)
    progress.plan(1)
    for title in ("one", "two"):
        with progress.step(title):
            pass
    assert "[2/2] two" in log.getvalue()
