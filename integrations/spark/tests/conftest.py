"""One Spark session for all tests; and, where there are an S3 server and S3A's jars, the program on a store in it.

`NACRE_PROGRAM` names the program, `NACRE_TEST_S3` the endpoint, `NACRE_TEST_S3_STORES` stores in buckets of it that are
there (of which the second keeps versions), `NACRE_TEST_SPARK_JARS` the folder of the jars, `NACRE_TPCH_DATA` the tables
of TPC-H as services/nacre/tests/tpch/prepare.py makes them. Keys are test and testtest."""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parent))

ROOT = pathlib.Path(__file__).parents[3]


def wanted(name: str) -> str:
    found = os.environ.get(name)
    if not found:
        pytest.skip(f"{name} is not set")
    return found


@pytest.fixture(scope="session")
def spark():
    from pyspark.sql import SparkSession

    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.memory": "2g",
            # The tests are over before the second compiler has paid for itself.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": scratch,
            "spark.sql.warehouse.dir": f"{scratch}/warehouse",
            "spark.sql.shuffle.partitions": "2",
            # Nothing that is published may depend on it.
            "spark.sql.session.timeZone": "America/New_York",
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        }
        jars, endpoint = os.environ.get("NACRE_TEST_SPARK_JARS"), os.environ.get("NACRE_TEST_S3")
        if jars and endpoint:
            settings |= {
                "spark.driver.extraClassPath": f"{jars}/*",
                "spark.hadoop.fs.s3a.endpoint": endpoint,
                "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
                "spark.hadoop.fs.s3a.path.style.access": "true",
                "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
                "spark.hadoop.fs.s3a.aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
                "spark.hadoop.fs.s3a.access.key": "test",
                "spark.hadoop.fs.s3a.secret.key": "testtest",
                "spark.hadoop.fs.s3a.buffer.dir": scratch,
            }
        builder = SparkSession.builder.master("local[2]").appName("nacre-spark")
        for name, setting in settings.items():
            builder = builder.config(name, setting)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The program on a store in a bucket that keeps no versions."""
    from program import Server

    running = Server(tmp_path_factory.mktemp("server"), stores()[0])
    yield running
    running.stop()


def stores() -> list[str]:
    wanted("NACRE_PROGRAM")
    wanted("NACRE_TEST_SPARK_JARS")
    wanted("NACRE_TEST_S3")
    return wanted("NACRE_TEST_S3_STORES").split()
