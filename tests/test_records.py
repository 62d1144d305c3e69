"""The seed's records and their JSON, byte for byte; moments, names, digests and ids."""

from __future__ import annotations

import copy
import json
import math
import pickle
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import ids, wire
from holdfast.digest import Digest
from holdfast.errors import DigestMismatch, HoldfastError, InvalidState, InvalidValue
from holdfast.names import check_id, check_key
from holdfast.records import (
    ArtifactRecord,
    ExperimentRecord,
    MetricRecord,
    RunRecord,
    RunStatus,
)
from holdfast.timestamp import Timestamp

NOON = "2025-01-15T12:00:00Z"
LINES: list[tuple[type[Any], str]] = [
    (
        ExperimentRecord,
        '{"experiment_id":"exp-001","name":"ResNet Training","created_at":"2025-01-15T12:00:00Z",'
        '"config":null}',
    ),
    (
        ExperimentRecord,
        '{"experiment_id":"exp-002","name":"Custom Config",'
        '"created_at":"2025-01-15T12:00:00.123456789Z",'
        '"config":{"batch_size":32,"learning_rate":0.01,"model":"resnet50"}}',
    ),
    (
        RunRecord,
        '{"run_id":"run-001","experiment_id":"exp-001","status":"Pending","started_at":null,'
        '"ended_at":null,"renacer_span_id":null}',
    ),
    (
        RunRecord,
        '{"run_id":"run-002","experiment_id":"exp-001","status":"Success",'
        '"started_at":"2025-01-15T12:00:00.250001Z","ended_at":"2025-01-15T12:45:00.500002Z",'
        '"renacer_span_id":"span-abc-123"}',
    ),
    (
        MetricRecord,
        '{"run_id":"run-001","key":"accuracy","step":100,"value":0.95,'
        '"timestamp":"2025-01-15T12:00:00Z"}',
    ),
    (
        ArtifactRecord,
        '{"run_id":"run-001","key":"model.pt",'
        '"cas_hash":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",'
        '"size_bytes":104857600,"created_at":"2025-01-15T12:00:00Z"}',
    ),
]


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_the_lines_of_the_seed_come_back_byte_for_byte(kind: type[Any], line: str) -> None:
    assert kind.from_json(line).to_json() == line
    assert kind.from_json(line.encode()).to_json() == line


def test_records_built_from_arguments_write_the_lines_of_the_seed() -> None:
    noon = Timestamp.parse(NOON)
    assert ExperimentRecord("exp-001", "ResNet Training", created_at=noon).to_json() == LINES[0][1]
    assert RunRecord("run-001", "exp-001").to_json() == LINES[2][1]
    assert MetricRecord("run-001", "accuracy", 100, 0.95, timestamp=noon).to_json() == LINES[4][1]


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_unknown_keys_are_ignored_and_missing_ones_named(kind: type[Any], line: str) -> None:
    fields = json.loads(line)
    assert kind.from_json(json.dumps({**fields, "from_the_future": [1]})).to_json() == line
    first = next(iter(fields))
    with pytest.raises(InvalidValue, match=first):
        kind.from_json(json.dumps({k: v for k, v in fields.items() if k != first}))


def test_missing_optional_fields_are_none() -> None:
    run = RunRecord.from_json('{"run_id":"r","experiment_id":"e","status":"Running"}')
    assert (run.started_at, run.ended_at, run.renacer_span_id) == (None, None, None)


@pytest.mark.parametrize("line", ["", "[]", "nul", "{", '{"a":1}', "\ufffe", "[" * 100_000])
def test_what_is_no_record_is_refused_in_one_sentence(line: str) -> None:
    for kind in (ExperimentRecord, RunRecord, MetricRecord, ArtifactRecord):
        with pytest.raises(InvalidValue) as caught:
            kind.from_json(line)
        assert "\n" not in caught.value.message


