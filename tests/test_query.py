"""Queries: what each form means, what is refused, and that no text of a user's becomes SQL."""

from __future__ import annotations

import ast
import keyword
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import holdfast
from holdfast.catalog import Catalog, CatalogRow
from holdfast.errors import InvalidValue, QueryError
from holdfast.query_fields import STATISTICS

State = dict[str, Any]
NAN, INF = math.nan, math.inf


def catalog_of(states: dict[str, State]) -> Catalog:
    """A catalog in memory; the first run is the newest."""
    catalog = Catalog.open("test", memory=True)
    catalog.update(rows_of(states))
    catalog.update_experiments([("e", "resnet ☃", 0)])
    return catalog


def rows_of(states: dict[str, State], generation: int = 1) -> list[CatalogRow]:
    return [
        CatalogRow(run_id, generation, str(generation), state_of(state, len(states) - place))
        for place, (run_id, state) in enumerate(states.items())
    ]


def state_of(state: State, created_at: int) -> State:
    run = {"experiment_id": "e", "status": "Success", "created_at": created_at}
    return {**state, "run": {**run, **state.get("run", {})}}


def ids(catalog: Catalog, *query: Any, **more: Any) -> str:
    """The runs that match, as `a c d`."""
    return " ".join(run.run_id for run in catalog.select(*query, **more))


def refused(text: Any, catalog: Catalog) -> QueryError:
    with pytest.raises(QueryError) as caught:
        catalog.select(text)
    return caught.value


# What each form means.

RUNS: dict[str, State] = {
    "a": {
        "run": {
            "name": "First Run", "note": "it's 100% fine; -- really", "status": "Success",
            "started_at": 1_738_281_600_000_000_000, "ended_at": 1_738_281_601_500_000_000,
        },
        "config": {"lr": 0.1, "n": 1, "opt": {"kind": "adam", "betas": [0.9, 0.99]}, "é": "ü"},
        "tags": {"best": True, "stage": "dev"},
        "metrics": {"loss": {"last": 0.5, "min": 0.25, "count": 3, "nan": 0, "last_step": 2}},
        "artifacts": {"model.pt": {"size_bytes": 9, "digest": "sha256:aa"}},
        "source": {"git": {"dirty": True, "branch": "main"}, "command": {"argv": ["t.py", "-x"]}},
    },
    "b": {
        "run": {
            "name": "second", "status": "Failed", "error": {"type": "Boom", "message": "no disk"},
            "started_at": 1_738_324_800_000_000_000,
        },
        "config": {"lr": 1, "n": 2**63, "opt": {"kind": "Adam"}, "class": "x"},
        "tags": {"best": False, "stage": ""},
        "metrics": {"loss": {"last": NAN, "count": 1, "nan": 1}, "train/acc": {"last": INF}},
        "source": {"git": {"dirty": False}},
    },
    "c": {
        "run": {"note": "", "status": "Cancelled"},
        "config": {"lr": "0.1", "n": None, "opt": None, "a b": {}},
        "metrics": {"train/acc": {"last": -INF, "first_step": 2**64 - 1}},
    },
    "d": {"run": {"deleted_at": 5, "name": "gone"}, "config": {"lr": 0.1}},
}  # fmt: skip


