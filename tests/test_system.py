"""System metrics: what they say, when, at which step, and that nothing can go wrong because of them."""

from __future__ import annotations

import logging
import math
import threading
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

import holdfast
from holdfast import system
from holdfast.errors import InvalidValue
from holdfast.system import Rates, Share, SystemMetrics

Store = holdfast.ExperimentStore


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(system.VARIABLE, raising=False)


def test_this_machine_is_sampled_for_real(store: Store, clock: Clock) -> None:
    with store.start_run("x", system=False, capture=False) as run:
        sampler = SystemMetrics(run._writer, 10, clock=clock)
        run.log({"loss": 1.0}, step=7)
        sampler.tend(sync=False)
        for _ in range(3):
            before = psutil.cpu_times()
            while psutil.cpu_times() == before:  # the kernel counts in ticks
                pass
            clock.now += 10
            sampler.tend(sync=False)
        run.log({"loss": 0.5})
        assert run.metrics("loss").steps.tolist() == [7, 8], "a sample moves no step"
    keys = [key for key in store.metric_keys(run.id) if key.startswith("system/")]
    assert {
        "system/cpu_percent", "system/memory_used_bytes", "system/memory_percent",
        "system/process_memory_bytes", "system/process_cpu_percent",
    } <= set(keys)  # fmt: skip
    for key in keys:
        series = store.metrics(run.id, key)
        assert set(series.steps.tolist()) == {7}
        assert all(math.isfinite(value) and value >= 0 for value in series.values)
    assert len(store.metrics(run.id, "system/memory_percent")) == 3
    assert store.metrics(run.id, "system/cpu_percent").values.max() <= 100
    assert store.metrics(run.id, "system/process_memory_bytes").values[0] > 1 << 20


def constant() -> list[system.Read]:
    return [lambda: {"cpu_percent": 1.0}]


def test_a_sample_is_taken_once_an_interval_and_not_before_the_first_log(
    store: Store, clock: Clock
) -> None:
    with store.start_run("x", system=False, capture=False) as run:
        sampler = SystemMetrics(run._writer, 10, sources=constant, clock=clock)
        clock.now = 10
        sampler.tend(sync=False)
        assert store.metric_keys(run.id) == []
        run.log({"loss": 1.0})
        for now in (11, 19, 20, 21, 29, 30):
            clock.now = now
            sampler.tend(sync=True)
        assert run.metrics("system/cpu_percent").steps.tolist() == [0, 0]
    clock.now = 100
    sampler.tend(sync=False)
    assert len(store.metrics(run.id, "system/cpu_percent")) == 2, "the run is finished"


def test_a_resumption_supersedes_the_samples_of_the_attempt_before(
    store: Store, clock: Clock
) -> None:
    def attempt(run: holdfast.Run, steps: range) -> None:
        sampler = SystemMetrics(run._writer, 1, sources=constant, clock=clock)
        for step in steps:
            run.log({"loss": step}, step=step)
            clock.now += 1
            sampler.tend(sync=False)
        run.finish()

    attempt(store.start_run("x", run_id="again", system=False, capture=False), range(10))
    run = store.resume("again", step=4, system=False)
    early = SystemMetrics(run._writer, 1, sources=constant, clock=clock)
    clock.now += 1
    early.tend(sync=False)  # nothing is logged yet: there is no step to sample at
    attempt(run, range(4, 6))
    assert store.metrics("again", "system/cpu_percent").steps.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_source_that_raises_is_named_once_and_the_others_go_on(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, float]:
        raise RuntimeError("no such sensor")

    with store.start_run("x", system=False, capture=False) as run:
        sampler = SystemMetrics(run._writer, 1, sources=lambda: [broken, *constant()], clock=clock)
        run.log({"loss": 1.0})
        with caplog.at_level(logging.WARNING, "holdfast"):
            for _ in range(5):
                clock.now += 1
                sampler.tend(sync=False)
        assert len(run.metrics("system/cpu_percent")) == 5
    [said] = caplog.messages
    assert run.id in said
    assert "no such sensor" in said


