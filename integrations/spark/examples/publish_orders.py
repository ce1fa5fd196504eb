"""Publishes TPC-H orders, or any Parquet with their columns, as a table of nacre. A whole job:

    spark-submit --py-files nacre_spark.zip \\
        --conf spark.hadoop.fs.s3a.endpoint.region=eu-central-1 \\
        publish_orders.py --source s3a://lake/orders/day=2024-02-29/ --table shop/orders --run-id orders-2024-02-29

With Airflow, `--run-id "{{ dag.dag_id }}-{{ run_id }}"`: a task that is tried again goes on with its load or finds it done, and
one that is cleared after the load was taken back loads anew. `NACRE_SERVER` and `NACRE_TOKEN` say where and who."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import List, Optional

from nacre_spark import LoadFailed, LoadUnknown, publish
from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main(words: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="Parquet with the columns of TPC-H's orders")
    parser.add_argument("--table", required=True, help="table or namespace/table")
    parser.add_argument("--run-id", required=True, help="the same for every try of this run")
    asked = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")

    spark = SparkSession.builder.appName(asked.run_id).getOrCreate()
    orders = (
        spark.read.parquet(asked.source)
        .where(F.col("o_orderstatus") != "X")
        .select("o_orderkey", "o_custkey", "o_orderstatus", "o_totalprice", "o_orderdate", "o_comment")
    )
    try:
        report = publish(
            orders,
            asked.table,
            key=["o_orderkey"],
            mode="replace",
            run_id=asked.run_id,
            guards={"max_shrink_percent": 20},
            create=True,
        )
    except LoadFailed as failed:
        # Nothing of it is visible; the table is what it was.
        for error in failed.errors:
            print(error, file=sys.stderr)
        return 1
    except LoadUnknown as unknown:
        # Whoever tries again under the same run id goes on with it.
        print(unknown, file=sys.stderr)
        return 75
    print(
        f"{report.table}: {report.rows} rows visible in edition {report.edition}, version {report.version}, "
        f"{len(report.adopted)} files adopted, {len(report.rewritten)} rewritten"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
