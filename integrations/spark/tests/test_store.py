"""Frames published into the program on a real S3 server, and read back."""

from __future__ import annotations

import json
import os
import pathlib
import random
import threading
import time
from typing import Iterator

import pytest
from conftest import stores, wanted
from nacre_spark import LoadFailed, NacreError, publish
from program import Server, objects, overwrite
from pyspark.sql import functions as F

#: Every type that docs/values.md has and Spark writes, with nulls, and what is on the edge of each.
EVERY_TYPE = """
    SELECT id,
        make_date(1970 + CAST(id % 60 AS INT), 1 + CAST(id % 12 AS INT), 1 + CAST(id % 28 AS INT)) AS day,
        timestamp_micros((id - 500) * 86400000000 * 37 + id * 1001 * (id % 3)) AS at,
        concat('k', CHAR(0), CAST(id AS STRING), 'ü') AS text,
        unhex(repeat(lpad(hex(id % 256), 2, '0'), CAST(id % 5 AS INT))) AS raw,
        id % 2 = 0 AS flag, CAST(id % 100 AS TINYINT) AS tiny, CAST(-id AS SMALLINT) AS small, CAST(id * 1000003 AS INT) AS whole,
        (id - 500) * 9007199254741 * 2 AS long,
        CAST(rand(5) * pow(10, id % 40 - 20) AS FLOAT) AS narrow,
        CASE id % 50 WHEN 0 THEN DOUBLE('NaN') WHEN 1 THEN DOUBLE('-Infinity') WHEN 2 THEN -0.0D WHEN 3 THEN 4.9e-324D
            ELSE (rand(6) - 0.5) * pow(10, id % 80 - 40) END AS wide,
        CAST((id - 500) / 7 AS DECIMAL(9, 2)) AS price, CAST((id - 500) * pow(10, id % 10 - 12) AS DECIMAL(30, 18)) AS fine,
        CAST(id AS DECIMAL(38, 0)) AS huge,
        concat('"', chr(id % 128), '\\\\', 'ß😀', chr(id % 32)) AS words,
        TIMESTAMP_NTZ'2024-03-10 02:30:00' + CAST(id * 12345.678901 AS INTERVAL SECOND) AS wall,
        named_struct('a', id, 'b', named_struct('c', CAST(id AS STRING), 'd', CASE WHEN id % 3 = 0 THEN 1.5D END)) AS st,
        CASE WHEN id % 4 = 0 THEN NULL ELSE array_repeat(CASE WHEN id % 3 = 0 THEN NULL ELSE id / 3 END, CAST(id % 4 AS INT)) END AS list,
        CASE WHEN id % 5 = 0 THEN map() ELSE map('x', id, concat('"', CAST(id AS STRING)), NULL) END AS dict,
        map(id, array(named_struct('t', timestamp_micros(id)), NULL)) AS odd,
        CASE WHEN id % 6 = 0 THEN NULL ELSE named_struct('e', array(map('m', X'00ff'))) END AS nested,
        id * 10 AS seen, CASE WHEN id % 2 = 0 THEN timestamp_micros(4000000000000000 + id) END AS until
    FROM range(1000)"""


def with_nulls(frame, kept):
    """Every column but these is null in some rows."""
    return frame.select(
        *(
            F.col(name) if name in kept else F.when((F.hash("id", F.lit(at)) % 7) != 0, F.col(name)).alias(name)
            for at, name in enumerate(frame.columns)
        )
    )


