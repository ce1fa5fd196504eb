"""Writes files in folders country=.. with typed columns, and prints the rows that must be read from them."""
import datetime, decimal, json, os, sys

import pyarrow as pa
import pyarrow.parquet as pq

folder = sys.argv[1]
epoch = datetime.date(1970, 1, 1)
base = datetime.datetime(2023, 11, 15, tzinfo=datetime.timezone.utc)


def moment(at):
    """RFC 3339 with six digits of a second, or none where they are zero."""
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (".%06d" % at.microsecond if at.microsecond else "") + "Z"


for country in ["ch", "de"]:
    rows = []
    for i in range(700):
        at = base + datetime.timedelta(microseconds=i * 1001)
        rows.append({
            "day": datetime.date(2024, 1, 1) + datetime.timedelta(days=i * 7 % 30),
            "n": i - 350,
            "price": decimal.Decimal(i) / 100,
            "tags": ["a", "b"][: i % 3],
            "at": at,
            "note": None if i % 5 == 0 else "note %d" % i,
        })
        print(json.dumps({
            "country": country,
            "day": (rows[-1]["day"] - epoch).days,
            "n": i - 350,
            "version": int((at - base) / datetime.timedelta(microseconds=1)) + int(base.timestamp()) * 1_000_000,
            "value": {
                "price": "%.2f" % (i / 100),
                "tags": ["a", "b"][: i % 3],
                "at": moment(at),
                "note": rows[-1]["note"],
            },
        }))
    table = pa.Table.from_pylist(rows, schema=pa.schema({
        "day": pa.date32(),
        "n": pa.int64(),
        "price": pa.decimal128(12, 2),
        "tags": pa.list_(pa.string()),
        "at": pa.timestamp("us", tz="UTC"),
        "note": pa.string(),
    }))
    os.makedirs(os.path.join(folder, "country=" + country))
    pq.write_table(table, os.path.join(folder, "country=" + country, "part-0.parquet"), row_group_size=300)

# A partition without rows, which pyarrow writes as a row group of none.
os.makedirs(os.path.join(folder, "country=fr"))
pq.write_table(table.slice(0, 0), os.path.join(folder, "country=fr", "part-0.parquet"))
