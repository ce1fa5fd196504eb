"""by_pyarrow.py SOURCE TABLE=FOLDER..: the tables sorted and laid out so that they are adopted, three files each."""

import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import tables

FILES = 3


def write(db, source, table, folder):
    rows = f"SELECT key, CAST(value AS BLOB) AS value FROM ({tables.rows(table, source)}) ORDER BY key"
    sorted_rows = db.sql(rows).to_arrow_table()
    each = -(-sorted_rows.num_rows // FILES)
    schema = pa.schema([("key", pa.binary()), ("value", pa.binary())])
    for number in range(FILES):
        part = sorted_rows.slice(number * each, each).cast(schema)
        sorting = [pq.SortingColumn(0)]
        pq.write_table(part, folder / f"part-{number}.parquet", sorting_columns=sorting, **tables.PYARROW)


def main(source, *targets):
    db = tables.connect()
    for target in targets:
        table, folder = target.split("=", 1)
        write(db, pathlib.Path(source) / f"{table}.parquet", table, pathlib.Path(folder))


main(*sys.argv[1:])
