"""The peer of `cargo xtask bench load`, and the maker of its files. One command per call; answers one line of JSON."""

import json
import sys
import time

import duckdb


def connect(threads, memory, temp):
    db = duckdb.connect()
    db.execute("SET enable_progress_bar = false")
    db.execute(f"SET threads = {threads}")
    db.execute(f"SET memory_limit = '{memory}'")
    db.execute(f"SET temp_directory = '{temp}'")
    return db


def make(out, rows, temp):
    """Rows in no order: keys of 16 bytes, values of 200 bytes of which a fifth compresses away."""
    db = connect(2, "2GB", temp)
    db.execute("SET preserve_insertion_order = false")
    hashes = " || ".join(f"md5(i::VARCHAR || '{n}')" for n in range(5))
    db.execute(
        f"COPY (SELECT printf('%016x', hash(i)) AS key, {hashes} || repeat('.', 40) AS value"
        f" FROM range({rows}) t(i)) TO '{out}' (FORMAT parquet)"
    )


def shuffle(source, out, temp):
    """The rows of a file in no order."""
    db = connect(2, "2GB", temp)
    db.execute(
        f"COPY (SELECT * FROM '{source}' ORDER BY hash(l_orderkey * 8 + l_linenumber)) TO '{out}' (FORMAT parquet)"
    )


def adoptable(source, out, temp):
    """The rows of a file in the order of their keys, laid out so that a load adopts them."""
    import pyarrow.parquet as pq

    db = connect(2, "2GB", temp)
    ordered = db.execute(f"SELECT key, value FROM '{source}' ORDER BY key").to_arrow_reader(5120 * 20)
    with pq.ParquetWriter(
        out,
        ordered.schema,
        use_dictionary=False,
        write_page_index=True,
        write_page_checksum=True,
        max_rows_per_page=128,
        write_batch_size=128,
    ) as writer:
        for batch in ordered:
            writer.write_batch(batch, row_group_size=5120)


def sort(source, out, order, memory, temp):
    """What is measured: the file, sorted."""
    db = connect(2, memory, temp)
    db.execute(f"COPY (SELECT * FROM '{source}' ORDER BY {order}) TO '{out}' (FORMAT parquet)")


def edition(out, rows, number, files, temp):
    """Rows whose values say of which edition they are and of which key; 200 to 1,000 bytes that hardly compress."""
    db = connect(2, "2GB", temp)
    hashes = " || ".join(f"md5(i::VARCHAR || '{number}/{n}')" for n in range(31))
    head = f"printf('%08d-key-%012d-', {number}, i)"
    for nth in range(int(files)):
        db.execute(
            f"COPY (SELECT printf('key-%012d', i) AS key,"
            f" {head} || substr({hashes}, 1, (160 + hash(i) % 800)::INTEGER) AS value"
            f" FROM range({nth}, {rows}, {files}) t(i) ORDER BY hash(i)) TO '{out}-{nth}.parquet' (FORMAT parquet)"
        )


def put(source, url, s3):
    """A file into a bucket, past the store, as a job puts its own."""
    from pyarrow import fs

    where = json.loads(s3)
    endpoint = where["endpoint"].removeprefix("http://")
    bucket = fs.S3FileSystem(
        access_key=where["access_key"],
        secret_key=where["secret_key"],
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
    )
    with open(source, "rb") as file, bucket.open_output_stream(url.removeprefix("s3://")) as out:
        while piece := file.read(8 << 20):
            out.write(piece)


command, *words = sys.argv[1:]
began = time.monotonic()
{"make": make, "shuffle": shuffle, "adoptable": adoptable, "edition": edition, "sort": sort, "put": put}[command](*words)
print(json.dumps({"seconds": time.monotonic() - began, "cpu": time.process_time()}))
