"""by_spark.py SOURCE TABLE=FOLDER..: the tables as a Spark job writes them that knows one option of nacre's.

The job has no code of nacre's and no function in Python: the key is packed by Spark's own SQL."""

import pathlib
import sys
import tempfile

import tables
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

FILES = 4


def write(spark, source, table, folder):
    frame = spark.read.parquet(str(source))
    value = F.to_json(F.struct(*[F.expr(column) for column in tables.columns(table, "STRING")]))
    rows = frame.select(F.expr(f"unhex({tables.packed_key(table, 'hex')})").alias("key"), value.alias("value"))
    rows = rows.repartitionByRange(FILES, "key").sortWithinPartitions("key")
    # The staging place is there already; `append` writes new files into it.
    rows.write.option("parquet.page.row.count.limit", 128).mode("append").parquet(f"file://{folder}")


def main(source, *targets):
    with tempfile.TemporaryDirectory() as scratch:
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.memory": "2g",
            # The job is over before the second compiler has paid for itself.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": scratch,
            "spark.sql.warehouse.dir": f"{scratch}/warehouse",
            "spark.sql.shuffle.partitions": FILES,
        }
        builder = SparkSession.builder.master("local[2]").appName("tpch")
        for name, setting in settings.items():
            builder = builder.config(name, setting)
        spark = builder.getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        for target in targets:
            table, folder = target.split("=", 1)
            write(spark, pathlib.Path(source) / f"{table}.parquet", table, folder)
        spark.stop()


main(*sys.argv[1:])