def test_rows_are_byte_for_byte_what_the_store_itself_would_make_of_them(spark, server, tmp_path):
    keyed = ["day", "at", "text", "id", "raw"]
    frame = spark.sql(EVERY_TYPE)
    frame = with_nulls(frame, {*keyed, "seen"})
    plain = str(tmp_path / "plain")
    frame.coalesce(1).write.parquet(f"file://{plain}")
    # Read back: what is random is drawn once.
    frame = spark.read.parquet(f"file://{plain}")
    packed = [name for name in frame.columns if name not in {*keyed, "seen", "until"}] + ["st.b.c"]

    columns = {"key": keyed, "pack": packed, "version": "seen", "expires_at": "until"}
    server.ask("PUT", "by_store", {})
    body = {"mode": "merge", "version": "now", "columns": columns}
    load = server.ask("POST", "by_store/loads", body)
    (file,) = pathlib.Path(plain).glob("*.parquet")
    server.ask("PUT", f"by_store/loads/{load['load_id']}/files/a.parquet", data=file.read_bytes())
    load = finished(server, "by_store", server.ask("POST", f"by_store/loads/{load['load_id']}:commit", {}))
    assert load["state"] == "committed", load
    assert load["progress"]["rewritten_files"] == 1

    report = publish(
        frame, "by_spark", keyed, mode="merge", pack=packed, version_column="seen", expires_at="until", create=True,
        partitions=3, server=server.api,
    )
    assert [file.outcome for file in report.files] == ["adopted"] * 3, report
    assert report.committer == "magic"
    assert server.ask("GET", "by_spark")["key"] == server.ask("GET", "by_store")["key"]
    by_store, by_spark = list(server.scan("by_store")), list(server.scan("by_spark"))
    assert len(by_store) == 1_000
    for one, other in zip(by_store, by_spark):
        assert one == other
    assert len(by_spark) == len(by_store)


def finished(server, table, load):
    while load["state"] in ("validating", "preparing", "prepared"):
        time.sleep(0.05)
        load = server.ask("GET", f"{table}/loads/{load['load_id']}")
    return load


