"""One call that makes a DataFrame a table, or a part of one."""

from __future__ import annotations

import logging
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from . import keys, values, writing
from .client import Client, NacreError, Problem, Table, Unreachable
from .columns import find, moment, refuse

log = logging.getLogger("nacre_spark")

#: What stops a bad job before anyone sees it, unless `guards` says otherwise.
DEFAULT_GUARDS: Mapping[str, Any] = {
    "min_rows": 0,
    "max_shrink_percent": 50,
    "max_tombstone_percent": 10,
    "allow_empty": False,
    "allow_older": False,
}
_OVER = ("committed", "failed", "cancelled", "reverted")


@dataclass(frozen=True)
class FileReport:
    """What became of a file."""

    file: str
    rows: int
    bytes: int
    #: adopted (served as it lies), copied, rewritten or skipped.
    outcome: str
    #: Why it was not adopted, and what would make it so.
    reason: Optional[str] = None
    hint: Optional[str] = None


@dataclass(frozen=True)
class PublishReport:
    """A load that is committed."""

    table: str
    load_id: str
    run_id: str
    #: The load's version, in microseconds.
    version: Optional[int]
    #: The edition of the table that shows it, and the token with which reads are sure to see it.
    edition: Optional[int]
    token: Optional[str]
    rows: int
    files: List[FileReport]
    #: False where an earlier call of this run had written and committed it already.
    written: bool
    #: Seconds by phase: the server's, and `write` for the Spark job.
    seconds: Dict[str, float] = field(default_factory=dict)
    committer: Optional[str] = None

    @property
    def adopted(self) -> List[FileReport]:
        return [file for file in self.files if file.outcome in ("adopted", "copied")]

    @property
    def rewritten(self) -> List[FileReport]:
        return [file for file in self.files if file.outcome == "rewritten"]


class LoadFailed(NacreError):
    """The load was refused, and nothing of it is visible. `errors` are the load's own: file, row, column, detail."""

    def __init__(self, table: str, load: Mapping[str, Any]) -> None:
        self.load_id = str(load["load_id"])
        self.state = str(load["state"])
        self.errors: List[Mapping[str, Any]] = list(load.get("errors") or [])
        told = "; ".join(_told(error) for error in self.errors[:10]) or "no error was named"
        more = int(load.get("error_count") or len(self.errors)) - min(len(self.errors), 10)
        rest = f"; and {more} more" if more > 0 else ""
        super().__init__(f"load {self.load_id} of {table} is {self.state}: {told}{rest}")


class LoadUnknown(NacreError):
    """The load was handed over and its end is not known: it may still be committed. The same call with the same run_id
    goes on with it."""


def _told(error: Mapping[str, Any]) -> str:
    where = [str(error["file"])] if error.get("file") else []
    where += [f"{name} {error[name]}" for name in ("row", "column") if error.get(name) is not None]
    return f"{', '.join(where)}: {error.get('detail')}" if where else str(error.get("detail"))