def test_a_run_goes_from_pending_to_running_to_an_end() -> None:
    run = RunRecord("r", "e")
    with pytest.raises(InvalidState, match="Pending"):
        run.complete(RunStatus.SUCCESS)
    run.start()
    began = run.started_at
    assert run.status is RunStatus.RUNNING
    assert began is not None
    with pytest.raises(InvalidState):
        run.start()
    for status in (RunStatus.PENDING, RunStatus.RUNNING):
        with pytest.raises(InvalidState, match="Success, Failed or Cancelled"):
            run.complete(status)
    run.complete(RunStatus.CANCELLED)
    assert (run.status, run.started_at) == (RunStatus.CANCELLED, began)
    assert run.ended_at is not None
    assert run.ended_at >= began
    with pytest.raises(InvalidState):
        run.complete(RunStatus.SUCCESS)


@pytest.mark.parametrize("step", [-1, 2**64, 1.5, "1", None, True])
def test_steps_outside_u64_are_refused(step: Any) -> None:
    with pytest.raises(InvalidValue, match="step"):
        MetricRecord("r", "k", step, 0.0)


@pytest.mark.parametrize("value", ["0.5", None, True, b"1", [1.0], {}])
def test_values_that_are_no_numbers_are_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="value"):
        MetricRecord("r", "k", 0, value)


def test_nan_and_infinities_are_null_in_json_and_null_is_nan() -> None:
    for value in (math.nan, math.inf, -math.inf):
        line = MetricRecord("r", "k", 2**64 - 1, value, timestamp=NOON).to_json()
        assert '"step":18446744073709551615,"value":null' in line
        assert math.isnan(MetricRecord.from_json(line).value)


def test_a_digest_that_is_none_is_kept_in_a_record() -> None:
    assert ArtifactRecord("r", "k", "sha256:abc123", 1).cas_hash == "sha256:abc123"


# Floats as serde_json writes them.

FLOATS = {
    1.0: "1.0",
    -0.0: "-0.0",
    0.1: "0.1",
    1e-5: "0.00001",
    9.999e-6: "9.999e-6",
    1e-7: "1e-7",
    123456789.125: "123456789.125",
    1e15: "1000000000000000.0",
    9999999999999998.0: "9999999999999998.0",
    1e16: "1e+16",
    1.5e300: "1.5e+300",
    5e-324: "5e-324",
    -1.7976931348623157e308: "-1.7976931348623157e+308",
    2.2250738585072014e-308: "2.2250738585072014e-308",
    0.3333333333333333: "0.3333333333333333",
}


@pytest.mark.parametrize(("value", "text"), FLOATS.items())
def test_floats_are_written_as_serde_does(value: float, text: str) -> None:
    assert wire.number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back_bit_for_bit(value: float) -> None:
    assert struct.pack("<d", json.loads(wire.number(value))) == struct.pack("<d", value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(config=json_values, name=st.text())
def test_any_config_makes_the_round_trip(config: Any, name: str) -> None:
    line = ExperimentRecord("e", name, created_at=NOON, config=config).to_json()
    again = ExperimentRecord.from_json(line)
    assert again.to_json() == line
    assert (again.config, again.name) == (config, name)


def test_config_keys_are_sorted_by_bytes_at_every_level() -> None:
    config = {"b": 1, "a": {"é": 1, "z": 2, "Z": [{"y": 1, "x": 2}]}}
    assert wire.dump(config) == '{"a":{"Z":[{"x":2,"y":1}],"z":2,"é":1},"b":1}'


def test_what_json_does_not_have_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidValue, match=r"config\.a\[1\]\.b is a set"):
        ExperimentRecord("e", "n", config={"a": [0, {"b": {1}}]})
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidValue, match="levels deep"):
        ExperimentRecord("e", "n", config=deep)


