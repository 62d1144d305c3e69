"""Many metrics of one run, read one after the other: what they share is read once, and the file in a few
pieces; and still nothing damaged is believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from holdfast.backend.base import Capabilities
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.series import RunPoints
from holdfast.series_parts import _FEW_READS, _PAGE_BYTES, WHOLE_BYTES
from test_compact import RUN, opened, segments
from test_points import Counting, reading

KEYS = [f"layer/{number:05}" for number in range(6000)]
STEPS = 8
VALUES: NDArray[np.float64] = np.random.default_rng(1).normal(size=(STEPS, len(KEYS)))


@pytest.fixture(scope="module")
def wide() -> MemoryBackend:
    """A run whose one segment has many metrics, and is too large to be read whole."""
    backend = MemoryBackend()
    with opened(backend) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        for step, row in enumerate(VALUES.tolist()):
            run.log(dict(zip(KEYS, row, strict=True)), step=step)
        run.finish(compact=False)
    return backend


def size_bytes(backend: MemoryBackend) -> int:
    with opened(backend) as store:
        ((_, about),) = segments(store).items()
    size: int = about["size_bytes"]
    assert size > 2 * WHOLE_BYTES
    return size


def check_all(read: RunPoints, count: int = len(KEYS)) -> None:
    for number, key in enumerate(KEYS[:count]):
        series = read.series(key)
        assert series.values.tobytes() == VALUES[:, number].tobytes()
        assert series.steps.tolist() == list(range(STEPS))


def test_all_metrics_are_read_in_a_few_pieces(wide: MemoryBackend) -> None:
    read, counting = reading(wide)
    check_all(read)
    assert len(counting.calls) <= _FEW_READS + 2 + size_bytes(wide) // _PAGE_BYTES
    assert counting.bytes < 1.5 * size_bytes(wide)


def test_one_metric_is_read_alone(wide: MemoryBackend) -> None:
    read, counting = reading(wide)
    read.series(KEYS[77])
    about = segments(opened(wide)).popitem()[1]
    assert len(counting.calls) <= 3
    assert counting.bytes < about["index_bytes"] + 65_536 + 1000


class Flaky(Counting):
    """Every other answer is damaged."""

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        data = super().get_range(name, offset, length)
        middle = len(data) // 2  # of a page as well, which many keys are in
        return data[:middle][::-1] + data[middle:][::-1] if len(self.calls) % 2 else data


def test_what_was_damaged_on_its_way_is_read_again(wide: MemoryBackend) -> None:
    flaky = Flaky(wide)
    read = RunPoints.load(flaky, RUN, MemoryBackend())
    flaky.calls.clear()
    for number, key in enumerate(KEYS[:100]):
        assert read.series(key).values.tobytes() == VALUES[:, number].tobytes()


class Far(WatchedBackend):
    """A backend with which every call may wait."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities, append=False)


def test_far_storage_gives_the_same(wide: MemoryBackend) -> None:
    far = Far(wide, lambda operation, name: None)
    check_all(RunPoints.load(far, RUN, MemoryBackend()))


def test_all_are_compacted_followed_and_counted_anew() -> None:
    backend, some = MemoryBackend(), 500
    with opened(backend) as store:
        for attempt in range(2):
            run = (
                store.resume(RUN, step=STEPS // 2)
                if attempt
                else store.start_run("exp", run_id=RUN, capture=False)
            )
            for step, row in enumerate(VALUES.tolist()):
                if step >= STEPS // 2 * attempt:
                    run.log(dict(zip(KEYS, row[:some], strict=False)), step=step)
                    run._writer.seal(go_on=True)
            run.finish(compact=False)
        assert len(store.compact(RUN)) == 1
        found = list(store.tail(RUN, from_start=True, follow=False))
        assert [list(record.metrics.values()) for record in found[:STEPS]] == VALUES[
            :, :some
        ].tolist()
        assert len(found) == STEPS + STEPS // 2
        known = store.run(RUN).metrics
        for number, key in enumerate(KEYS[:some]):
            assert (known[key].count, known[key].last) == (STEPS, VALUES[-1, number])
        check_all(reading(backend)[0], some)