def publish(
    frame: DataFrame,
    table: str,
    key: Union[str, Sequence[str]],
    *,
    version: Union[int, str] = "now",
    mode: str = "replace",
    server: Optional[str] = None,
    token: Optional[str] = None,
    value: Optional[str] = None,
    pack: Optional[Sequence[str]] = None,
    version_column: Optional[str] = None,
    expires_at: Optional[str] = None,
    delete: Optional[str] = None,
    guards: Optional[Mapping[str, Any]] = None,
    on_duplicate: str = "fail",
    create: bool = False,
    staging: Optional[Callable[[str], str]] = None,
    run_id: Optional[str] = None,
    partitions: Optional[int] = None,
    target_file_bytes: int = 512 << 20,
    compression: str = "lz4_raw",
    committer: str = "auto",
    cache: bool = True,
    timeout: float = 3_600.0,
) -> PublishReport:
    """Makes the rows of `frame` visible in `table` (``"table"`` or ``"namespace/table"``): all at once, or not at all.

    What is published:

    - `key`: the key's columns, in order, packed as docs/keys.md says. A table that does not say yet what its keys are is
      told, from the columns' types.
    - `value`: the one string or binary column whose bytes are the value. Or `pack`: columns that become one JSON object,
      as docs/values.md says. Neither: every column that has no other part to play is packed.
    - `mode`: ``"replace"`` (what the load does not bring is gone, unless it is newer than `version`) or ``"merge"``.
    - `version`: microseconds since the epoch, or ``"now"``, the log's time when the load begins.
    - `version_column`: gives each row its own version; `expires_at`: when rows expire (null: never). Integers in
      microseconds, or timestamps. `delete`: a boolean column; where true the row is a tombstone.
    - `guards`: what stops a bad job, over :data:`DEFAULT_GUARDS`; `on_duplicate`: ``"fail"`` or ``"any"``, for one key and
      version with two values. `create`: make the table if it is missing.

    How:

    - `server` and `token`: else ``NACRE_SERVER``, ``NACRE_TOKEN``, else the local server.
    - `run_id`: what this run is called, as an Airflow run is. A second call with it returns the load that is committed
      without writing, waits for the one under way, or starts over where nothing was handed over yet. Without one
      every call is a run of its own.
    - `staging`: maps the load's `staging_url` to how this cluster names it; else ``s3://`` becomes ``s3a://``.
    - `partitions`: how many files, else as many as make files of about `target_file_bytes`. `compression`: lz4_raw, zstd,
      snappy or none. `committer`: ``magic`` (needs spark-hadoop-cloud), ``file`` (renames, which S3 copies), ``session`` (as
      the session is set), or ``auto``, the first of these that works.
    - `cache`: keep the packed rows on the executors' disks while they are counted, sampled and written. Without it `frame`
      is computed three times (twice with `partitions`).
    - `timeout`: seconds to wait for the server once the files are handed over.

    Raises :class:`LoadFailed` with the load's errors, :class:`LoadUnknown`, :class:`Problem` for a request that was
    refused, or whatever ended the Spark job; but for `LoadUnknown` the load is cancelled then, and nothing is visible.
    """
    client = Client(
        server or os.environ.get("NACRE_SERVER") or "http://127.0.0.1:8790", token or os.environ.get("NACRE_TOKEN")
    )
    target = Table(client, table)
    columns = [key] if isinstance(key, str) else list(key)
    if mode not in ("replace", "merge"):
        raise NacreError(f"mode {mode!r}: expected replace or merge")
    strange = set(guards or {}) - set(DEFAULT_GUARDS)
    if strange:
        raise NacreError(f"guards has {', '.join(sorted(strange))}; there are {', '.join(DEFAULT_GUARDS)}")
    if run_id is not None and not (1 <= len(run_id) <= 255 and run_id.isascii() and run_id.isprintable()):
        raise NacreError("run_id has 1 to 255 printable ASCII characters")
    setting = _key_setting(target, frame.schema, columns, create)
    # Whatever is wrong with the names and types is said before a load begins.
    rows = packed_rows(frame, columns, setting, value, pack, version_column, expires_at, delete)
    run = run_id or f"nacre-spark-{uuid.uuid4()}"
    body = {
        "mode": mode,
        "version": version,
        "guards": {**DEFAULT_GUARDS, **(guards or {})},
        "on_duplicate": on_duplicate,
    }
    load = target.begin(body, run)
    load_id = str(load["load_id"])
    written: Optional[writing.Written] = None
    seconds: Dict[str, float] = {}
    if load["state"] in ("open", "prepared"):
        try:
            if load["state"] == "open":
                place = staging(load["staging_url"]) if staging else writing.hadoop_url(load["staging_url"])
                begun = time.monotonic()
                written = writing.write(
                    rows,
                    place,
                    partitions=partitions,
                    target_file_bytes=target_file_bytes,
                    compression=compression,
                    committer=committer,
                    cache=cache,
                )
                seconds["write"] = time.monotonic() - begun
            load = _hand_over(target, load_id, written)
        except LoadUnknown:
            raise
        except BaseException:
            _cancel(target, load_id)
            raise
    load = _wait(target, load, timeout)
    files = [
        FileReport(f["file"], int(f["rows"]), int(f["bytes"]), f["outcome"], f.get("reason"), f.get("hint"))
        for f in target.files(load_id)
    ]
    for file in files:
        if file.outcome == "rewritten":
            log.warning("%s: %s was rewritten: %s; %s", target.name, file.file, file.reason, file.hint)
    progress = load.get("progress") or {}
    return PublishReport(
        table=target.name,
        load_id=load_id,
        run_id=run,
        version=_number(load.get("version")),
        edition=_number(load.get("edition")),
        token=load.get("token"),
        rows=int(progress.get("rows") or 0),
        files=files,
        written=written is not None,
        seconds={**(progress.get("seconds") or {}), **seconds},
        committer=written.committer if written else None,
    )


