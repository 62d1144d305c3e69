"""What the machine was doing while a run was logged: processor, memory, disk, network, GPUs.

Sampled now and then by the store's background thread, and logged to the run as metrics of their own,
`system/…`, at the last step the run has logged. A sample never fails a run and never moves its steps.
docs/how-to/system-metrics.md says what each one is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

from holdfast.errors import InvalidValue
from holdfast.keeper import logger

EVERY_SECONDS = 10.0
LEAST_SECONDS = 1.0  # the background thread wakes no more often by itself
VARIABLE = "HOLDFAST_SYSTEM"
_OFF = {"0", "off", "false", "no"}

Clock = Callable[[], float]
Read = Callable[[], Mapping[str, float]]  # part of a sample: names without `system/`


class Logs(Protocol):
    """What a sample is written to."""

    run_id: str

    def log_aside(self, metrics: Mapping[str, float]) -> None:
        """Log at the last step; nothing before the first one."""


def interval(system: bool, every_seconds: float) -> float | None:
    """Seconds between samples; None for no samples. Raises InvalidValue for what is no interval."""
    is_number = isinstance(every_seconds, (int, float)) and not isinstance(every_seconds, bool)
    if not is_number or not LEAST_SECONDS <= every_seconds < float("inf"):
        raise InvalidValue(
            f"system_seconds is {every_seconds!r}: give the seconds between samples, at least "
            f"{LEAST_SECONDS:g}, or system=False for none",
            value=every_seconds,
        )
    is_off = os.environ.get(VARIABLE, "").strip().lower() in _OFF
    return float(every_seconds) if system and not is_off else None


class SystemMetrics:
    """Samples for one run, at most one every `every_seconds`; the keeper calls `tend`."""

    def __init__(
        self,
        writer: Logs,
        every_seconds: float = EVERY_SECONDS,
        *,
        sources: Callable[[], Iterable[Read]] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.run_id = writer.run_id
        self._writer = writer
        self._every = every_seconds
        self._clock = clock
        self._next = clock() + every_seconds
        self._open = sources or local_sources
        self._sources: list[Read] | None = None
        self._complained = False
        if sources is None:
            # Imported now, not in the middle of somebody's training step.
            _nvml()
            with suppress(ImportError):
                import psutil  # noqa: F401

    def tend(self, *, sync: bool) -> None:
        """Take a sample if it is time; a failure is logged once and never raised."""
        try:
            if self._sources is None:
                self._sources = []  # not asked for again if that fails
                self._sources = list(self._open())
            if self._clock() >= self._next:
                self._next = self._clock() + self._every
                self._writer.log_aside(self.sample())
        except Exception as error:  # noqa: BLE001 - nothing here may stop a training
            self._complain(error)

    def sample(self) -> dict[str, float]:
        """Everything that can be had; a source that fails leaves its part out."""
        found: dict[str, float] = {}
        for read in self._sources or []:
            try:
                found |= {f"system/{name}": float(value) for name, value in read().items()}
            except Exception as error:  # noqa: BLE001 - likewise
                self._complain(error)
            time.sleep(0)  # let whoever logs go first
        return found

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            logger().warning("run %s: no system metrics: %r (training goes on)", self.run_id, error)

    def beat(self) -> None:
        """The writer does that."""

    def after_fork(self) -> None:
        """The parent goes on sampling; its child does not."""


class Share:
    """How busy the processors were since the last call, in percent of all of them."""

    def __init__(self, times: Callable[[], Any]) -> None:
        self._times = times
        self._before = self._now()

    def _now(self) -> tuple[float, float]:
        """(seconds of all processors, those of them without work)"""
        times = self._times()
        twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # user has it too
        return sum(times) - twice, times.idle + getattr(times, "iowait", 0.0)

    def __call__(self) -> dict[str, float]:
        before, self._before = self._before, self._now()
        spent, idle = (now - then for now, then in zip(self._before, before, strict=True))
        return {"cpu_percent": 100 * min(max(1 - idle / spent, 0.0), 1.0)} if spent > 0 else {}


class Rates:
    """Counters that only grow, as amounts a second since they were last read."""

    def __init__(self, counters: Read, clock: Clock = time.monotonic) -> None:
        self._counters = counters
        self._clock = clock
        self._before, self._at = dict(counters()), clock()

    def __call__(self) -> dict[str, float]:
        now, at = dict(self._counters()), self._clock()
        before, spent = self._before, at - self._at
        self._before, self._at = now, at
        if spent <= 0:
            return {}
        # A counter that fell was begun anew, by a driver or after a sleep: no rate can be told.
        return {
            f"{name}_per_second": (count - before[name]) / spent
            for name, count in now.items()
            if count >= before.get(name, count + 1)
        }


def local_sources() -> list[Read]:
    """Readers of this machine and this process, and of its GPUs where NVML is installed."""
    import psutil

    process = psutil.Process()

    def memory() -> dict[str, float]:
        known = psutil.virtual_memory()
        return {
            "memory_used_bytes": known.total - known.available,
            "memory_percent": known.percent,
            "process_memory_bytes": process.memory_info().rss,
            "process_cpu_percent": process.cpu_percent(),  # since the last call
        }

    process.cpu_percent()
    sources: list[Read] = [Share(psutil.cpu_times), memory]
    for counters in (_disk, _network):
        with suppress(Exception):  # not to be had in every container
            sources.append(Rates(counters))
    with suppress(Exception):  # no NVIDIA driver
        if nvml := _nvml():
            sources.append(gpus(nvml))
    return sources


@lru_cache(maxsize=1)
def _nvml() -> Any:
    """NVIDIA's library, None where nvidia-ml-py is not installed; looked for once."""
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _disk() -> dict[str, float]:
    import psutil

    counts = psutil.disk_io_counters()
    if counts is None:
        return {}
    return {"disk_read_bytes": counts.read_bytes, "disk_written_bytes": counts.write_bytes}


def _network() -> dict[str, float]:
    import psutil

    counts = psutil.net_io_counters()
    if counts is None:
        return {}
    return {"network_received_bytes": counts.bytes_recv, "network_sent_bytes": counts.bytes_sent}


def gpus(nvml: Any) -> Read:
    """A reader of every GPU that NVML shows. `nvml` is the module `pynvml`; raises what it raises."""
    nvml.nvmlInit()
    handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
    readings: dict[str, Callable[[Any], float]] = {
        "utilization_percent": lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        "memory_used_bytes": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "temperature_celsius": lambda gpu: nvml.nvmlDeviceGetTemperature(
            gpu, nvml.NVML_TEMPERATURE_GPU
        ),
        "power_watts": lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,  # it says milliwatts
    }

    def read() -> dict[str, float]:
        found = {}
        for number, handle in enumerate(handles):
            for name, reading in readings.items():
                with suppress(nvml.NVMLError):  # not every GPU has every sensor
                    found[f"gpu/{number}/{name}"] = reading(handle)
        return found

    return read