@pytest.fixture(scope="module")
def four() -> Iterator[Catalog]:
    """The runs a, b, c and the deleted d."""
    catalog = catalog_of(RUNS)
    yield catalog
    catalog.close()


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("config.lr == 0.1", "a"),
        ("config.lr != 0.1", "b"),
        ("config.lr == '0.1'", "c"),
        ("config.lr < 1", "a"),
        ("config.lr <= 1", "a b"),
        ("config.lr > 0.1", "b"),
        ("config.lr >= 0.1", "a b"),
        ("1 > config.lr", "a"),
        ("0.1 <= config.lr < 1", "a"),
        ("0 < config.lr <= config.n", "a b"),
        ("config.lr < config.n", "a b"),
        ("not config.lr == 0.1", "b c"),
        ("not not config.lr == 0.1", "a"),
        ("config.lr == 0.1 or config.lr == 1", "a b"),
        ("config.lr == 0.1 and config.n == 1", "a"),
        ("config.lr == 1 or config.lr == 0.1 and config.n == 2", "b"),
        ("(config.lr == 1 or config.lr == 0.1) and config.n == 2", ""),
        ("not config.lr == 1 and config.n == 1", "a"),
        ("not (config.lr == 1 or config.n == 1)", "c"),
        ("config.lr + 1 == 1.1", "a"),
        ("config.lr - 1 == 0", "b"),
        ("config.lr * 10 == 1", "a"),
        ("1 / config.lr == 10", "a"),
        ("3 / 2 == 1.5 and config.n == 1", "a"),
        ("1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and config.n", "a b"),
        ("-config.lr == -1", "b"),
        ("+config.lr == 1", "b"),
        ("config.lr / 0 is None", "a b c"),
        ("config.lr / 0 != 1", ""),
        ("name + 1 is None", "a b c"),
        ("config.lr in (0.1, 1)", "a b"),
        ("config.lr in [0.1, '0.1']", "a c"),
        ("config.lr in {-1, 1}", "b"),
        ("config.lr not in (0.1, 2)", "b"),
        ("config.lr not in ('x',)", "c"),
        ("config.lr not in (0.1, 'x')", "b c"),
        ("status in ('Success', 'Failed')", "a b"),
        ("'100%' in note", "a"),
        ("'fine' not in note", "c"),
        ("name in 'the second one'", "b"),
        ("config.lr is None", ""),
        ("config.n is None", "c"),
        ("config.n is not None", "a b"),
        ("metrics.loss is None", "b c"),
        ("metrics.loss.nan > 0", "b"),
        ("'loss' in metrics", "a b"),
        ("'loss' not in metrics", "c"),
        ("metrics.loss < 1", "a"),
        ("metrics.loss == metrics.loss.last", "a"),
        ("metrics.loss.min * 2 == metrics.loss.last", "a"),
        ("metrics['train/acc'] > 1e308", "b"),
        ("metrics['train/acc'] == -1e999", "c"),
        ("metrics['train/acc'].first_step == 18446744073709551615", "c"),
        ("config.n == 9223372036854775808", "b"),
        ("'lr' in config", "a b c"),
        ("'class' in config", "b"),
        ("'a b' in config", "c"),
        ("'betas' in config.opt", "a"),
        ("'kind' in config.opt", "a b"),
        ("'kind' not in config.opt", "c"),
        ("'opt.kind' in config", "a b"),
        ("'betas.1' in config.opt", "a"),
        ("config.opt is None", "a b c"),
        ("'stage' in tags", "a b"),
        ("'model.pt' in artifacts", "a"),
        ("'nope' in artifacts or 'nope' in tags", ""),
        ("name.startswith('First')", "a"),
        ("name.startswith('first')", ""),
        ("name.endswith('Run')", "a"),
        ("name.endswith('')", "a b"),
        ("name.contains('st R')", "a"),
        ("config['é'].endswith('ü')", "a"),
        ("config.lr.startswith('0')", "c"),
        ("not name.startswith('First')", "b c"),
        ("tags.best", "a"),
        ("not tags.best", "b c"),
        ("tags.stage", "a"),
        ("crashed or deleted", ""),
        ("1", "a b c"),
        ("0 or '' or 0.0", ""),
        ("True", "a b c"),
        ("tags.best == True", "a"),
        ("tags.best == False", "b"),
        ("status == 'Success' and state == 'Success'", "a"),
        ("status == 'success'", ""),
        ("name < 'a'", "a"),
        ("name >= 'a'", "b"),
        ("config.opt.betas[1] == 0.99", "a"),
        ("config['opt']['betas'][0] == config.opt['betas'].0 ", None),
        ("config['opt.betas.0'] == 0.9", "a"),
        ("config['opt'].kind == 'adam'", "a"),
        ("config['class'] == 'x'", "b"),
        ("artifacts['model.pt'] is not None", "a"),
        ("artifacts['model.pt'].size_bytes == 9", "a"),
        ("artifacts['model.pt'].digest == 'sha256:aa'", "a"),
        ("experiment == 'resnet ☃' and experiment_id == 'e'", "a b c"),
        ("run_id > 'a'", "b c"),
        ("generation == 1", "a b c"),
        ("duration == 1.5", "a"),
        ("duration is None", "b c"),
        ("error.type == 'Boom' and 'disk' in error.message", "b"),
        ("source.git.dirty", "a"),
        ("source.git.dirty == False", "b"),
        ("source.git.branch == 'main'", "a"),
        ("source.command.argv == 't.py -x'", "a"),
        ("started_at < '2025-01-31T12:00:00Z'", "a"),
        ("started_at <= '2025-01-31T13:00:00+01:00'", "a b"),
        ("started_at == '2025-01-31'", "a"),
        ("'2025-02-01' > started_at > '2025-01-31'", "b"),
        ("ended_at > started_at", "a"),
        ("started_at is None", "c"),
        ("started_at < '9999-12-31' and created_at > '0001-01-01'", "a b"),
        ("name == 'First' ' Run'", "a"),
        ("name == '''First Run'''", "a"),
        ("name == '\\x46irst Run'", "a"),
        ("'#' in name or name == 'second'", "b"),
        ("\n\t config.lr == 0.1\n  and\r\n status == 'Success' \n", "a"),
    ],
)
def test_each_form_means_what_is_written_of_it(
    four: Catalog, text: str, matches: str | None
) -> None:
    if matches is None:
        refused(text, four)
    else:
        assert ids(four, text) == matches


def test_deleted_runs_are_left_out_unless_asked_for(four: Catalog) -> None:
    assert ids(four) == "a b c"
    assert ids(four, deleted=True) == "a b c d"
    assert ids(four, "deleted", deleted=True) == "d"
    assert ids(four, "deleted") == ""


def test_without_a_condition_the_newest_run_comes_first(four: Catalog) -> None:
    assert [run.run_id for run in four.select()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("order", "runs"),
    [
        ("config.n", "a b c"),
        ("-config.n", "b a c"),
        ("config.lr", "a b c"),  # numbers come before texts
        ("-config.lr", "c b a"),
        ("metrics['train/acc']", "c b a"),
        ("-metrics['train/acc']", "b c a"),
        ("metrics.loss", "a b c"),
        ("-metrics.loss", "a b c"),  # NaN is missing, so it comes last as well
        ("name", "a b c"),
        ("-name", "b a c"),
        ("created_at", "c b a"),
        ("-started_at, name", "b a c"),
        (["-status"], "a b c"),
        (["status"], "c b a"),
        (["experiment", "-run_id"], "c b a"),
        ("experiment", "a b c"),  # equal runs: the newest first
        ("config.n * -1", "b a c"),
        ("tags.best, -run_id", "b a c"),
        (("run_id",), "a b c"),
        ("", "a b c"),
        ([], "a b c"),
    ],
)
def test_an_order_puts_what_is_missing_last(four: Catalog, order: Any, runs: str) -> None:
    assert ids(four, None, order) == runs


@pytest.mark.parametrize(("limit", "runs"), [(0, ""), (1, "a"), (3, "a b c"), (2**70, "a b c")])
def test_a_limit_cuts_after_the_order(four: Catalog, limit: int, runs: str) -> None:
    assert ids(four, None, None, limit) == runs
    assert ids(four, None, "run_id", limit) == runs


@pytest.mark.parametrize("limit", [-1, 1.0, "3", NAN])
def test_what_is_no_limit_is_refused(four: Catalog, limit: Any) -> None:
    with pytest.raises(InvalidValue, match="limit"):
        four.select(limit=limit)


# Mistakes.

