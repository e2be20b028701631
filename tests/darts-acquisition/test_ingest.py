"""Filling a cube from a source that answers as a test wants: how much at once, in which commits, what is kept."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from odc.geo.geobox import GeoBox

from darts_acquisition import Chunk, ChunkState, Datacube, FetchReport, LoginError, ServiceError, Window
from darts_acquisition.cube.ingest import ingest
from darts_acquisition.cube.product import aligned_window
from darts_acquisition.errors import Failure
from darts_acquisition.io.retry import FetchCancellation, RetryPolicy, StoppedError, cancellable, check_not_stopped
from darts_utils import Stopwatch, step
from support.lanes import mostly_slow

CHUNKS = [Chunk(row, col) for row in range(5) for col in range(6)]


def values_of(chunk, shape):
    number = 10 * chunk.row + chunk.col
    return {"height": np.full(shape, number, "float32"), "kind": np.full(shape, number, "uint8")}


class Source:
    """Has every chunk but those in column 5. Counts what is asked for at the same time, and what was handed out."""

    def __init__(self, cube, parallel=3, delay_s=0.0, fail=None):
        self.cube, self.parallel, self.delay_s = cube, parallel, delay_s
        self.fail = fail or {}
        self.asked = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def fetch(self, geobox):
        window = aligned_window(geobox, self.cube.geobox)
        chunk = Chunk(window.rows.start // 16, window.cols.start // 16)
        with self._lock:
            self.asked.append(chunk)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        with step("decode"):
            time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
        if chunk in self.fail:
            raise self.fail[chunk]
        return None if chunk.col == 5 else values_of(chunk, geobox.shape)


def commits(cube):
    return len(list(cube._repository.ancestry(branch="main"))) - 2


def assert_right(cube, chunks):
    for chunk in chunks:
        read = cube.read(cube.chunk_geobox(chunk))
        if chunk.col == 5:
            assert np.isnan(read.height).all()
            assert not read.kind.any()
        else:
            for name, expected in values_of(chunk, read.height.shape).items():
                np.testing.assert_array_equal(read[name], expected)


def test_every_chunk_is_asked_for_once_and_reported(cube):
    told = []
    source = Source(cube)
    report = ingest(cube, [*CHUNKS, *CHUNKS[:7]], source, lambda *at: told.append(at))
    assert report == FetchReport(filled=25, empty=5, elsewhere=0)
    assert sorted(source.asked) == CHUNKS
    assert told == [(number, 30) for number in range(1, 31)]
    assert_right(cube, CHUNKS)


@pytest.mark.parametrize("parallel", [1, 2, 7])
def test_requests_are_bounded(cube, parallel):
    source = Source(cube, parallel, delay_s=0.005)
    ingest(cube, CHUNKS, source)
    assert source.most_at_once == parallel


def test_groups_of_chunks_are_commits(cube):
    """Eight chunks with data make a transaction; what is empty costs no memory, and goes with the next one."""
    before = commits(cube)
    ingest(cube, CHUNKS, Source(cube, parallel=1))
    assert commits(cube) - before == 4  # 25 filled chunks, 8 at a time


def test_little_waits_in_memory(cube):
    """No more chunks are fetched ahead than at once, however slowly they are taken."""
    source = Source(cube, parallel=2)
    ahead = []
    ingest(cube, CHUNKS, source, lambda done, total: (time.sleep(0.005), ahead.append(len(source.asked) - done)))
    assert max(ahead) <= 2 * source.parallel


def test_nothing_to_fetch_is_no_commit(cube):
    before = commits(cube)
    assert ingest(cube, [], Source(cube)) == FetchReport()
    assert commits(cube) == before


def test_what_others_have_filled_meanwhile_stays(cube):
    window = Window.of(0, 16, 0, 32)
    theirs = {"height": np.full((16, 32), 99, "float32"), "kind": np.full((16, 32), 99, "uint8")}
    source = Source(cube, parallel=1)

    def progress(done, total):
        if done == 1:
            Datacube.open(cube.path).write(window, theirs)

    assert ingest(cube, CHUNKS[:6], source, progress) == FetchReport(filled=3, empty=1, elsewhere=2)
    np.testing.assert_array_equal(cube.read(window).height, theirs["height"])
    assert_right(cube, CHUNKS[2:6])


def test_what_one_chunk_lacks_does_not_cost_the_others(cube):
    failure = ServiceError("a_dem.tif is truncated at the provider.")
    source = Source(cube, fail={CHUNKS[3]: failure, CHUNKS[8]: failure})
    with pytest.raises(ServiceError, match=r"2 of 30 chunks .* the other 28 are in .*: a_dem\.tif is truncated"):
        ingest(cube, CHUNKS, source)
    assert cube.missing(Window.of(0, 70, 0, 90)) == [CHUNKS[3], CHUNKS[8]]
    assert_right(cube, [chunk for chunk in CHUNKS if chunk not in (CHUNKS[3], CHUNKS[8])])


@pytest.mark.parametrize(
    "error",
    [
        LoginError("the login was refused."),
        ServiceError("down", Failure("HTTP status 503", transient=True, status=503)),
        ZeroDivisionError("a mistake in the source"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_service_that_is_down_is_not_asked_on_and_on(cube, error):
    source = Source(cube, parallel=2, fail=dict.fromkeys(CHUNKS[4:], error))
    with pytest.raises(type(error), match=str(error)):
        ingest(cube, CHUNKS, source)
    assert len(source.asked) <= 4 + 2 * source.parallel
    known = cube.known()
    assert set(known) == set(CHUNKS[:4])
    assert_right(cube, known)


def test_an_interrupt_keeps_what_was_fetched(cube):
    def progress(done, total):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(cube, CHUNKS, Source(cube, parallel=1), progress)
    known = cube.known()
    assert list(known) == CHUNKS[:11]
    assert known[Chunk(0, 5)] == ChunkState.EMPTY
    assert_right(cube, known)


def test_an_interrupt_while_chunks_are_written_keeps_them(cube, monkeypatch):
    complete = Datacube.complete
    interrupts = [KeyboardInterrupt()]

    def interrupted(self, contents):
        if interrupts:
            raise interrupts.pop()
        return complete(self, contents)

    monkeypatch.setattr(Datacube, "complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest(cube, CHUNKS, Source(cube, parallel=1))
    assert list(cube.known()) == CHUNKS[:9]  # eight of them with data


class Stuck(Source):
    """Has the first four chunks. For the others a service asks to wait for an hour, or does not answer at all."""

    def __init__(self, cube, answers, parallel=3):
        super().__init__(cube, parallel)
        self.answers, self.requests = answers, 0
        self.stuck = threading.Event()

    def fetch(self, geobox):
        if aligned_window(geobox, self.cube.geobox).cols.start < 4 * 16:
            return super().fetch(geobox)
        return RetryPolicy(first_wait_s=3600, longest_wait_s=3600).call(self._request, "the service")

    def _request(self):
        self.requests += 1
        self.stuck.set()
        if not self.answers:
            time.sleep(60)
        raise ConnectionError("lost")


class Gated(Source):
    """Answers once its gate is open."""

    def __init__(self, cube):
        super().__init__(cube)
        self.begun, self.gate = threading.Event(), threading.Event()

    def fetch(self, geobox):
        self.begun.set()
        assert self.gate.wait(20)
        check_not_stopped()
        return super().fetch(geobox)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("answers", mostly_slow([True, False], bool), ids=["told to wait", "no answer"])
def test_an_interrupt_ends_the_waiting(cube, answers):
    def progress(done, total):
        if done == 4:
            assert source.stuck.wait(10)
            raise KeyboardInterrupt

    source = Stuck(cube, answers, parallel=6)  # Else the first four could end before the others begin.
    with pytest.raises(KeyboardInterrupt):
        ingest(cube, CHUNKS[:6], source, progress)
    assert list(cube.known()) == CHUNKS[:4]
    made = source.requests
    assert made <= 2
    time.sleep(0.5)
    assert source.requests == made


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "answers", mostly_slow([True, False], lambda answers: not answers), ids=["told to wait", "no answer"]
)
def test_fetching_can_be_cancelled_from_elsewhere(cube, answers):
    """What is cancelled stays so; what others fetch meanwhile, and afterwards, is none of its business."""
    stuck, other = Stuck(cube, answers), Gated(cube)
    cancellation, errors, reports = FetchCancellation(), [], []

    def run():
        try:
            with cancellable(cancellation):
                ingest(cube, CHUNKS[:6], stuck)
        except StoppedError as error:
            errors.append(error)

    def run_other():
        with cancellable(FetchCancellation()):
            reports.append(ingest(cube, CHUNKS[18:24], other))

    threads = [threading.Thread(target=target, daemon=True) for target in (run, run_other)]
    for thread in threads:
        thread.start()
    assert stuck.stuck.wait(10)
    assert other.begun.wait(10)
    cancellation.requested = True
    cancellation.wait()
    assert list(cube.known()) == CHUNKS[:4]
    with pytest.raises(StoppedError), cancellable(cancellation):
        ingest(cube, CHUNKS[4:6], stuck)
    other.gate.set()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 1
    assert stuck.requests <= 2
    assert reports == [FetchReport(filled=5, empty=1)]
    assert ingest(cube, CHUNKS[12:15], stuck) == FetchReport(filled=3)
    assert_right(cube, [*CHUNKS[:4], *CHUNKS[18:24], *CHUNKS[12:15]])


def test_fetching_is_cancelled_by_the_token_of_an_outer_block_as_well(cube):
    outer, inner = FetchCancellation(), FetchCancellation()

    def progress(done, total):
        outer.requested = done == 4

    with pytest.raises(StoppedError), cancellable(outer), cancellable(inner):
        ingest(cube, CHUNKS, Source(cube, parallel=1), progress)
    outer.wait()
    inner.wait()
    known = list(cube.known())
    assert CHUNKS[:4] == known[:4]
    assert len(known) <= 5, "the fifth was on its way"
    with cancellable(inner):
        assert ingest(cube, CHUNKS[6:8], Source(cube)) == FetchReport(filled=2)


@pytest.mark.timeout(30)
def test_the_first_who_gives_up_ends_it_for_all(cube):
    """The others have waits of an hour before them."""

    class Down(Source):
        def fetch(self, geobox):
            def lost():
                raise ConnectionError("lost")

            first = aligned_window(geobox, cube.geobox).cols.start == 0
            return RetryPolicy(attempts=1 if first else 6, first_wait_s=3600).call(lost, "the service")

    with pytest.raises(ServiceError, match=r"refused, lost or too slow .* after one attempt"):
        ingest(cube, CHUNKS[:6], Down(cube))


def test_empty_chunks_are_kept_on_the_way(tmp_path, product):
    """A process that dies does not lose what it knows of hundreds of them."""
    product = dataclasses.replace(product, geobox=GeoBox((16 * 9, 16 * 9), product.geobox.affine, product.geobox.crs))
    cube = Datacube.create(tmp_path / "large", product)
    known = []

    class Nothing:
        parallel = 2

        def fetch(self, geobox):
            return None

    def progress(done, total):
        if done == 80:
            known.extend(Datacube.open(cube.path).known())

    chunks = [Chunk(row, col) for row in range(9) for col in range(9)]
    before = commits(cube)
    assert ingest(cube, chunks, Nothing(), progress) == FetchReport(empty=81)
    assert len(known) == 64
    assert commits(cube) - before == 2


def test_steps_are_timed_in_whoever_fills(cube):
    """Also the steps in the threads that fetch."""
    watch = Stopwatch()
    with watch.recording():
        ingest(cube, CHUNKS[:3], Source(cube))
    assert set(watch.seconds) == {"download", "decode", "write terrain cube"}