class Tpch:
    """The tables, and their rows as DuckDB makes them: hexadecimal key, parts, value."""

    def __init__(self, spark, folder: str) -> None:
        self.spark, self.folder = spark, pathlib.Path(folder)

    def frame(self, table: str):
        return self.spark.read.parquet(f"file://{self.folder / table}.parquet")

    def rows(self, table: str) -> Iterator[tuple[str, str]]:
        """Parts and value of every row, in key order."""
        with open(self.folder / f"{table}.rows", encoding="utf-8") as file:
            for line in file:
                _, parts, value = line.rstrip("\n").split("\t", 2)
                yield parts, value

    def count(self, table: str) -> int:
        return sum(1 for _ in self.rows(table))

    def some(self, table: str, most: int) -> list[tuple[str, str]]:
        """Rows from all over the table."""
        step = max(1, self.count(table) // most)
        return [row for at, row in enumerate(self.rows(table)) if at % step == 0]


@pytest.fixture(scope="session")
def tpch(spark):
    return Tpch(spark, wanted("NACRE_TPCH_DATA"))


def read_back(server, tpch, table, source, version) -> None:
    """All by a scan, in order, and some by their keys."""
    held = server.scan(table)
    for parts, made in tpch.rows(source):
        key, value, found, _ = next(held)
        assert (json.loads(key), value.decode(), found) == (json.loads(parts), made, version)
    assert next(held, None) is None
    sample = tpch.some(source, 2_000)
    random.Random(7).shuffle(sample)
    for at in range(0, len(sample), 500):
        some = sample[at : at + 500]
        _, values = server.get(table, [json.loads(parts) for parts, _ in some])
        assert values == [made for _, made in some]


class Killer(threading.Thread):
    """Kills the first attempts of tasks that write, while they write: as a machine that goes, or a preempted one."""

    def __init__(self, spark, tasks: int) -> None:
        super().__init__(daemon=True)
        self.context, self.tasks = spark.sparkContext, tasks
        self.killed: set[int] = set()
        self.over = threading.Event()

    def run(self) -> None:
        tracker, core = self.context.statusTracker(), self.context._jsc.sc()
        while not self.over.wait(0.05):
            for stage in tracker.getActiveStageIds():
                info = tracker.getStageInfo(stage)
                if info is None or info.numTasks != self.tasks:
                    continue
                listed = core.statusStore().taskList(stage, info.currentAttemptId, self.tasks * 3)
                for at in range(listed.size()):
                    task = listed.apply(at)
                    if task.attempt() == 0 and task.status() == "RUNNING" and task.taskId() not in self.killed:
                        if core.killTaskAttempt(task.taskId(), True, "a test"):
                            self.killed.add(task.taskId())

    def stop(self) -> None:
        self.over.set()
        self.join(60)


def test_tables_of_tpch_are_published_with_a_call_each_and_adopted(spark, server, tpch):
    for table, key in [("orders", ["o_orderkey"]), ("lineitem", ["l_orderkey", "l_linenumber"])]:
        # As many partitions as nothing else has, so that the tasks that write are known by it.
        tasks = None if table == "orders" else 5
        killer = Killer(spark, tasks or 0)
        killer.start()
        begun = time.monotonic()
        try:
            report = publish(
                tpch.frame(table), table, key=key, server=server.api, create=True, run_id=f"{table}-1",
                target_file_bytes=4 << 20 if tpch.count("orders") < 100_000 else 64 << 20, partitions=tasks,
            )
        finally:
            killer.stop()
        print(f"{table}: {report.rows} rows in {len(report.files)} files, {sum(f.bytes for f in report.files)} bytes, "
              f"{time.monotonic() - begun:.1f} s, {report.seconds}; {len(killer.killed)} tasks killed")
        assert killer.killed or tasks is None
        assert report.rows == tpch.count(table)
        assert {file.outcome for file in report.files} == {"adopted"} and len(report.files) >= 2
        assert report.written and report.committer == "magic"
        read_back(server, tpch, table, table, report.version)


def test_a_table_is_replaced_under_readers_and_no_answer_is_mixed(spark, server, tpch):
    asked = dict(server=server.api, create=True, pack=(tpch.folder / "orders.columns").read_text().split(","))
    publish(tpch.frame("orders"), "replaced", ["o_orderkey"], **asked)
    # The same table a day later: every row changed, some gone, some new.
    chosen = {parts for table in ("orders", "second") for parts, _ in tpch.some(table, 200)}
    keys = [json.loads(parts) for parts in sorted(chosen)]
    held = {}
    for name, table in (("first", "orders"), ("second", "second")):
        rows = {parts: value for parts, value in tpch.rows(table) if parts in chosen}
        held[name] = [rows.get(parts) for parts in sorted(chosen)]
    readers = [Reader(server, keys, held) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        asked["pack"] = (tpch.folder / "second.columns").read_text().split(",")
        report = publish(tpch.frame("second"), "replaced", ["o_orderkey"], partitions=3, **asked)
        time.sleep(0.5)
    finally:
        for reader in readers:
            reader.stop()
    assert [file.outcome for file in report.files] == ["adopted"] * 3
    for reader in readers:
        assert reader.fault is None, reader.fault
        assert reader.seen[0] == "first" and reader.seen[-1] == "second"
        # One after the other, and no way back.
        assert reader.seen == sorted(reader.seen) and len(reader.seen) > 10
    read_back(server, tpch, "replaced", "second", report.version)


class Reader(threading.Thread):
    """Asks for the same keys again and again: every answer is wholly of one table."""

    def __init__(self, server, keys, tables) -> None:
        super().__init__(daemon=True)
        self.server, self.keys, self.tables = server, keys, tables
        self.seen: list[str] = []
        self.fault: str | None = None
        self.over = threading.Event()

    def run(self) -> None:
        try:
            while not self.over.is_set():
                edition, values = self.server.get("replaced", self.keys)
                which = [name for name, held in self.tables.items() if held == values]
                if len(which) != 1:
                    self.fault = f"edition {edition} mixes the tables"
                    return
                self.seen.append(which[0])
        except Exception as error:  # noqa: BLE001 - told by the test
            self.fault = repr(error)

    def stop(self) -> None:
        self.over.set()
        self.join(60)


def small(spark, count=3_000, mark="a"):
    return spark.range(count).select(
        F.format_string("user-%06d", "id").alias("key"), F.concat(F.lit(mark), F.repeat(F.col("id").cast("string"), 10)).alias("v")
    )


def values_of(server, table):
    return {json.loads(key): value for key, value, _, _ in server.scan(table)}


def test_a_run_that_is_called_again_writes_nothing_again(spark, server):
    frame = small(spark)
    asked = dict(key="key", value="v", server=server.api, create=True, run_id="nightly", partitions=2)
    first = publish(frame, "again", **asked)
    there = objects(spark, f"{server.store.replace('s3://', 's3a://')}/staging/{first.load_id}")
    second = publish(frame, "again", **asked)
    assert (second.load_id, second.written, second.rows, second.edition) == (first.load_id, False, 3_000, first.edition)
    assert second.files == first.files
    assert objects(spark, f"{server.store.replace('s3://', 's3a://')}/staging/{first.load_id}") == there
    with pytest.raises(NacreError, match="run_id has 1 to 255"):
        publish(frame, "again", **{**asked, "run_id": "nächtlich"})
    with pytest.raises(NacreError, match="idempotency-key-body"):
        publish(frame, "again", **{**asked, "mode": "merge"})
    # Another run is another load; and one that was taken back does not count.
    assert publish(frame, "again", **{**asked, "run_id": "next"}).load_id != first.load_id
    server.ask("POST", f"again/loads/{first.load_id}:revert", {})
    third = publish(frame, "again", **asked)
    assert third.written and third.load_id != first.load_id


def test_a_run_that_breaks_off_half_way_starts_over_under_its_load_and_never_doubles(spark, server, monkeypatch):
    frame = small(spark)
    asked = dict(key="key", value="v", server=server.api, create=True, run_id="broken", partitions=2, mode="merge")
    module = __import__("sys").modules["nacre_spark.publish"]

    class PowerLoss(BaseException):
        pass

    # After the files are written and before anybody is told; the driver is gone, so nobody cancels.
    with monkeypatch.context() as patched:
        def lost(*_):
            raise PowerLoss
        patched.setattr(module, "_hand_over", lost)
        patched.setattr(module, "_cancel", lambda *_: None)
        with pytest.raises(PowerLoss):
            publish(frame, "broken", **asked)
    open_loads = server.ask("GET", "broken/loads")["loads"]
    assert [load["state"] for load in open_loads] == ["open"]
    # After they are handed over, before the end is known.
    with monkeypatch.context() as patched:
        patched.setattr(module, "_wait", lost)
        with pytest.raises(PowerLoss):
            publish(frame, "broken", **asked)
    report = publish(frame, "broken", **asked)
    assert (report.load_id, report.written, report.rows) == (open_loads[0]["load_id"], False, 3_000)
    assert {file.outcome for file in report.files} == {"adopted"} and len(report.files) == 2
    attempts = objects(spark, f"{server.store.replace('s3://', 's3a://')}/staging/{report.load_id}")
    assert len([name for name in attempts if name.endswith(".parquet")]) == 4
    assert len(server.ask("GET", "broken/loads")["loads"]) == 1
    assert len(values_of(server, "broken")) == 3_000


def test_what_is_wrong_is_told_and_leaves_nothing(spark, server):
    asked = dict(key="key", value="v", server=server.api, partitions=2)
    with pytest.raises(NacreError, match="table-not-found"):
        publish(small(spark), "wrong", **asked)
    publish(small(spark), "wrong", **asked, create=True)
    before = values_of(server, "wrong")
    # A guard of the server's.
    with pytest.raises(LoadFailed, match="max_shrink_percent") as failed:
        publish(small(spark, 100), "wrong", **asked, run_id="shrinks")
    assert failed.value.state == "failed" and failed.value.errors
    with pytest.raises(LoadFailed, match="allow_empty"):
        publish(small(spark, 0), "wrong", **asked)
    # A row of the job's: the load is cancelled.
    broken = small(spark).withColumn("key", F.when(F.col("key") != "user-000007", F.col("key")))
    with pytest.raises(Exception, match="a null in key column"):
        publish(broken, "wrong", **asked, run_id="null")
    # One key with two values.
    with pytest.raises(LoadFailed, match="user-000000.*more than once"):
        publish(small(spark).union(small(spark, mark="b")), "wrong", **asked)
    states = sorted(load["state"] for load in server.ask("GET", "wrong/loads")["loads"])
    assert states == ["cancelled", "committed", "failed", "failed", "failed"]
    assert values_of(server, "wrong") == before
    # The same run again, with the guard waived for once, is a new attempt.
    report = publish(small(spark, 100), "wrong", **asked, run_id="shrinks", guards={"max_shrink_percent": 100})
    assert report.rows == 100 and len(values_of(server, "wrong")) == 100


def test_rows_are_merged_deleted_and_expire(spark, server):
    publish(small(spark, 1_000), "merged", "key", value="v", version=1_000, server=server.api, create=True)
    change = small(spark, 2_000, "b").where("key >= 'user-000900'").withColumn("gone", F.col("key") < "user-000910")
    change = change.withColumn("until", F.when(F.col("key") == "user-000950", F.lit(5)))
    publish(
        change, "merged", "key", value="v", version=2_000, mode="merge", delete="gone", expires_at="until", server=server.api
    )
    held = values_of(server, "merged")
    assert len(held) == 900 + 1_090 - 1 and "user-000905" not in held and "user-000950" not in held
    assert held["user-000899"].startswith(b"a") and held["user-000910"].startswith(b"b")


def test_the_file_committer_writes_the_same(spark, server):
    report = publish(
        small(spark), "renamed", "key", value="v", server=server.api, create=True, committer="file", partitions=2
    )
    assert report.committer == "file" and [file.outcome for file in report.files] == ["adopted"] * 2
    assert len(values_of(server, "renamed")) == 3_000


def test_a_task_that_writes_its_file_again_after_the_commit_changes_no_answer(spark, tmp_path_factory):
    # Buckets without and with versions.
    for number, store in enumerate(stores()):
        own = f"{store}-overwritten" if number == 0 else store
        server = Server(tmp_path_factory.mktemp("overwritten"), own)
        try:
            report = publish(small(spark), "t", "key", value="v", server=server.api, create=True, partitions=2)
            assert [file.outcome for file in report.files] == ["adopted"] * 2
            before = values_of(server, "t")
            assert len(before) == 3_000
            place = f"{own.replace('s3://', 's3a://')}/staging/{report.load_id}"
            files = [name for name in objects(spark, place) if name.endswith(".parquet")]
            assert len(files) == 2
            # Half of what was there, so that reads of the rest would fail as well.
            overwrite(spark, files[0], os.urandom(report.files[0].bytes // 2))
            overwrite(spark, files[1], b"")
            assert values_of(server, "t") == before
            # With nothing in its memory.
            server.stop()
            server.start()
            assert values_of(server, "t") == before
            keys = [f"user-{n:06}" for n in range(0, 3_000, 7)]
            _, values = server.get("t", keys)
            assert values == [before[key].decode() for key in keys]
        finally:
            server.stop()


def test_the_example_is_a_job_that_runs(spark, server, tpch, monkeypatch):
    example = pathlib.Path(__file__).parents[1] / "examples" / "publish_orders.py"
    scope: dict = {"__name__": "example"}
    exec(compile(example.read_text(), str(example), "exec"), scope)  # noqa: S102 - our own file
    monkeypatch.setenv("NACRE_SERVER", server.api)
    words = ["--source", f"file://{tpch.folder / 'orders.parquet'}", "--table", "by_example", "--run-id", "example-1"]
    assert scope["main"](words) == 0
    # No key setting but int64 was declared, and all rows are there.
    assert server.ask("GET", "by_example")["key"] == [{"name": "o_orderkey", "type": "int64"}]
    assert sum(1 for _ in server.scan("by_example")) == tpch.count("orders")