MISTAKES: list[tuple[str, int, str]] = [
    ("", 0, "empty"),
    (" \n ", 0, "empty"),
    ("config.rl < 1", 0, "no run has config.rl: did you mean config.lr?"),
    ("  config.rl < 1", 2, "did you mean config.lr?"),
    ("config.lr < 1 and config.nn", 18, "did you mean config.n?"),
    ("config.lr < 1\n  and\n config.opt.kimd == 1", 21, "did you mean config.opt.kind?"),
    ("config['é'] == '日本語' and config.rl < 1", 25, "did you mean config.lr?"),
    ("name == '🦊🦊' and\n config.rl", 18, "did you mean config.lr?"),
    ("config['ü'] == 1", 0, "did you mean config.é?"),
    ("lr < 1", 0, "there is no field lr: did you mean config.lr?"),
    ("best", 0, "did you mean tags.best?"),
    ("nmae == 'x'", 0, "there is no field nmae: did you mean name?"),
    ("config.clas", 0, 'did you mean config["class"]?'),
    ("metrics.train.acc > 1", 0, 'did you mean metrics["train/acc"]?'),
    ("metrics.los.min > 1", 0, "did you mean metrics.loss.min?"),
    ("metrics.loss.lats > 1", 0, "did you mean metrics.loss.last?"),
    ("artifacts['model.pt'].size_byte", 0, "did you mean artifacts.model.pt.size_bytes?"),
    ("zzzzzz", 0, "there is no field zzzzzz\n"),
    ("config == 1", 0, "config is a group of values: name one of them, or ask 'key' in config"),
    ("error", 0, "error is a group of values: name one of them\n"),
    ("config.opt.betas", 0, "is a group"),
    ("config.lr = 1", 10, "compare with =="),
    ("config.é ==== '日'", 11, "compare with =="),
    ("'日本' == name = 1", 13, "compare with =="),
    ("config.class == 1", 7, 'class is a word of Python, so write ["class"]'),
    ("name AND 1", 5, "write and in small letters"),
    ("name OR 1", 5, "write or in small letters"),
    ("name ! 1", 5, "negate a condition with not"),
    ("config.lr <", 11, "not an expression"),
    ("'日本' in name)", 12, "unmatched"),
    ("name == 'x", 8, "unterminated"),
    ("name # of it", 5, "a comment"),
    ("name and # of it\n name", 9, "a comment"),
    ("name == '\x07'", 9, "unprintable character '\\x07'"),
    ("name\u2028", 4, "unprintable"),
    ("name == '\ud800'", 9, "unprintable"),
    ("name == '\\ud800'", 8, "surrogate"),
    ("name.contains('\\ud800')", 14, "surrogate"),
    ("'\\udfff' in tags", 0, "surrogate"),
    ("'\\udfff' in config.opt", 0, "surrogate"),
    ("name is 'x'", 8, "`is` takes only None"),
    ("None is name", 8, "`is` takes only None"),
    ("name == None", 8, "ask `is None`"),
    ("name in []", 8, "nothing is in an empty list"),
    ("name in (run_id,)", 9, "a list holds only literals"),
    ("name in (None,)", 9, "ask `is None`"),
    ("1 in tags", 0, "a key of tags is text in quotes"),
    ("name in config.opt.betas", 0, "a key of config.opt.betas is text in quotes"),
    ("(1, 2) == name", 0, "a list stands only after `in`"),
    ("(name == 'x') == 1", 1, "a condition cannot be compared"),
    ("1 + (not name)", 5, "a condition cannot be compared"),
    ("config.lr ** 2 > 1", 0, "the operators on numbers are"),
    ("1 + config.lr % 2 > 1", 4, "the operators on numbers are"),
    ("name & run_id", 0, "joined by and, or, not"),
    ("name == 'x' | 1", 8, "joined by and, or, not"),
    ("~config.n", 0, "not part of a query"),
    ("name[0:1]", 0, "a name is followed by"),
    ("config[config.n]", 0, "a name is followed by"),
    ("config.opt.betas[-1]", 0, "a name is followed by"),
    ("config[True]", 0, "a name is followed by"),
    ("name.upper()", 0, "the only calls are .startswith(), .endswith(), .contains()"),
    ("name.contains(1)", 0, "one text in quotes"),
    ("name.contains('a', 'b')", 0, "one text in quotes"),
    ("name.contains(x='a')", 0, "one text in quotes"),
    ("name.contains(*'a')", 0, "one text in quotes"),
    ("name.startswith(run_id)", 0, "one text in quotes"),
    ("created_at > 1", 13, "a time is written"),
    ("created_at > '2025-13-01'", 13, "a time is written"),
    ("created_at > '2025-01-31T12:00:00'", 13, "a time is written"),
    ("created_at + 1 > 2", 0, "created_at is a time"),
    ("created_at in ('2025-01-31',)", 0, "created_at is a time"),
    ("created_at.startswith('2')", 0, "created_at is a time"),
    ("created_at == name", 14, "a time is written"),
]


@pytest.mark.parametrize(("text", "column", "said"), MISTAKES)
def test_a_mistake_is_explained_and_pointed_at(
    four: Catalog, text: str, column: int, said: str
) -> None:
    error = refused(text, four)
    assert said in f"{error}\n"
    assert error.column == column
    assert len(error.expression) == len(text)
    _, shown, caret = str(error).split("\n")
    assert caret.index("^") == 2 + column
    assert shown[2:] == "".join(c if c.isprintable() else "\ufffd" for c in error.expression)


@pytest.mark.parametrize(
    "text",
    [
        "name.__class__", "name.__class__.__mro__", "().__class__.__bases__[0]", "''.join", "(1).real",
        "config.__dict__", "__import__", "__import__('os').system('id')", "eval('1')", "exec('1')",
        "print", "print(1)", "open('/etc/passwd')", "name()", "name()()", "config.lr(1)", "len(name) > 1",
        "name.startswith", "name.startswith('a').x", "'a'.format", "'%s' % name == 'x'",
        "lambda: 1", "(lambda: name)()", "[x for x in config]", "{x for x in (1,)}", "{1: 2}", "{**name}",
        "(x for x in name)", "{x: x for x in 'a'}", "any(x for x in (1,))", "f'{name}'", "f''",
        "name == f'{1}'", "name in f'x'", "config[f'lr']", "(x := 1)", "name == (x := 'a')", "x = 1",
        "name if name else name", "await name", "async", "yield", "(yield)", "(yield from name)",
        "*name", "*name,", "name,", "name, run_id", "()", "[]", "[1]", "{}", "...", "1j", "b'x'",
        "name == b'x'", "import os", "del name", "assert name", "pass", "raise", "return 1", "global x",
        "name; name", "name\\\n", "@name", "name @ name", "name // 1", "1 << 2", "1 >> 2", "1 ^ 2",
        "not", "-", "'", '"', "'''", "(", ")", "((", "[", "{", "1 1", "1.2.3", "0x", "1__0", "01",
        "'\\N{nope}'", "'\\x'", "'\\u12'", "nan", "inf", "None", "None < 1", "print 1", "exec 'x'",
        "config[None]", "config[1.5]", "config[b'lr']", "config[()]", "config['lr', 'n']", "config[...]",
        "match name: pass", "type X = int", "<>", "name <> 1", "name === 1", "a" * 4001,
        "-" * 3999 + "1", "not " * 999 + "1", "(" * 1999 + "1" + ")" * 1999, "[" * 3999, "(" * 3999,
        "name" + ".a" * 1900, "name" + "[0]" * 1200, "1" + "+1" * 1900, "1<" * 1999 + "1",
        "1 or " * 799 + "1", "1 and " * 660 + "1", "name<" * 799 + "name",
        "-(" * 900 + "1" + ")" * 900, f"({'-' * 700}name).contains('a')", f"({'+' * 900}1).startswith('')",
        f"({'-' * 700}1).a", f"name[{'-' * 900}1]", f"({'- ' * 30}1).endswith('a')",
    ],
)  # fmt: skip
def test_anything_else_is_refused(four: Catalog, text: str) -> None:
    error = refused(text, four)
    assert 0 <= error.column <= len(text)
    assert len(str(error)) < 5000


