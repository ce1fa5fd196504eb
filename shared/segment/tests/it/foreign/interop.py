"""Writes Parquet files and, beside each, the rows that must be read from it as NDJSON."""
import datetime, decimal, json, math, os, sys, uuid

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

folder = sys.argv[1]


def expect(name, rows):
    with open(os.path.join(folder, name + ".ndjson"), "w") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")


def path(name):
    return os.path.join(folder, name + ".parquet")


# Plain rows, in many encodings and codecs.
count = 3000
rows = [{"key": b"%08d" % i, "version": 1_700_000_000_000_000 + i, "value": b"value %d " % i * 5} for i in range(count)]
plain = [{"version": row["version"], "value": row["value"].decode()} for row in rows]
arrow_rows = table = pa.table({
    "key": pa.array([row["key"] for row in rows], pa.binary()),
    "version": pa.array([row["version"] for row in rows], pa.int64()),
    "value": pa.array([row["value"] for row in rows], pa.binary()),
})
small = {"max_rows_per_page": 128, "write_batch_size": 128}
for name, options in {
    "rows-adopt-plain": {"use_dictionary": False, "compression": "none", **small},
    "rows-adopt-dictionary-v2": {"data_page_version": "2.0", "compression": "zstd", **small},
    "rows-adopt-delta": {
        "use_dictionary": False, "compression": "gzip", **small,
        "column_encoding": {"key": "DELTA_BYTE_ARRAY", "version": "DELTA_BINARY_PACKED", "value": "DELTA_LENGTH_BYTE_ARRAY"},
    },
    "rows-adopt-groups": {"row_group_size": 1000, "compression": "snappy", "write_page_index": True, **small},
    "rows-brotli-free-lz4": {"compression": "lz4"},
    "rows-default": {},
}.items():
    pq.write_table(table, path(name), **options)
    expect(name, plain)

duckdb.sql("CREATE TABLE t AS SELECT * FROM arrow_rows")
for name, options in {
    "rows-duckdb": "",
    "rows-duckdb-v2": ", PARQUET_VERSION V2, CODEC 'zstd'",
}.items():
    duckdb.sql(f"COPY (SELECT * FROM t ORDER BY key) TO '{path(name)}' (FORMAT parquet{options})")
    expect(name, plain)

frame = polars.from_arrow(table)
for name, options in {"rows-polars": {}, "rows-polars-small": {"data_page_size": 1024, "compression": "lz4"}}.items():
    frame.write_parquet(path(name), **options)
    expect(name, plain)

# Types, packed.
utc = datetime.timezone.utc
types = pa.table({
    "key": pa.array([b"a", b"b"]),
    "flag": pa.array([True, None]),
    "small": pa.array([-3, None], pa.int8()),
    "wide": pa.array([2**63, 2**53], pa.uint64()),
    "half": pa.array([1.5, None], pa.float16()),
    "single": pa.array([0.25, float("nan")], pa.float32()),
    "double": pa.array([0.1, float("-inf")], pa.float64()),
    "text": pa.array(["gr\u00fcn \u0001", None]),
    "raw": pa.array([b"\x00\xff", None]),
    "fixed": pa.array([b"abcd", None], pa.binary(4)),
    "day": pa.array([datetime.date(2024, 2, 29), None]),
    "clock": pa.array([datetime.time(1, 2, 3, 4), None], pa.time64("us")),
    "at": pa.array([datetime.datetime(2024, 2, 29, 12, 34, 56, 1, tzinfo=utc), None], pa.timestamp("us", "UTC")),
    "local": pa.array([datetime.datetime(1969, 12, 31, 23, 59, 59, 500000), None], pa.timestamp("ms")),
    "money": pa.array([decimal.Decimal("-12.30"), None], pa.decimal128(30, 2)),
    "tags": pa.array([["x", None], []], pa.list_(pa.string())),
    "points": pa.array([[{"x": 1, "y": [1, 2]}, None], None], pa.list_(pa.struct([("x", pa.int32()), ("y", pa.list_(pa.int32()))]))),
    "scores": pa.array([[("p", 1), ("q", None)], []], pa.map_(pa.string(), pa.int32())),
})
packed = [
    {"flag": True, "small": -3, "wide": str(2**63), "half": 1.5, "single": 0.25, "double": 0.1, "text": "gr\u00fcn \u0001",
     "raw": "AP8=", "fixed": "YWJjZA==", "day": "2024-02-29", "clock": "01:02:03.000004", "at": "2024-02-29T12:34:56.000001Z",
     "local": "1969-12-31T23:59:59.500000Z", "money": "-12.30", "tags": ["x", None], "points": [{"x": 1, "y": [1, 2]}, None],
     "scores": {"p": 1, "q": None}},
    {"flag": None, "small": None, "wide": 2**53, "half": None, "single": None, "double": None, "text": None, "raw": None,
     "fixed": None, "day": None, "clock": None, "at": None, "local": None, "money": None, "tags": [], "points": None,
     "scores": {}},
]
pq.write_table(types, path("types-pyarrow"))
expect("types-pyarrow", packed)
pq.write_table(types, path("types-pyarrow-v2"), data_page_version="2.0", use_dictionary=False, version="2.6")
expect("types-pyarrow-v2", packed)

duckdb.sql(f"""COPY (SELECT 'a'::BLOB AS key, 170141183460469231731687303715::DECIMAL(38,3) AS dec, INTERVAL '1 month 2 days 1001 ms' AS span,
  uuid '12121212-1212-1212-1212-121212121212' AS id, [1,2]::INT[] AS list, {{'a': 1, 'b': NULL}} AS struct, MAP {{7: 'x'}} AS map,
  TIMESTAMP_NS '1970-01-01 00:00:00.000000001' AS fine, 'happy'::VARCHAR AS mood) TO '{path("types-duckdb")}' (FORMAT parquet)""")
expect("types-duckdb", [{
    "dec": "170141183460469231731687303715.000", "span": "P1M2DT1.001S", "id": "12121212-1212-1212-1212-121212121212",
    "list": [1, 2], "struct": {"a": 1, "b": None}, "map": [{"key": 7, "value": "x"}],
    "fine": "1970-01-01T00:00:00.000000001Z", "mood": "happy",
}])

nested = polars.DataFrame({
    "key": [b"a", b"b"], "cat": polars.Series(["u", "v"], dtype=polars.Categorical),
    "list": [[1, None], []], "at": [datetime.datetime(2024, 1, 1, 0, 0, 0, 7), None],
})
nested.write_parquet(path("types-polars"))
expect("types-polars", [
    {"cat": "u", "list": [1, None], "at": "2024-01-01T00:00:00.000007Z"},
    {"cat": "v", "list": [], "at": None},
])
assert math.isnan(float("nan"))