def packed_rows(
    frame: DataFrame,
    key: Sequence[str],
    setting: Optional[keys.KeySetting] = None,
    value: Optional[str] = None,
    pack: Optional[Sequence[str]] = None,
    version_column: Optional[str] = None,
    expires_at: Optional[str] = None,
    delete: Optional[str] = None,
) -> DataFrame:
    """`frame` as native rows: `key`, `version` and `expires_at` where columns give them, and `value`."""
    schema = frame.schema
    if value is not None and pack is not None:
        raise NacreError("value and pack exclude each other")
    if pack is None and value is None:
        others = {*key, version_column, expires_at, delete}
        pack = [name for name in schema.names if name not in others]
    columns = [keys.packed(schema, key, setting).alias("key")]
    if version_column is not None:
        found = moment(*find(schema, version_column), f"version_column {version_column!r}")
        columns.append(F.coalesce(found, refuse(f"a null in version column {version_column!r}")).alias("version"))
    if expires_at is not None:
        columns.append(moment(*find(schema, expires_at), f"expires_at {expires_at!r}").alias("expires_at"))
    body = _value(schema, value) if value is not None else values.packed(schema, list(pack or []))
    if delete is not None:
        body = _unless_deleted(schema, body, delete)
    columns.append(body.alias("value"))
    return frame.select(*columns)


def _value(schema: T.StructType, value: str) -> Column:
    column, kind = find(schema, value)
    if not isinstance(kind, (T.StringType, T.BinaryType)):
        raise NacreError(
            f"column {value!r} ({kind.simpleString()}) cannot be the value: only a string or binary column can; name it "
            "under pack to have it as JSON"
        )
    return values.sized(column.cast("binary"))


def _unless_deleted(schema: T.StructType, body: Column, delete: str) -> Column:
    column, kind = find(schema, delete)
    if not isinstance(kind, T.BooleanType):
        raise NacreError(f"the delete column {delete!r} ({kind.simpleString()}) must be boolean")
    there = F.coalesce(body, refuse(f"a null value in a row that {delete!r} does not delete"))
    return F.when(column, F.lit(None)).otherwise(there)


def _key_setting(table: Table, schema: T.StructType, key: Sequence[str], create: bool) -> keys.KeySetting:
    """What the table's keys are; a table that does not say is told."""
    try:
        described = table.describe()
    except Problem as problem:
        if problem.code != "table-not-found" or not create:
            raise
        described = table.create({"key": keys.setting_of(schema, key)})
    setting = described.get("key")
    if setting is None:
        # Files hold packed keys, so the load itself cannot say of what types they are.
        setting = keys.setting_of(schema, key)
        if setting != "bytes":
            table.declare_key(setting)
    return setting


def _hand_over(table: Table, load_id: str, written: Optional[writing.Written]) -> Dict[str, Any]:
    """Says which files the load is. From here on it goes its way without us."""
    files, rows = (written.files, written.rows) if written else (None, None)
    try:
        return table.commit(load_id, files, rows)
    except Unreachable as error:
        raise LoadUnknown(f"load {load_id} of {table.name} was handed over: {error}") from error
    except Problem as problem:
        if problem.status == 504:
            raise LoadUnknown(f"load {load_id} of {table.name} was handed over: {problem}") from problem
        # Another call of the same run was quicker.
        load = table.load(load_id) if problem.status == 409 else {"state": "open"}
        if load["state"] in ("open", "cancelled", "failed", "reverted"):
            raise
        return load


def _wait(table: Table, load: Dict[str, Any], timeout: float) -> Dict[str, Any]:
    until, pause = time.monotonic() + timeout, 0.05
    while load["state"] not in _OVER:
        if time.monotonic() > until:
            raise LoadUnknown(f"load {load['load_id']} of {table.name} is {load['state']} after {timeout:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)
        try:
            load = table.load(str(load["load_id"]))
        except Unreachable as error:
            raise LoadUnknown(f"load {load['load_id']} of {table.name} was handed over: {error}") from error
    if load["state"] != "committed":
        raise LoadFailed(table.name, load)
    return load


def _cancel(table: Table, load_id: str) -> None:
    try:
        # Not one that another call of the same run has handed over.
        if table.load(load_id)["state"] == "open":
            table.cancel(load_id)
    except NacreError as error:
        log.warning("load %s of %s is not cancelled; it lapses by itself: %s", load_id, table.name, error)


def _number(text: Any) -> Optional[int]:
    return None if text is None else int(text)