@pytest.mark.parametrize("text", [5, b"name", 1.5, ["name"], object(), True, ast.parse("1")])
def test_a_query_that_is_no_text_is_refused(four: Catalog, text: Any) -> None:
    assert "a query is text" in str(refused(text, four))


@pytest.mark.parametrize("order", [5, [1], ["name", None], b"name", {"name": 1}.items(), object()])
def test_an_order_that_is_no_text_is_refused(four: Catalog, order: Any) -> None:
    with pytest.raises(QueryError):
        four.select(None, order)


@pytest.mark.parametrize(
    ("order", "column"),
    [
        ("config.rl", 0), ("-config.rl", 1), ("name, -config.rl", 7), (["name", "-config.rl"], 7),
        ("name desc", 5), ("name < 1", 0), ("not name", 0), ("name.startswith('a')", 0), ("*name", 0),
        ("config", 0), ("None", 0), ("name; --", 4), ("-", 1), (",", 0), ("name DESC, 1", 5),
    ],
)  # fmt: skip
def test_a_mistake_in_an_order_is_pointed_at(four: Catalog, order: Any, column: int) -> None:
    with pytest.raises(QueryError) as caught:
        four.select(None, order)
    assert caught.value.column == column


def test_the_limits_are_far_from_what_is_written_by_hand(four: Catalog) -> None:
    assert ids(four, " or ".join(f"config.lr == {n}" for n in range(200))) == "b"
    assert ids(four, f"config.lr in ({', '.join(map(str, range(600)))})") == "b"
    assert ids(four, f"run_id {' or 0 ' * 400}") == "a b c"
    assert ids(four, "not " * 20 + "name") == "a b"
    assert ids(four, "(" * 100 + "name" + ")" * 100) == "a b"
    assert ids(four, f"config.n < 0x{'f' * 3900}") == "a b"
    assert ids(four, f"-1{'0' * 3900} < config.n") == "a b"
    deep = "config.lr" + "".join(f" + {n})" for n in range(20))
    assert ids(four, f"{'(' * 20}{deep} == 191") == "b"


def test_a_long_expression_is_shown_around_the_mistake(four: Catalog) -> None:
    error = refused(f"{'1 and ' * 100}config.rl{' and 1' * 100}", four)
    assert error.column == 600
    _, shown, caret = str(error).split("\n")
    assert len(shown) < 100
    place = caret.index("^")
    assert shown[place : place + caret.count("^")] == "config.rl"


def test_a_suggestion_can_be_pasted() -> None:
    keys = [
        "a b",
        'say "x"',
        "back\\slash",
        "ﬁt",
        "µ",
        "class",
        "x.y",
        "x-1",
        "日本",
        "'",
        "1st",
        "²",
    ]
    for key in keys:
        catalog = catalog_of({"r": {"config": {key: 7, "z": {key: 8}}}})
        for path in (["config", key], ["config", "z", key]):
            wrong = "".join(f"[{part!r}]" for part in [*path[1:-1], f"{path[-1]}q"])
            hint = str(refused(f"config{wrong} == 7", catalog)).split("\n")[0]
            pasted = hint.partition("did you mean ")[2].removesuffix("?")
            assert ids(catalog, f"{pasted} in (7, 8)") == "r", hint


def test_in_an_empty_store_no_name_of_a_user_is_wrong() -> None:
    catalog = catalog_of({})
    for text in ("status == 'Success'", "'lr' in config", "'x' not in tags", "config.lr == 1"):
        assert ids(catalog, text) == ""
    assert refused("statsu == 'Success'", catalog).column == 0


def test_a_name_that_only_former_states_had_is_unknown() -> None:
    catalog = catalog_of({"r": {"config": {"lr": 1}, "metrics": {"loss": {"last": 1.0}}}})
    catalog.update([CatalogRow("r", 2, "2", state_of({"config": {"n": 1}}, 1))])
    assert catalog.field_names() == ["config.n"]
    for text in ("config.lr", "metrics.loss", "metrics.loss.min"):
        refused(text, catalog)


def test_a_group_of_one_run_that_is_a_value_of_another_answers_for_both() -> None:
    catalog = catalog_of(
        {
            "a": {"config": {"opt": {"lr": 1}}},
            "b": {"config": {"opt": None}},
            "c": {"config": {"opt": "adam with lr"}},
            "d": {"config": {"opt": {}}},
            "e": {"config": {"opt": 3}},
            "f": {},
        }
    )
    assert ids(catalog, "'lr' in config.opt") == "a c"
    assert ids(catalog, "'lr' not in config.opt") == "b d e f"
    assert ids(catalog, "config.opt == 3") == "e"
    assert ids(catalog, "config.opt.lr == 1") == "a"
    assert ids(catalog, "'opt' in config") == "a b c d e"


