"""by_duckdb.py SOURCE TABLE VERSION FILE..: the segment files hold the table's rows, by the eyes of DuckDB.

Prints how many rows they have; fails where they are not those of SOURCE, each once, at VERSION if they have versions."""

import sys

import tables


def main(source, table, version, *files):
    db = tables.connect()
    names = [name for name, *_ in db.execute("DESCRIBE SELECT * FROM read_parquet($1)", [list(files)]).fetchall()]
    version_column = "version" if "version" in names else version
    db.execute(
        f"CREATE VIEW held AS SELECT key, CAST(value AS BLOB) AS value, {version_column} AS version"
        f" FROM read_parquet({list(files)})"
    )
    db.execute(
        "CREATE VIEW wanted AS SELECT key, CAST(value AS BLOB) AS value,"
        f" {version} AS version FROM ({tables.rows(table, source)})"
    )
    held, wanted = (db.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0] for view in ["held", "wanted"])
    # As many rows on both sides, and none that only one side has: the same rows, because keys are unique in the source.
    strange = db.sql("SELECT * FROM held EXCEPT SELECT * FROM wanted LIMIT 3").fetchall()
    if held != wanted or strange:
        sys.exit(f"{table}: {held} rows are held and {wanted} are wanted; not wanted, for example: {strange}")
    print(held)


main(*sys.argv[1:])
