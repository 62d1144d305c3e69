"""fsck finds what is damaged, missing or foreign, says whom it hurts, and changes nothing."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

import holdfast
import whole_store
from holdfast.errors import InvalidValue
from holdfast.format import kinds, layout, snapshot, tree
from holdfast.ops import fsck as checking
from holdfast.ops.findings import CODES
from holdfast.ops.fsck import DEPTHS, Report, Sample

FLIPS = 300


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "lab"
    whole_store.build(root)
    return root


@pytest.fixture
def lab(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "lab")
    return tmp_path / "lab"


def codes(report: Report) -> list[tuple[str, str]]:
    return [(one.code, one.place) for one in report.findings]


def test_the_store_of_these_tests_has_a_file_of_every_kind(original: Path) -> None:
    found = {kinds.kind_of(name) for name in whole_store.files(original)}
    assert found == {
        kinds.STORE, kinds.BLOB, kinds.PACK, kinds.RECIPE, kinds.SEGMENT, kinds.SPOOL, kinds.ENTRY,
        kinds.HEAD, kinds.SIGNATURE,
    }  # fmt: skip
    versions = {
        data[10] for n, data in whole_store.files(original).items() if kinds.kind_of(n) == "entry"
    }
    assert versions == {1, 2}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("executor", ["threads", "processes:2"])
def test_a_whole_store_is_whole_and_stays_as_it_is(lab: Path, depth: str, executor: str) -> None:
    before = whole_store.files(lab)
    report = holdfast.fsck(lab, depth, executor=executor)
    assert codes(report) == []
    assert {one.code for one in report.notes} <= {"spool", "orphan"}
    assert report.files == len(before)
    assert whole_store.files(lab) == before


def test_any_single_bit_that_flips_is_found(lab: Path) -> None:
    """See also benchmarks/flips.py, which does it with 10,000 and mends each."""
    chance = random.Random(7)
    for name, data in whole_store.files(lab).items():
        for _ in range(max(4, FLIPS // 60)):
            bit = chance.randrange(8 * len(data))
            broken = bytearray(data)
            broken[bit // 8] ^= 1 << bit % 8
            (lab / name).write_bytes(broken)
            report = holdfast.fsck(lab)
            told = [one.place for one in [*report.findings, *report.notes] if one.code != "spool"]
            assert name in told, f"bit {bit} of {name} went unnoticed"
        (lab / name).write_bytes(data)
    assert codes(holdfast.fsck(lab)) == []


def test_any_file_that_is_missing_is_found_by_the_names_alone(lab: Path) -> None:
    for name, data in whole_store.files(lab).items():
        kind = kinds.kind_of(name)
        (lab / name).unlink()
        report = holdfast.fsck(lab, "names")
        told = [one.place for one in [*report.findings, *report.notes]]
        newest = kind == kinds.ENTRY and not (lab / _after(name)).exists()
        replaceable = kind in (kinds.SPOOL, kinds.RECIPE, kinds.SIGNATURE) or (
            kind == kinds.SEGMENT and not told
        )
        assert name in told or newest or replaceable, f"{name} is missed by nobody"
        (lab / name).write_bytes(data)


def _after(name: str) -> str:
    chain, _, number = name.rpartition("/")
    return f"{chain}/{int(number) + 1:08d}"


def test_a_finding_says_whom_it_hurts_and_what_would_mend_it(lab: Path) -> None:
    with holdfast.open(lab) as store:
        about = store.run("whole").artifacts
    pack = next(name for name in whole_store.files(lab) if name.startswith("packs/"))
    data = bytearray((lab / pack).read_bytes())
    data[len(data) // 2] ^= 1  # in a chunk, which others may be encoded against
    (lab / pack).write_bytes(data)
    [finding] = holdfast.fsck(lab).findings
    assert (finding.code, finding.place, finding.runs) == ("digest_mismatch", pack, ("whole",))
    assert set(finding.artifacts) <= {f"whole:{key}" for key in about if "checkpoints" in key}
    assert finding.artifacts
    assert "run whole, artifact checkpoints/" in finding.affects
    assert "holdfast repair" in finding.mend


def test_a_chunk_that_nobody_needs_hurts_nobody(lab: Path) -> None:
    for path in lab.glob("recipes/sha256/*/*"):
        path.unlink()
    pack = next(name for name in whole_store.files(lab) if name.startswith("packs/"))
    data = bytearray((lab / pack).read_bytes())
    data[len(data) // 2] ^= 1
    (lab / pack).write_bytes(data)
    found = {one.place: one for one in holdfast.fsck(lab).findings}
    assert found[pack].affects == "no run"
    assert "orphan" in {one.code for one in holdfast.fsck(lab).notes if one.place == pack}


def test_what_does_not_belong_there_is_noted_and_no_damage(lab: Path) -> None:
    for name in ("notes.txt", "runs/whole/thumbs.db", "blobs/sha256/ab/short", "quarantine/x/y"):
        (lab / name).parent.mkdir(parents=True, exist_ok=True)
        (lab / name).write_bytes(b"x")
    (lab / "blobs" / ".tmp-0123456789abcdef").write_bytes(b"half of a ")
    (lab / "heads/runs/whole@00000000").write_bytes(b"holdfast head\n")
    report = holdfast.fsck(lab)
    assert codes(report) == []
    assert {one.place: one.code for one in report.notes if one.code not in ("spool", "orphan")} == {
        "notes.txt": "foreign",
        "runs/whole/thumbs.db": "foreign",
        "blobs/sha256/ab/short": "foreign",
        "quarantine/x/y": "quarantined",
        "blobs/.tmp-0123456789abcdef": "leftover",
    }


def test_a_head_that_is_behind_is_noted(lab: Path) -> None:
    [head] = lab.glob("heads/runs/whole@*")
    head.rename(head.with_name("whole@00000001"))
    [note] = [one for one in holdfast.fsck(lab, "names").notes if one.code == "head"]
    assert "shows entry 1" in note.message
    assert note.runs == ("whole",)


def test_wrong_statistics_are_found(lab: Path) -> None:
    with holdfast.open(lab) as store:
        chain = store.repository.manifest("whole")
        said = chain.load().state["metrics"]["loss"]
        chain.commit(chain.load(), lambda state: {"metrics": {"loss": {**said, "min": -1.0}}})
        [finding] = store.fsck().findings
        assert finding.code == "statistics"
        assert "min of metric 'loss' is -1.0" in finding.message
        assert store.fsck("structure").findings == []


def test_an_entry_of_another_history_is_found(lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(lab, other)
    for root, note in ((lab, "here"), (other, "there")):
        with holdfast.open(root) as store:
            chain = store.repository.manifest("whole")
            for turn in range(2):
                text = f"{note} {turn}"
                chain.commit(chain.load(), lambda state, text=text: {"run": {"note": text}})
            last = layout.entry(chain.prefix, chain.load().number)
    shutil.copy(other / last, lab / last)
    assert ("unlinked", last) in codes(holdfast.fsck(lab, "structure"))


def test_store_json_that_is_damaged_or_gone_is_a_finding(lab: Path) -> None:
    whole = (lab / "store.json").read_bytes()
    (lab / "store.json").write_bytes(b"X" + whole[1:])
    assert codes(holdfast.fsck(lab)) == [("corrupt", "store.json")]
    (lab / "store.json").unlink()
    assert codes(holdfast.fsck(lab)) == [("missing", "store.json")]
    with pytest.raises(holdfast.HoldfastError, match="not a Holdfast store"):
        holdfast.fsck(lab.parent / "nothing-here")


def test_a_year_of_samples_reads_every_file(lab: Path) -> None:
    names = whole_store.files(lab)
    with holdfast.open(lab) as store:
        for part in range(4):
            report = store.fsck(sample="1/4", part=part)
            assert report.sample == Sample(part, 4)
    assert all(sum(Sample(part, 4).has(name) for part in range(4)) == 1 for name in names)
    found, with_names = set(), {tree.KIND, snapshot.KIND}
    blobs = [name for name in names if name.startswith(("blobs/", "packs/"))]
    for name in blobs:
        data = bytearray((lab / name).read_bytes())
        data[-1] ^= 1
        (lab / name).write_bytes(data)
    for part in range(4):
        some = {one.place for one in holdfast.fsck(lab, sample="1/4", part=part).findings}
        others = [n for n in some if n.startswith("blobs/") and not Sample(part, 4).has(n)]
        assert all(names[name][5:6] in with_names for name in others), (
            "listings and snapshots are read with the names"
        )
        found |= some
    assert set(blobs) <= found


def test_the_part_of_the_day_is_another_one_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter(range(20_000, 20_064))
    monkeypatch.setattr(checking.time, "time", lambda: next(days) * 86_400.0 + 5)
    assert {Sample.parse("1/64").part for _ in range(64)} == set(range(64))


def test_a_sample_or_a_depth_that_is_none_is_refused(lab: Path) -> None:
    for wrong in ("64", "2/64", "1/0", "1/"):
        with pytest.raises(InvalidValue, match="write it as 1/64"):
            holdfast.fsck(lab, sample=wrong)
    with pytest.raises(InvalidValue, match="0 to 3"):
        holdfast.fsck(lab, sample="1/4", part=4)
    with pytest.raises(InvalidValue, match="names, structure, bytes"):
        holdfast.fsck(lab, "deep")


def test_what_was_stopped_goes_on_where_it_was(lab: Path) -> None:
    class Stop(Exception):
        pass

    seen = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        holdfast.fsck(lab, executor="threads:1", resume=True, progress=stop)
    reads = []
    report = holdfast.fsck(
        lab, executor="threads:1", resume=True, progress=lambda done, total: reads.append(done)
    )
    assert codes(report) == []
    assert 0 < report.resumed_bytes < report.checked_bytes == seen[0][1]
    assert holdfast.fsck(lab, resume=True).resumed_bytes == 0, "it had come to its end"


def test_what_was_found_before_a_stop_is_looked_at_again(lab: Path) -> None:
    name = next(name for name in whole_store.files(lab) if name.startswith("blobs/"))
    (lab / name).write_bytes(b"wrong")

    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        holdfast.fsck(lab, resume=True, progress=stop)
    assert name in {one.place for one in holdfast.fsck(lab, resume=True).findings}


def test_one_run_is_checked_by_itself(lab: Path) -> None:
    name = next(name for name in whole_store.files(lab) if name.startswith("packs/"))
    data = bytearray((lab / name).read_bytes())
    data[-1] ^= 1
    (lab / name).write_bytes(data)
    assert [one.place for one in holdfast.fsck(lab, run_id="whole").findings] == [name]
    assert holdfast.fsck(lab, run_id="crashed").findings == []


def test_every_code_has_its_line_on_the_page() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "findings.md").read_text()
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| `")]
    assert [(code.strip(" `"), meaning.strip(), mend.strip()) for code, meaning, mend in rows] == [
        (name, code.meaning, code.mend) for name, code in CODES.items()
    ]
    note = page.index("## Notes")
    for name, code in CODES.items():
        assert (page.index(f"| `{name}` |") > note) == code.harmless, name


def test_the_command_says_it_and_its_exit_code_too(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.cli import main

    monkeypatch.setenv("HOLDFAST_STORE", str(lab))
    assert main(["fsck", "--depth", "names"]) == 0
    assert "no damage" in capsys.readouterr().out
    name = next(name for name in whole_store.files(lab) if name.startswith("blobs/"))
    (lab / name).write_bytes(b"wrong")
    assert main(["fsck"]) == 1
    out = capsys.readouterr().out
    assert name in out
    assert "mend: " in out
    assert "1 finding" in out
    assert main(["fsck", "--json", "--sample", "1/1"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["code"], finding["place"]) == ("digest_mismatch", name)
    assert main(["fsck", "--sample", "7"]) == 2


def test_every_flip_of_what_collectors_say_is_found(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        for number in range(3):
            with store.start_run("e", run_id=f"r{number}", capture=False) as run:
                run.log_artifact(b"%d" % number * 1000, key="k")
        store.delete_run("r0")
        store.gc()
        assert store.verify() == []
        names = [p for p in (tmp_path / "lab" / "gc" / "names").iterdir() if p.is_file()]
        assert names
        for path in names:
            data = path.read_bytes()
            for bit in range(0, 8 * len(data), 7):
                broken = bytearray(data)
                broken[bit // 8] ^= 1 << bit % 8
                path.write_bytes(broken)
                places = [one.place for one in store.verify()]
                assert places == [f"gc/names/{path.name}"], bit
            path.unlink()
            assert store.verify() != []
            path.write_bytes(data)