def test_whole_numbers_of_64_bits_are_exact() -> None:
    numbers = {"a": 2**53, "b": 2**53 + 1, "c": 2**63 - 1, "d": -(2**63)}
    catalog = catalog_of({run_id: {"config": {"n": n}} for run_id, n in numbers.items()})
    for run_id, n in numbers.items():
        if n > 0:
            assert ids(catalog, f"config.n == {n}") == run_id
    assert ids(catalog, "config.n < -9223372036854775807") == "d"
    assert ids(catalog, "config.n > 9007199254740992.0") == "b c"
    assert ids(catalog, "config.n + 1 == 9007199254740993") == "a"
    assert ids(catalog, None, "config.n") == "d a b c"


def test_only_the_first_items_of_a_list_can_be_asked_for() -> None:
    catalog = catalog_of({"r": {"config": {"many": list(range(100))}}})
    assert ids(catalog, "config.many[63] == 63") == "r"
    refused("config.many[64] == 64", catalog)


def test_values_of_a_kind_that_does_not_belong_there_are_missing() -> None:
    foreign: State = {
        "run": {"name": 5, "note": [1], "status": "Success", "started_at": "x", "error": "boom"},
        "config": {"raw": b"x", "deep": [[{"x": 1}]]},
        "tags": {"t": [1, 2]},
        "metrics": {"m": {"last": "x", "min": True, "max": [1]}, "odd": 3},
        "artifacts": {"a": {"size_bytes": "x"}, "odd": None},
        "source": {"git": "x", "command": {"argv": "x"}},
    }
    catalog = catalog_of({"r": foreign})
    for name in ("name", "note", "started_at", "error.type", "config.raw", "metrics.m",
                 "metrics.m.max", "artifacts.a.size_bytes", "artifacts.a.digest", "source.git.commit",
                 "source.command.argv", "duration"):  # fmt: skip
        assert ids(catalog, f"{name} is None") == "r", name
    assert ids(catalog, "config.deep[0][0].x == 1 and tags.t[1] == 2 and metrics.m.min == 1") == "r"
    assert ids(catalog, "'odd' in metrics or 'odd' in artifacts") == ""


# Nothing of a user's becomes SQL.

HOSTILE = [
    "'; DROP TABLE run; --", '"; DROP TABLE run; --', "x' OR '1'='1", 'x" OR "1"="1', "') OR 1=1 --",
    ":w0", "?1", "@x", "$x", "%", "_", "*", "[a-z]", "\\", "\\'", "`", "/* */", "--", ";", "NULL",
    "r.id", "rowid", "\0", "a\0b", "\n", "☃", "🦊", "é", "e\u0301", "ﬁ", "\u3000", " ", "",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_names_and_texts_are_never_sql(text: str) -> None:
    word = repr(text)
    catalog = catalog_of(
        {
            "hit": {
                "run": {"name": text, "note": f"<{text}>"},
                "config": {text: 1, "value": text, "deep": {text: 2}},
                "tags": {text: text},
                "metrics": {text: {"last": 1.0, "count": 2}},
                "artifacts": {text: {"size_bytes": 3, "digest": text}},
            },
            "miss": {"run": {"name": "other"}, "config": {"value": "other"}},
        }
    )
    for query in (
        f"name == {word}", f"name in ({word}, 'zzz')", f"{word} == config.value", f"{word} in note",
        f"note.contains({word})", f"name.startswith({word}) and name.endswith({word}) and note",
        f"config[{word}] == 1", f"config.deep[{word}] == 2", f"tags[{word}] == {word}",
        f"metrics[{word}].last == 1", f"metrics[{word}].count == 2",
        f"artifacts[{word}].size_bytes == 3", f"artifacts[{word}].digest == {word}",
        f"{word} in config and {word} in config.deep", f"{word} in tags", f"{word} in metrics",
        f"{word} in artifacts", f"not (name < {word} or name > {word})",
    ):  # fmt: skip
        assert ids(catalog, query) == "hit", query
    assert ids(catalog, None, [f"config[{word}]", f"-metrics[{word}].count"]) == "hit miss"
    assert ids(catalog, None, f"{word}, -run_id") == "miss hit"
    assert ids(catalog) == "hit miss"


def test_a_store_with_hostile_names_answers(store: holdfast.ExperimentStore) -> None:
    bad = "'; DROP TABLE run; --"
    with store.start_run(bad, name=bad, config={bad: bad}, tags=[bad], capture=False) as run:
        run.log({bad: 1.0})
    with store.start_run("other", capture=False):
        pass
    query = f"name == {bad!r} and experiment == {bad!r} and config[{bad!r}] == {bad!r}"
    found = store.runs(f"{query} and tags[{bad!r}] and metrics[{bad!r}] == 1", f"-tags[{bad!r}]")
    assert [one.run_id for one in found] == [run.id]
    assert len(store.runs()) == 2


# Whatever the text, the answer is a list or a QueryError.

WORDS = st.sampled_from([
    "name", "config.lr", "config", "metrics.loss.min", "tags.best", "created_at", "error", ".", "[",
    "]", "(", ")", "{", "}", ",", ":", ":=", "=", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*",
    "**", "/", "//", "%", "&", "|", "^", "~", "@", "->", "and", "or", "not", "in", "is", "None",
    "True", "False", "lambda", "if", "else", "for", "await", "yield", "startswith", "contains",
    "endswith", "__class__", "f'{name}'", "'a'", "'2025-01-31'", '"é"', "'\\ud800'", "b'x'", "0",
    "1", "-1", "1e999", "0x10", "1j", "99999999999999999999", "#", "\\", "'", '"', "'''", "...",
    "日本", "🦊", "\n", "\t", "\x00", "\ud800", "\u2028",
])  # fmt: skip


@settings(max_examples=400)
@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=14).map(" ".join),
                 st.lists(WORDS, max_size=14).map("".join)))  # fmt: skip
@example("'\\ud800' in tags")
@example("\ud800")
@example("\\")
@example("#")
@example("''.contains('')")
def test_any_text_gives_runs_or_a_query_error(four: Catalog, text: str) -> None:
    for ask in (lambda: four.select(text), lambda: four.select(None, text)):
        try:
            found = ask()
        except QueryError as error:
            assert 0 <= error.column <= len(text)  # noqa: PT017
            assert error.expression == "".join(" " if c in "\r\n\t\f" else c for c in text)  # noqa: PT017
        else:
            assert {run.run_id for run in found} <= {"a", "b", "c"}


