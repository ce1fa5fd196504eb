"""Rows into files that nacre adopts as they lie, and which files those are."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import uuid
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from .client import NacreError

log = logging.getLogger("nacre_spark")

#: Rows of a page, the same in every column: what a read fetches and decodes.
PAGE_ROWS = 128
#: Rows of a row group, where the writer can be told (Spark 4): a cold get is one request of some hundred kilobytes, and
#: scans by others stay quick.
GROUP_ROWS = 5_120
#: A page ends early at so many bytes, and then its rows are no longer those of the other columns' pages.
PAGE_BYTES = 32 << 20
#: What JSON of some numbers and words comes to under LZ4: a third of its length (TPC-H's lineitem 0.29).
RAW_BYTES_PER_FILE_BYTE = 3
MOST_FILES = 100_000

_PROTOCOL = "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol"
_MAGIC = {
    "fs.s3a.committer.name": "magic",
    "fs.s3a.committer.magic.enabled": "true",
    "mapreduce.outputcommitter.factory.scheme.s3a": "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory",
    "spark.sql.parquet.output.committer.class": "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter",
}
#: Version 2 moves files of a task to their place before the job has ended, those of tasks that failed among them.
_FILE = {"mapreduce.fileoutputcommitter.algorithm.version": "1"}

_PART = re.compile(r"part-(\d+)-([0-9a-fA-F-]{36})[.-]c(\d+)[^/]*\.parquet")


@dataclass(frozen=True)
class Written:
    """What a job has written."""

    #: Names below the staging place.
    files: List[str]
    rows: int
    partitions: int
    committer: str


def hadoop_url(staging_url: str) -> str:
    """The URL as Hadoop's file systems know it."""
    return "s3a://" + staging_url[len("s3://") :] if staging_url.startswith("s3://") else staging_url


def write(
    rows: DataFrame,
    place: str,
    *,
    partitions: Optional[int],
    target_file_bytes: int,
    compression: str,
    committer: str,
    cache: bool,
) -> Written:
    """Writes `rows` (key, value, and version and expires_at if there are) below `place`, in a folder of this attempt's
    own: whatever an attempt before it has left there, or still writes, is no part of it."""
    spark = rows.sparkSession
    if cache:
        # To disk alone: a partition of some million packed rows in memory is what executors die of.
        rows = rows.persist(StorageLevel.DISK_ONLY)
    try:
        if partitions is None:
            partitions = _partitions(rows, target_file_bytes)
        order = [F.col("key").asc()] + ([F.col("version").desc()] if "version" in rows.columns else [])
        # One key's rows come to one partition, and partitions follow each other: files do not overlap.
        laid_out = rows.repartitionByRange(partitions, "key").sortWithinPartitions(*order)
        counted = Observation()
        laid_out = laid_out.observe(counted, F.count(F.lit(1)).alias("rows"))
        attempt = f"run-{uuid.uuid4().hex}"
        target = f"{place.rstrip('/')}/{attempt}"
        committer = _chosen(spark, committer, target)
        options: Dict[str, Any] = {
            "compression": compression,
            "maxRecordsPerFile": 0,
            "parquet.page.row.count.limit": PAGE_ROWS,
            "parquet.page.size": PAGE_BYTES,
            "parquet.block.row.count.limit": GROUP_ROWS,
            "parquet.enable.dictionary": "false",
            **({"magic": _MAGIC, "file": _FILE}.get(committer, {})),
        }
        with _protocol(spark, _PROTOCOL if committer == "magic" else None):
            laid_out.write.options(**options).mode("error").parquet(target)
        count = int(counted.get["rows"])
        log.info("%d rows in %d partitions are written below %s (%s committer)", count, partitions, target, committer)
        # Without rows Spark leaves a file that says so: nothing to load.
        names = _committed(spark, target) if count else []
        return Written([f"{attempt}/{name}" for name in names], count, partitions, committer)
    finally:
        if cache:
            rows.unpersist()


def _partitions(rows: DataFrame, target_file_bytes: int) -> int:
    length = F.octet_length("key") + F.coalesce(F.octet_length("value"), F.lit(0)) + 16
    raw = rows.agg(F.sum(length.cast("bigint"))).first()[0] or 0
    return min(max(1, math.ceil(raw / (target_file_bytes * RAW_BYTES_PER_FILE_BYTE))), MOST_FILES)


def _chosen(spark: SparkSession, committer: str, target: str) -> str:
    if committer not in ("auto", "magic", "file", "session"):
        raise NacreError(f"committer {committer!r}: expected auto, magic, file or session")
    has_magic = target.startswith("s3a://") and committer in ("auto", "magic") and _has_class(spark, _PROTOCOL)
    if committer == "magic" and not has_magic:
        raise NacreError("the magic committer needs an s3a:// URL, and spark-hadoop-cloud among the job's jars")
    if committer != "auto":
        return committer
    return "magic" if has_magic else "file"


def _has_class(spark: SparkSession, name: str) -> bool:
    try:
        jvm = spark._jvm  # not there over Spark Connect
        jvm.java.lang.Thread.currentThread().getContextClassLoader().loadClass(name)
        return True
    except Exception:  # noqa: BLE001 - whatever it is, the class cannot be used
        return False


@contextlib.contextmanager
def _protocol(spark: SparkSession, protocol: Optional[str]) -> Iterator[None]:
    """The session's commit protocol for a while: no option of a write sets it. It serves other paths as well, so a
    write by another thread meanwhile is none the worse."""
    name = "spark.sql.sources.commitProtocolClass"
    if protocol is None:
        yield
        return
    before = spark.conf.get(name, None)
    spark.conf.set(name, protocol)
    try:
        yield
    finally:
        if before is None:
            spark.conf.unset(name)
        else:
            spark.conf.set(name, before)


def _committed(spark: SparkSession, target: str) -> List[str]:
    """The files of the job that has just committed `target`. The folder was made by this job, and tasks that failed or
    came second leave their files below `_temporary` or in uploads that never end; so whatever does not look like the
    one job's files is a stranger's, and stops us."""
    listed = spark.read.format("binaryFile").option("pathGlobFilter", "*.parquet").load(target).select("path")
    names = sorted(str(row.path).rsplit("/", 1)[-1] for row in listed.collect())
    parts, jobs = set(), set()
    for name in names:
        part = _PART.fullmatch(name)
        if part is None:
            raise NacreError(f"{target} holds {name}, which this job has not written")
        parts.add((part[1], part[3]))
        jobs.add(part[2])
    if len(parts) != len(names) or len(jobs) > 1:
        raise NacreError(f"{target} holds files of {len(jobs)} jobs, or of two attempts of a task: {names}")
    return names
