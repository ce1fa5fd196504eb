"""prepare.py FOLDER FACTOR: orders and lineitem by tpchgen-cli, and what DuckDB reads in them.

Writes `orders.parquet`, `lineitem.parquet`, and `second.parquet`: orders a day later, every row changed, every tenth
gone, others come, in no order. Beside each a `.rows` file: a line per row in key order, the key's bytes in hexadecimal,
its parts as JSON, and the value, with tabs between them; and a `.columns` file, the names of the packed columns."""

import pathlib
import subprocess
import sys

import tables

SECOND = """
COPY (
    SELECT 'second' AS o_tag, * REPLACE (o_totalprice + 1 AS o_totalprice) FROM '{orders}' WHERE o_orderkey % 10 <> 0
    UNION ALL
    SELECT 'second', * REPLACE (o_orderkey + 8 AS o_orderkey) FROM '{orders}' WHERE o_orderkey % 10 = 1
    ORDER BY hash(o_orderkey)
) TO '{second}'
"""


def generate(folder, factor):
    program = pathlib.Path(sys.executable).parent / "tpchgen-cli"
    words = ["parquet", "-s", factor, "-T", "orders,lineitem", "-o", folder, "--quiet"]
    subprocess.run([program, *words], check=True)


def tell(db, table, file, out):
    rows = f"SELECT hex(key) || chr(9) || parts || chr(9) || value FROM ({tables.rows(table, file)}) ORDER BY key"
    # One column whose text is written as it is: nothing in it is a delimiter.
    db.execute(f"COPY ({rows}) TO '{out}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\x01')")


def main(folder, factor):
    folder = pathlib.Path(folder)
    generate(folder, factor)
    db = tables.connect()
    db.execute(SECOND.format(orders=folder / "orders.parquet", second=folder / "second.parquet"))
    for table in ["orders", "lineitem", "second"]:
        (folder / f"{table}.columns").write_text(",".join(tables.values(table)))
        tell(db, table, folder / f"{table}.parquet", folder / f"{table}.rows")


main(*sys.argv[1:])