def test_an_escape_that_python_would_warn_of_is_taken_as_it_is(four: Catalog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(four, r"name == '\d' or config.lr == 0.1") == "a"
        assert ids(four, r"name.startswith('\First')") == ""


# Random expressions over random runs, compared with the rules in docs/reference/queries.md.

TEXTS = st.sampled_from(
    ["", "a", "A", "ab", "b", "é", "日本", "🦊", "1", "0.1", "%", "'", '"', "\\", "a\0b"]
)
WHOLE = st.sampled_from([0, 1, 2, 3, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1])
REAL = st.sampled_from(
    [0.0, -0.0, 0.1, 0.5, 1.0, 2.0, -1.5, 1e308, 5e-324, 2.0**63, INF, -INF, NAN]
)
VALUES = st.one_of(st.none(), st.booleans(), WHOLE, REAL, TEXTS, st.integers(-5, 5), st.floats())
SCALARS_AND_MORE = st.one_of(VALUES, st.just({}), st.just([]), st.just(b"raw"))
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "lr": VALUES,
        "n": SCALARS_AND_MORE,
        "class": VALUES,
        "é b": VALUES,
        "deep": st.one_of(
            SCALARS_AND_MORE,
            st.fixed_dictionaries({}, optional={"lr": VALUES, "xs": st.lists(VALUES, max_size=3)}),
        ),
    },
)
STATS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(STATISTICS[:5], st.one_of(REAL, st.floats(), st.none(), st.just("text"))),
        **dict.fromkeys(STATISTICS[5:], st.one_of(st.integers(0, 3), st.just(2**64 - 1))),
    },
)
STATES = st.fixed_dictionaries(
    {
        "run": st.fixed_dictionaries(
            {"status": st.sampled_from(["Success", "Failed"]), "created_at": st.integers(0, 3)},
            optional={
                "name": TEXTS,
                "note": TEXTS,
                "started_at": st.just(0),
                "ended_at": st.integers(0, 3 * 10**9),
                "error": st.fixed_dictionaries({"type": TEXTS}),
            },
        )
    },
    optional={
        "config": CONFIG,
        "tags": st.fixed_dictionaries({}, optional={"t": VALUES, "x/y": VALUES}),
        "metrics": st.fixed_dictionaries({}, optional={"loss": STATS, "train/acc": STATS}),
        "artifacts": st.fixed_dictionaries(
            {}, optional={"m": st.fixed_dictionaries({"size_bytes": WHOLE, "digest": TEXTS})}
        ),
        "source": st.fixed_dictionaries({"git": st.fixed_dictionaries({"dirty": st.booleans()})}),
    },
)
# This one has every name, so that none is unknown.
ANCHOR: State = {
    "run": {"status": "Success", "created_at": 1},
    "config": {"lr": None, "n": None, "class": None, "é b": None, "deep": {"lr": 1, "xs": [1, "a", 2]}},
    "tags": {"t": 1, "x/y": None},
    "metrics": {"loss": {}, "train/acc": {}},
    "artifacts": {"m": {"size_bytes": 1, "digest": "a"}},
}  # fmt: skip
NAMES: list[list[str]] = [
    ["run_id"], ["name"], ["note"], ["status"], ["state"], ["duration"], ["generation"], ["deleted"],
    ["error", "type"], ["source", "git", "dirty"], ["experiment"],
    *(["config", key] for key in ("lr", "n", "class", "é b", "deep")),
    ["config", "deep", "lr"], *(["config", "deep", "xs", index] for index in "012"),
    ["tags", "t"], ["tags", "x/y"], ["metrics", "loss"],
    *(["metrics", key, name] for key in ("loss", "train/acc") for name in STATISTICS),
    ["artifacts", "m", "size_bytes"], ["artifacts", "m", "digest"],
]  # fmt: skip


@st.composite
def fields(draw: st.DrawFn) -> str:
    """A name in one of its spellings."""
    first, *rest = draw(st.sampled_from(NAMES))
    if first in ("run_id", "error", "source"):
        return ".".join([first, *rest])
    text = first
    if len(rest) > 1 and first == "config" and draw(st.booleans()):
        rest = [".".join(rest)]
    for part in rest:
        plain = part.isidentifier() and not keyword.iskeyword(part)
        forms = [f"[{part!r}]", *([f".{part}"] * plain), *([f"[{part}]"] * part.isdigit())]
        text += draw(st.sampled_from(forms))
    return text


def literal(value: Any) -> str:
    if isinstance(value, float):
        return "1e999" if math.isinf(value) else repr(value)
    return repr(value)


NUMBERS = st.one_of(
    st.integers(0, 5), WHOLE.filter(lambda n: n >= 0), st.booleans(),
    REAL.filter(lambda x: math.copysign(1, x) > 0 and not math.isnan(x)), st.floats(0, 3),
).map(literal)  # fmt: skip
LITERALS = st.one_of(NUMBERS, NUMBERS.map("-{}".format), TEXTS.map(repr))
VALUE = st.recursive(
    st.one_of(fields(), fields(), LITERALS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map("({})".format),
        inner.map("-{}".format),
        inner.map("+{}".format),
    ),
    max_leaves=4,
)
COMPARE = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
GROUPS = st.sampled_from(
    ["config", "tags", "metrics", "artifacts", "config.deep", "config['deep']"]
)
KEYS = st.sampled_from(
    ["lr", "n", "t", "x/y", "m", "loss", "deep", "deep.lr", "xs", "xs.0", "a", ""]
)
LISTS = st.lists(LITERALS, min_size=1, max_size=4).map(", ".join)
IN = st.sampled_from([" in ", " not in "])
TEST = st.one_of(
    st.tuples(VALUE, COMPARE, VALUE).map(" ".join),
    st.tuples(fields(), COMPARE, LITERALS).map(" ".join),
    st.tuples(VALUE, COMPARE, VALUE, COMPARE, VALUE).map(" ".join),
    st.tuples(VALUE, IN, LISTS.map("[{}]".format)).map("".join),
    st.tuples(TEXTS.map(repr), IN, fields()).map("".join),
    st.tuples(fields(), IN, TEXTS.map(repr)).map("".join),
    st.tuples(KEYS.map(repr), IN, GROUPS).map("".join),
    st.tuples(VALUE, st.sampled_from([" is None", " is not None"])).map("".join),
    st.tuples(
        fields(), st.sampled_from(["startswith", "endswith", "contains"]), TEXTS.map(repr)
    ).map(lambda parts: "{}.{}({})".format(*parts)),
    VALUE,
)  # fmt: skip
CONDITION = st.recursive(
    TEST,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join).map("({})".format),
        inner.map("not {}".format),
        inner.map("not ({})".format),
    ),
    max_leaves=4,
)
ORDERS = st.lists(st.tuples(st.booleans(), fields()), min_size=1, max_size=3)
Number = int | float
Fact = Number | str | None