# Moments.


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (NOON, NOON),
        ("2025-01-15T12:00:00.5Z", "2025-01-15T12:00:00.500Z"),
        ("2025-01-15T12:00:00.000001Z", "2025-01-15T12:00:00.000001Z"),
        ("2025-01-15T12:00:00.000000001Z", "2025-01-15T12:00:00.000000001Z"),
        ("2025-01-15T13:30:00+01:30", NOON),
        ("2025-01-15 04:00:00-08:00", NOON),
        ("2025-01-15t12:00:00.120000z", "2025-01-15T12:00:00.120Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
    ],
)
def test_times_are_read_with_any_offset_and_written_in_the_shortest_form(
    text: str, written: str
) -> None:
    assert str(Timestamp.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    ["2025-01-15T12:00:00", "2025-01-15", "noon", "2025-02-30T00:00:00Z", "2025-01-15T24:00:00Z",
     "2025-01-15T12:00:00.1234567890Z", "2025-01-15T12:00:00+25:00", "0000-01-01T00:00:00Z", 7],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(InvalidValue):
        Timestamp.parse(text)


@given(st.integers(-62135596800 * 10**9, 253402300799 * 10**9 + 999_999_999))
def test_every_nanosecond_makes_the_round_trip(ns: int) -> None:
    assert Timestamp.parse(str(Timestamp(ns))).ns == ns


def test_datetimes_need_a_time_zone() -> None:
    moment = datetime(2025, 1, 15, 13, tzinfo=timezone(timedelta(hours=1)))
    assert str(Timestamp.from_any(moment)) == NOON
    assert Timestamp.parse(NOON).to_datetime() == datetime(2025, 1, 15, 12, tzinfo=UTC)
    with pytest.raises(InvalidValue, match="time zone"):
        Timestamp.from_any(moment.replace(tzinfo=None))


# Names, digests, ids, errors.


@pytest.mark.parametrize(
    "key", ["loss", "train/loss", "checkpoints/step=1/model.pt", "é", "a b", "a.b"]
)
def test_keys_that_are_fine(key: str) -> None:
    assert check_key("metric", key) == key


@pytest.mark.parametrize(
    "key",
    ["", "/a", "a/", "a//b", "../a", "a/./b", "a\\b", "c:/x", "a\nb", "a\0b", "nul", "a/CON.txt",
     "e\u0301", "\ud800", "k" * 513, 7, None, "a\u202eb"],
)  # fmt: skip
def test_keys_that_are_refused_say_why_and_what_to_do(key: Any) -> None:
    with pytest.raises(InvalidValue, match="cannot be used: .+; "):
        check_key("metric", key)


@pytest.mark.parametrize("name", ["a/b", ".hidden", "a:b", " a", "a.", "x" * 129, "COM1", "a*", ""])
def test_ids_are_one_part_of_a_path(name: str) -> None:
    with pytest.raises(InvalidValue):
        check_id("run id", name)


@given(st.text(max_size=20))
def test_no_key_that_is_accepted_leaves_its_place(key: str) -> None:
    try:
        check_key("artifact", key)
    except InvalidValue:
        return
    parts = key.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert key.isprintable() or "\u3000" in key


def test_a_digest_is_64_lower_case_digits() -> None:
    digest = Digest.of(b"")
    assert str(digest) == f"sha256:{digest.hex}" == LINES[5][1].split('"')[11]
    assert Digest.parse(str(digest)) == Digest.from_raw(digest.raw) == Digest(digest.hex)
    for bad in (
        "sha256:abc123",
        "md5:" + digest.hex,
        digest.hex,
        f"sha256:{digest.hex.upper()}",
        "",
    ):
        with pytest.raises(InvalidValue, match="sha256"):
            Digest.parse(bad)


def test_run_ids_sort_by_time_and_differ() -> None:
    made = {ids.new_run_id() for _ in range(200)}
    assert len(made) == 200
    assert all(check_id("run id", run_id) == run_id for run_id in made)


@given(st.text(min_size=1, max_size=200))
def test_every_experiment_name_has_an_id_or_a_reason(name: str) -> None:
    try:
        made = ids.experiment_id_for(name)
    except InvalidValue:
        return
    assert check_id("experiment id", made) == made
    assert ids.experiment_id_for(name) == made


def _leaves(kind: type[HoldfastError]) -> list[type[HoldfastError]]:
    return [kind, *(leaf for sub in kind.__subclasses__() for leaf in _leaves(sub))]


def test_every_error_has_its_own_code_and_survives_pickle() -> None:
    kinds = [one for one in _leaves(HoldfastError) if one.__module__.startswith("holdfast")]
    assert len({kind.code for kind in kinds}) == len(kinds)
    error = DigestMismatch("blobs/x is damaged", place="blobs/x", expected="a", found="b")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is DigestMismatch
        assert (again.message, again.place, again.found) == (error.message, "blobs/x", "b")
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = error.nothing_such
