"""The tables of the catalog.

`run` is one narrow row a run, so that a scan of all of them stays short; `about` has the other facts
that every run may have, and `state` the manifest state itself, read only for the runs that are shown.
The names that users make up (config, tags, artifacts) are rows of `field`, metric statistics rows of
`metric`, both in the order (path, run): a condition on one name reads one contiguous stretch, and a
sort by one name finds each run's value in one step.
"""

from __future__ import annotations

from holdfast.catalog_views import VIEWS
from holdfast.query_fields import ABOUT, STATISTICS

VERSION = 3  # of the tables and of what is put into them; another version is rebuilt

STATEMENTS = (
    """CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    head TEXT NOT NULL,
    experiment_id TEXT NOT NULL,
    name TEXT,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    duration REAL,
    deleted INTEGER NOT NULL,
    crashed INTEGER NOT NULL
)""",
    "CREATE INDEX run_newest ON run (deleted, created_at DESC, run_id)",
    "CREATE INDEX run_open ON run (run_id) WHERE status = 'Running'",
    "CREATE INDEX run_crashed ON run (run_id) WHERE crashed",
    "CREATE TABLE state (id INTEGER PRIMARY KEY, packed BLOB NOT NULL, checksum INTEGER NOT NULL)",
    """CREATE TABLE experiment (
    experiment_id TEXT PRIMARY KEY,
    name TEXT,
    created_at INTEGER,
    head TEXT NOT NULL
) WITHOUT ROWID""",
    # What was listed, and the backend's token for it: the same token, the same names.
    "CREATE TABLE listing (prefix TEXT PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE about (run INTEGER PRIMARY KEY, {', '.join(ABOUT.values())})",
    "CREATE TABLE path (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # `num` has no declared type: a whole number stays exact, and nothing is converted to compare.
    """CREATE TABLE field (
    path INTEGER,
    run INTEGER,
    num,
    text TEXT,
    PRIMARY KEY (path, run)
) WITHOUT ROWID""",
    # Who made some bytes, and who read them.
    "CREATE INDEX field_digest ON field (text) WHERE text GLOB 'sha256:*'",
    f"""CREATE TABLE metric (
    path INTEGER,
    run INTEGER,
    {", ".join(STATISTICS)},
    PRIMARY KEY (path, run)
) WITHOUT ROWID""",
    *VIEWS.values(),
)
