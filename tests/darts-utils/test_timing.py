"""Stopwatches, against a clock that the test moves."""

import asyncio
from contextvars import copy_context
from threading import Barrier, Thread

import pytest

from darts_utils import Stopwatch, step, timing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", clock)
    return clock


def test_steps_of_one_name_add_up(clock):
    watch = Stopwatch()
    with watch.recording() as recorded:
        for seconds in (1, 2, 4):
            with step("reading"):
                clock.pass_time(seconds)
        clock.pass_time(100)
        with step("writing"):
            clock.pass_time(8)
    assert recorded is watch
    assert watch.seconds == {"reading": 7, "writing": 8}


def test_a_step_includes_the_steps_inside_it(clock):
    watch = Stopwatch()
    with watch.recording(), step("outer"):
        clock.pass_time(1)
        with step("inner"):
            clock.pass_time(2)
        clock.pass_time(4)
    assert watch.seconds == {"inner": 2, "outer": 7}
    assert list(watch.seconds) == ["inner", "outer"]


def test_a_block_that_raises_is_timed_and_the_error_goes_on(clock):
    def divide() -> float:
        with watch.recording(), step("dividing"):
            clock.pass_time(3)
            return 1 / 0

    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        divide()
    assert watch.seconds == {"dividing": 3}
    with step("afterwards"):
        clock.pass_time(1)
    assert watch.seconds == {"dividing": 3}


def test_nothing_is_recorded_outside_a_recording(clock):
    watch = Stopwatch()
    with step("before"):
        clock.pass_time(1)
    with watch.recording():
        pass
    with step("after"):
        clock.pass_time(1)
    assert watch.seconds == {}


def test_an_inner_recording_takes_the_steps_for_itself(clock):
    outer, inner = Stopwatch(), Stopwatch()
    with outer.recording():
        with inner.recording(), step("work"):
            clock.pass_time(1)
        with step("work"):
            clock.pass_time(2)
    assert inner.seconds == {"work": 1}
    assert outer.seconds == {"work": 2}


def test_one_stopwatch_records_again_and_again(clock):
    watch = Stopwatch()
    for _ in range(3):
        with watch.recording(), step("work"):
            clock.pass_time(2)
    assert watch.seconds == {"work": 6}


def test_a_step_belongs_to_the_recording_it_began_in(clock):
    watch, late = Stopwatch(), Stopwatch()
    with watch.recording(), step("work"), late.recording():
        clock.pass_time(1)
    assert watch.seconds == {"work": 1}
    assert late.seconds == {}


def test_threads_that_record_at_once_do_not_mix():
    watches = [Stopwatch(), Stopwatch()]
    together = Barrier(2)

    def work(number: int) -> None:
        with watches[number].recording():
            together.wait(timeout=10)
            with step(f"work {number}"):
                together.wait(timeout=10)

    run_all([Thread(target=work, args=(number,)) for number in (0, 1)])
    assert [list(watch.seconds) for watch in watches] == [["work 0"], ["work 1"]]


def test_a_thread_takes_part_in_a_copy_of_the_context():
    watch = Stopwatch()

    def work() -> None:
        with step("work"):
            pass

    with watch.recording():
        run_all([Thread(target=copy_context().run, args=(work,))])
    assert list(watch.seconds) == ["work"]


def test_no_second_is_lost_when_threads_add_at_once():
    watch = Stopwatch()

    def add() -> None:
        for _ in range(20_000):
            watch.add("work", 1)

    run_all([Thread(target=add) for _ in range(4)])
    assert watch.seconds == {"work": 80_000}


def test_tasks_that_take_turns_do_not_mix():
    async def work(name: str) -> Stopwatch:
        watch = Stopwatch()
        with watch.recording():
            for _ in range(3):
                with step(name):
                    await asyncio.sleep(0)
        return watch

    async def both() -> list[Stopwatch]:
        return await asyncio.gather(work("one"), work("two"))

    assert [list(watch.seconds) for watch in asyncio.run(both())] == [["one"], ["two"]]


def run_all(threads: list[Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