def test_sources_that_cannot_even_be_found_leave_the_run_alone(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing() -> list[system.Read]:
        raise ImportError("no psutil here")

    with store.start_run("x", system=False, capture=False) as run:
        sampler = SystemMetrics(run._writer, 1, sources=nothing, clock=clock)
        run.log({"loss": 1.0})
        for _ in range(3):
            clock.now += 1
            sampler.tend(sync=False)
    assert len(caplog.messages) == 1
    assert store.metric_keys(run.id) == ["loss"]


def test_the_background_thread_samples_and_stops_with_the_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = threading.Event()
    monkeypatch.setattr(system, "local_sources", constant)
    monkeypatch.setattr(system, "LEAST_SECONDS", 0.0)
    before = set(threading.enumerate())
    with store.start_run("x", capture=False, system_seconds=0.0) as run:
        run.log({"loss": 1.0})
        log_aside = run._writer.log_aside

        def told(metrics: dict[str, float]) -> None:
            log_aside(metrics)
            logged.set()

        monkeypatch.setattr(run._writer, "log_aside", told)
        store.keeper.hurry()
        assert logged.wait(300)
        new = [thread.name for thread in set(threading.enumerate()) - before]
        assert new == ["holdfast-keeper"]
    assert store.keeper._writers == []
    assert store.metrics(run.id, "system/cpu_percent").values[0] == 1.0


@pytest.mark.parametrize("word", ["0", "off", "False", " no "])
def test_a_variable_switches_all_of_it_off(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.interval(True, 10) == 10
    assert system.interval(False, 10) is None
    monkeypatch.setenv(system.VARIABLE, word)
    assert system.interval(True, 10) is None


@pytest.mark.parametrize("seconds", [0, -1, 0.5, float("nan"), float("inf"), "10", None, True])
def test_what_is_no_interval_is_refused_before_the_run_exists(store: Store, seconds: Any) -> None:
    with pytest.raises(InvalidValue, match="system_seconds is .*: give the seconds"):
        store.start_run("x", system_seconds=seconds)
    assert store.runs() == []


def test_counters_become_rates(clock: Clock) -> None:
    counts = {"sent_bytes": 100.0, "read_bytes": 1000.0}
    rates = Rates(lambda: dict(counts), clock)
    assert rates() == {}, "no time has passed"
    clock.now, counts["sent_bytes"], counts["read_bytes"] = 2.0, 150.0, 10.0
    assert rates() == {"sent_bytes_per_second": 25.0}, "a counter that fell has no rate"
    clock.now, counts["read_bytes"], counts["new_bytes"] = 4.0, 30.0, 5.0
    assert rates() == {"sent_bytes_per_second": 0.0, "read_bytes_per_second": 10.0}


def test_the_share_of_busy_processors() -> None:
    class Times(NamedTuple):
        user: float
        system: float
        idle: float
        iowait: float
        guest: float

    answers = [Times(10, 5, 80, 5, 2), Times(40, 5, 90, 15, 12), Times(40, 5, 90, 15, 12)]
    share = Share(lambda: answers.pop(0))
    assert share() == {"cpu_percent": 60.0}  # 40 seconds, guest ones once; 20 of them idle
    assert share() == {}, "no time has passed"


def nvml(count: int = 2) -> Any:
    """An object of NVML's shape: no GPU is needed to read what it answers."""

    class NVMLError(Exception):
        pass

    def power(handle: int) -> int:
        if handle == 1:
            raise NVMLError("Not Supported")
        return 250_500

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=90 + handle, memory=40),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=1 << 30, total=1 << 34),
        nvmlDeviceGetTemperature=lambda handle, sensor: 60 + handle,
        nvmlDeviceGetPowerUsage=power,
    )


def test_each_gpu_and_whatever_sensors_it_has() -> None:
    assert system.gpus(nvml())() == {
        "gpu/0/utilization_percent": 90,
        "gpu/0/memory_used_bytes": 1 << 30,
        "gpu/0/temperature_celsius": 60,
        "gpu/0/power_watts": 250.5,
        "gpu/1/utilization_percent": 91,
        "gpu/1/memory_used_bytes": 1 << 30,
        "gpu/1/temperature_celsius": 61,
    }
    assert system.gpus(nvml(count=0))() == {}


def test_the_names_asked_of_nvml_are_its_own() -> None:
    pynvml = pytest.importorskip("pynvml")
    for name in vars(nvml()):
        assert hasattr(pynvml, name)