def as_stored(value: Any) -> Fact:
    """What a query sees of a value: missing, a number or a text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (int, float)) or math.isnan(value):
        return None
    if isinstance(value, float) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        return math.copysign(INF, value)


def leaves(path: str, value: Any) -> Iterator[tuple[str, Fact]]:
    if value and isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(f"{path}.{key}", inner)
    elif value and isinstance(value, (list, tuple)):
        yield from leaves(path, {str(place): item for place, item in enumerate(value)})
    else:
        yield path, as_stored(value)


def facts_of(run_id: str, state: State, experiment: str, generation: int) -> dict[str, Fact]:
    """Every value of a run by its name."""
    run = state["run"]
    began, ended = run.get("started_at"), run.get("ended_at")
    facts: dict[str, Fact] = {
        "run_id": run_id,
        "experiment": experiment,
        "generation": generation,
        "deleted": 0,
        "duration": None if began is None or ended is None else (ended - began) / 1e9,
        "state": run["status"],
        "error.type": run.get("error", {}).get("type"),
        "source.git.dirty": state.get("source", {}).get("git", {}).get("dirty"),
        **{name: run.get(name) for name in ("name", "note", "status")},
        **dict(leaves("config", state.get("config") or {"": None})),
        **dict(leaves("tags", state.get("tags") or {"": None})),
    }
    for key, statistics in state.get("metrics", {}).items():
        for name in STATISTICS:
            value = statistics.get(name)
            number = None if isinstance(value, str) else as_stored(value)
            facts[f"metrics.{key}.{name}"] = number
            if name == "last":
                facts[f"metrics.{key}"] = number
    for key, about in state.get("artifacts", {}).items():
        facts[f"artifacts.{key}"] = None
        for name in ("size_bytes", "digest"):
            facts[f"artifacts.{key}.{name}"] = as_stored(about[name])
    facts.pop("config.", None)
    facts.pop("tags.", None)
    return facts


def is_number(value: Fact) -> bool:
    return isinstance(value, (int, float))


def arithmetic(op: ast.operator, a: Fact, b: Fact) -> Fact:
    """64-bit whole numbers that become floats where they do not suffice; NaN is missing."""
    if not is_number(a) or not is_number(b):
        return None
    if isinstance(op, ast.Div):
        return as_stored(float(a) / float(b)) if b else None  # type: ignore[arg-type]
    do = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__"}[type(op)]
    if isinstance(a, int) and isinstance(b, int):
        exact: int = getattr(a, do)(b)
        if -(2**63) <= exact < 2**63:
            return exact
    return as_stored(getattr(float(a), do)(float(b)))  # type: ignore[arg-type]


def same_kind(a: Fact, b: Fact) -> bool:
    return (is_number(a) and is_number(b)) or (isinstance(a, str) and isinstance(b, str))


class Reference:
    """What a condition means for one run, from its tree."""

    def __init__(self, facts: dict[str, Fact]) -> None:
        self.facts = facts

    def truth(self, node: ast.expr) -> bool:
        if isinstance(node, ast.BoolOp):
            join = all if isinstance(node.op, ast.And) else any
            return join([self.truth(value) for value in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not self.truth(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            steps = zip(sides, node.ops, sides[1:], strict=False)
            return all(self.step(*step) for step in steps)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Attribute)
            text, part = self.value(node.func.value), ast.literal_eval(node.args[0])
            if not isinstance(text, str):
                return False
            return (
                part in text
                if node.func.attr == "contains"
                else getattr(text, node.func.attr)(part)
            )
        return bool(self.value(node))

    def step(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> bool:
        if isinstance(op, (ast.Is, ast.IsNot)):
            return (self.value(left) is None) is isinstance(op, ast.Is)
        if isinstance(op, (ast.In, ast.NotIn)):
            return self.among(left, isinstance(op, ast.In), right)
        a, b = self.value(left), self.value(right)
        names = {ast.Eq: "__eq__", ast.NotEq: "__ne__", ast.Lt: "__lt__", ast.LtE: "__le__",
                 ast.Gt: "__gt__", ast.GtE: "__ge__"}  # fmt: skip
        if not same_kind(a, b):
            return False
        answer = getattr(a, names[type(op)])(b)
        if answer is NotImplemented:  # int with float: the other way round
            flip = {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}
            answer = getattr(b, flip.get(names[type(op)], names[type(op)]))(a)
        return bool(answer)

    def among(self, left: ast.expr, wanted: bool, right: ast.expr) -> bool:
        if isinstance(right, ast.List):
            value = self.value(left)
            members = [m for m in map(self.value, right.elts) if same_kind(value, m)]
            return bool(members) and (value in members) is wanted
        if self.is_group(right):
            return self.has_key(name_of(right), ast.literal_eval(left)) is wanted
        part, whole = self.value(left), self.value(right)
        return isinstance(part, str) and isinstance(whole, str) and (part in whole) is wanted

    def is_group(self, node: ast.expr) -> bool:
        name = name_of(node)
        return name in ("config", "tags", "metrics", "artifacts", "config.deep")

    def has_key(self, group: str, key: str) -> bool:
        """`config.deep` is a group in one run and may be a text in another."""
        name, text = f"{group}.{key}", self.facts.get(group)
        if isinstance(text, str) and key in text:
            return True
        inner = group.startswith("config") and any(f.startswith(f"{name}.") for f in self.facts)
        return name in self.facts or inner

    def value(self, node: ast.expr) -> Fact:
        if isinstance(node, ast.Constant):
            return as_stored(node.value)
        if isinstance(node, ast.BinOp):
            return arithmetic(node.op, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand)
            if isinstance(node.op, ast.UAdd):
                return value if is_number(value) else None
            return arithmetic(ast.Sub(), 0, value)
        return self.facts.get(name_of(node))


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):
        return f"{name_of(node.value)}.{ast.literal_eval(node.slice)}"
    return node.id if isinstance(node, ast.Name) else ""


def sorted_by(facts: Sequence[dict[str, Fact]], terms: list[tuple[bool, str]]) -> list[str]:
    """The run ids in order, given the runs in the order without terms."""
    found = list(facts)
    for descending, name in reversed(terms):
        key = name_of(ast.parse(name, mode="eval").body)
        present = [run for run in found if run.get(key) is not None]
        present.sort(key=lambda run: (isinstance(run[key], str), run[key]), reverse=descending)
        found = present + [run for run in found if run.get(key) is None]
    return [str(run["run_id"]) for run in found]


def expected(facts: Sequence[dict[str, Fact]], text: str) -> list[dict[str, Fact]] | None:
    """The runs that match; None when the text names what no run has."""
    tree = ast.parse(text, mode="eval").body
    known = set().union(*facts) | {"config", "tags", "metrics", "artifacts"}
    if "config.deep" not in known and any(
        name_of(node) == "config.deep" for node in _values_of(tree)
    ):
        return None
    return [run for run in facts if Reference(run).truth(tree)]


def _values_of(tree: ast.expr) -> Iterator[ast.expr]:
    """The nodes that are names, those after `in` and within longer names left out."""
    skipped: set[int] = set()
    methods = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            pairs = zip(node.ops, node.comparators, strict=True)
            skipped |= {id(right) for op, right in pairs if isinstance(op, (ast.In, ast.NotIn))}
        if isinstance(node, (ast.Attribute, ast.Subscript)) and id(node) not in methods:
            skipped.add(id(node.value))
            if id(node) not in skipped:
                yield node


@settings(max_examples=200)
@given(
    st.lists(STATES, max_size=5),
    st.lists(STATES, max_size=3),
    CONDITION,
    ORDERS,
    st.none() | st.integers(0, 4),
)
def test_random_queries_answer_as_the_rules_say(
    states: list[State],
    former: list[State],
    text: str,
    order: list[tuple[bool, str]],
    limit: int | None,
) -> None:
    assume(len(text) < 1000)
    runs = {f"r{place}": state for place, state in enumerate([ANCHOR, *states])}
    catalog = catalog_of({f"r{place}": state for place, state in enumerate(former)})
    rows = rows_of(runs, generation=2)
    catalog.update(rows)
    catalog.remove(f"r{place}" for place in range(len(runs), len(former)))
    newest = sorted(rows, key=lambda row: (-row.state["run"]["created_at"], row.run_id))
    facts = [facts_of(row.run_id, row.state, "resnet ☃", 2) for row in newest]
    check(catalog, facts, text, order, limit)
    catalog.close()


def check(
    asked: Catalog | holdfast.ExperimentStore,
    facts: list[dict[str, Fact]],
    text: str,
    order: list[tuple[bool, str]],
    limit: int | None,
) -> None:
    """Compare the answer with the rules."""
    select: Any = asked.select if isinstance(asked, Catalog) else asked.runs
    terms = [f"{'-' if descending else ''}{name}" for descending, name in order]
    matches = expected(facts, text)
    sortable = all(expected(facts, name) is not None for _, name in order)
    if matches is None or not sortable:
        with pytest.raises(QueryError, match="group"):
            select(text, terms)
        return
    wanted = [run["run_id"] for run in matches]
    assert [run.run_id for run in select(text)] == wanted
    ordered = sorted_by(matches, order)
    assert [run.run_id for run in select(text, terms)] == ordered
    assert [run.run_id for run in select(text, ", ".join(terms), limit)] == ordered[:limit]


@pytest.fixture(scope="module")
def filled() -> Iterator[holdfast.ExperimentStore]:
    """A store with runs that were logged, some of which lack what others have."""
    with holdfast.ExperimentStore() as store:
        configs: list[State] = [
            {"lr": None, "n": 1, "class": "a", "é b": "", "deep": {"lr": 0.5, "xs": [1, "a", NAN]}},
            {"lr": NAN, "n": 2**64 - 1, "class": True, "deep": {"lr": None, "xs": [2]}},
            {"lr": 0.1, "n": -(2**63), "class": "ab", "é b": INF},
            {"lr": "0.1", "n": {}, "deep": {"lr": "a", "xs": []}},
            {},
        ]
        for place, config in enumerate([*configs, *configs]):
            tags: State = {"t": place, "x/y": "a"} if place % 3 else {"t": False}
            name = ["a", "A", None][place % 3]
            with store.start_run("e", run_id=f"r{place}", name=name, config=config, tags=tags,
                                 capture={"git"}) as run:  # fmt: skip
                for step, value in enumerate([0.5, NAN, 2.0, INF][: place % 5]):
                    run.log({"loss": value, "train/acc": -value}, step=step)
                if place % 2:
                    run.log_artifact(b"x" * place, key="m")
                run.set_note("ab" * (place % 2))
        yield store


@settings(max_examples=70)
@given(CONDITION, ORDERS, st.none() | st.integers(0, 4))
def test_random_queries_of_a_store_answer_as_the_rules_say(
    filled: holdfast.ExperimentStore, text: str, order: list[tuple[bool, str]], limit: int | None
) -> None:
    assume(len(text) < 1000)
    facts = []
    for run_id in sorted((f"r{n}" for n in range(10)), reverse=True):
        snapshot = filled.repository.manifest(run_id).load()
        facts.append(facts_of(run_id, snapshot.state, "e", snapshot.number))
    check(filled, facts, text, order, limit)


def test_in_a_store_that_knows_no_names_yet_none_is_wrong() -> None:
    with holdfast.ExperimentStore() as store:
        assert store.runs("config.lr < 1 and metrics.loss.min > 0", order_by="-config.lr") == []
        with pytest.raises(QueryError):
            store.runs("config.lr <")
