"""Keys and values as Spark packs them, held against the pages that fix them and against Python."""

from __future__ import annotations

import base64
import datetime
import json
import math
import random
import re
import struct
from decimal import Decimal

import pytest
from conftest import ROOT
from nacre_spark import NacreError, keys, values
from nacre_spark.publish import packed_rows
from pyspark.sql import Row
from pyspark.sql import functions as F
from pyspark.sql import types as T

SQL_TYPES = {
    "string": "string",
    "bytes": "binary",
    "int64": "bigint",
    "uuid": "string",
    "date": "date",
    "timestamp": "timestamp",
}


def vectors(page: str) -> list[list[str]]:
    """The rows of the table that a page marks as test vectors."""
    lines = (ROOT / "docs" / page).read_text().split("<!-- vectors -->")[1].splitlines()
    rows = [[cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")] for line in lines if line[:1] == "|"]
    return [row for row in rows[2:]]


def from_json(kind: str, part) -> object:
    if isinstance(part, dict):
        return bytearray(base64.b64decode(part["base64"]))
    if kind == "int64":
        return int(part)
    if kind == "date":
        return datetime.date.fromisoformat(part)
    if kind == "timestamp":
        return datetime.datetime.fromisoformat(part.replace("Z", "+00:00"))
    return part


def test_keys_are_the_bytes_of_the_page(spark):
    by_types: dict[str, list] = {}
    for types, parts, wanted in vectors("keys.md"):
        by_types.setdefault(types, []).append((json.loads(parts), bytes.fromhex(wanted)))
    assert len(by_types) >= 9
    for types, cases in by_types.items():
        kinds = types.split(", ")
        names = [f"k{at}" for at in range(len(kinds))]
        rows = [tuple(map(from_json, kinds, parts)) for parts, _ in cases]
        schema = ", ".join(f"{name} {SQL_TYPES[kind]}" for name, kind in zip(names, kinds))
        frame = spark.createDataFrame(rows, schema)
        setting = [{"name": name, "type": kind} for name, kind in zip(names, kinds)]
        made = frame.select(keys.packed(frame.schema, names, setting).alias("key")).collect()
        assert [bytes(row.key) for row in made] == [wanted for _, wanted in cases], types


def test_numbers_of_every_width_keep_their_order(spark):
    random.seed(1)
    edges = [sign * (2**bits + by) for bits in range(0, 63) for by in (-1, 0, 1) for sign in (1, -1)]
    numbers = sorted({*edges, -(2**63), -(2**63) + 1, 2**63 - 1, *(random.getrandbits(64) - 2**63 for _ in range(500))})
    frame = spark.createDataFrame([(number,) for number in numbers], "n bigint")
    made = [bytes(row.k) for row in frame.select(keys.packed(frame.schema, ["n"]).alias("k")).collect()]
    assert made == [tuple_int(number) for number in numbers]
    assert made == sorted(made)


def tuple_int(number: int) -> bytes:
    size = (abs(number).bit_length() + 7) // 8
    body = number if number >= 0 else number + (1 << 8 * size) - 1
    return bytes([20 + (size if number >= 0 else -size)]) + body.to_bytes(size, "big")


def test_a_single_string_or_binary_column_is_the_key_as_it_is(spark):
    frame = spark.createDataFrame([("grün", bytearray(b"\x00\xff"))], "s string, b binary")
    assert keys.setting_of(frame.schema, ["s"]) == "bytes"
    made = frame.select(keys.packed(frame.schema, ["s"]).alias("s"), keys.packed(frame.schema, ["b"]).alias("b")).first()
    assert (bytes(made.s), bytes(made.b)) == ("grün".encode(), b"\x00\xff")


def test_keys_that_cannot_be_end_the_job_with_a_sentence(spark):
    frame = spark.createDataFrame([(None, "x" * 2_049, "", "no")], "n int, long string, empty string, id string")
    uuid = [{"name": "id", "type": "uuid"}]
    for name, setting, said in [
        ("n", None, "a null in key column 'n'"),
        ("long", None, "longer than the limit key_bytes"),
        ("empty", None, "a key is empty"),
        ("id", uuid, "no UUID in key column 'id'"),
    ]:
        with pytest.raises(Exception, match=said):
            frame.select(keys.packed(frame.schema, [name], setting)).collect()
    for columns, setting, said in [
        (["d"], None, "no column 'd'"),
        (["n"], "bytes", "one string or binary column"),
        (["n"], [{"name": "n", "type": "date"}], "does not fit"),
        (["n", "id"], [{"name": "n", "type": "int64"}], "names 2 columns"),
    ]:
        with pytest.raises(NacreError, match=said):
            keys.packed(frame.schema, columns, setting)
    with pytest.raises(NacreError, match="cannot be part of a key"):
        keys.setting_of(T.StructType().add("f", "double"), ["f"])


def test_values_are_the_json_of_the_page(spark):
    made = {
        "b": "true",
        "i": "9007199254740993L",
        "f": "CAST(0.1 AS FLOAT)",
        "d": "1e300D",
        "s": "'q\"\\u0001ü'",
        "raw": "X'00FF'",
        "day": "DATE'2024-02-29'",
        "at": "TIMESTAMP'1969-12-31T23:59:59.999999Z'",
        "dec": "CAST(-0.05 AS DECIMAL(9,2))",
        "big": "CAST(12.345 AS DECIMAL(20,3))",
    }
    wanted = {column: first for column, _, first, _ in vectors("values.md")}
    frame = spark.range(1).selectExpr(*(f"{sql} AS {name}" for name, sql in made.items()))
    for name in made:
        assert packed(frame, [name]) == f'{{"{name}":{wanted[name]}}}'
        nothing = frame.select(F.when(F.lit(False), F.col(name)).alias(name))
        assert packed(nothing, [name]) == f'{{"{name}":null}}'


def packed(frame, names) -> str:
    return bytes(frame.select(values.packed(frame.schema, names).alias("v")).first().v).decode()


def test_every_character_is_escaped_as_json_wants_it(spark):
    texts = ["".join(map(chr, range(0x80))), "\\\"/\n", "a\x0b\x7f\u2028😀", "plain", "", "\\u0000\x00"]
    frame = spark.createDataFrame([(text,) for text in texts], "s string")
    made = [bytes(row.v).decode() for row in frame.select(values.packed(frame.schema, ["s"]).alias("v")).collect()]
    assert made == [json.dumps({"s": text}, ensure_ascii=False, separators=(",", ":")) for text in texts]


def rust(number: float, digits: str) -> str:
    """How Rust lays out the shortest digits of a number, which Python's `repr` has."""
    if not math.isfinite(number):
        return "null"
    sign, figures, exponent = Decimal(digits).as_tuple()
    text = "".join(map(str, figures)).rstrip("0") or "0"
    exponent += len(figures) - len(text) if number else 0
    leading = len(text) + exponent - 1
    if number and not 1e-4 <= abs(number) < 1e16:
        body = text[0] + ("." + text[1:] if len(text) > 1 else "") + f"e{leading}"
    else:
        body = format(Decimal((0, tuple(map(int, text)), exponent)), "f") if number else "0.0"
        body += "" if "." in body else ".0"
    return ("-" if math.copysign(1, number) < 0 else "") + body


def test_doubles_have_their_shortest_digits(spark):
    random.seed(2)
    bits = [struct.unpack(">d", random.getrandbits(64).to_bytes(8, "big"))[0] for _ in range(3_000)]
    common = [round(random.uniform(-1e3, 1e3), places) for places in range(8) for _ in range(100)]
    decades = [mantissa * 10.0**exponent for exponent in range(-12, 20) for mantissa in (1, 1.5, 9.999999999999999)]
    edges = [*(5e-324 * times for times in range(-130, 131)), -0.0, 2e23, 2.0**-44, 5e-324, 1.7976931348623157e308, 9007199254740993.0, math.nan, math.inf, -math.inf]
    numbers = [*bits, *common, *decades, *edges]
    frame = spark.createDataFrame([(number,) for number in numbers], "d double")
    made = [row.v for row in frame.select(values.json_text(F.col("d"), T.DoubleType(), "d").alias("v")).collect()]
    assert made == [rust(number, repr(number)) for number in numbers]


def test_floats_have_the_shortest_digits_of_their_width(spark):
    random.seed(3)
    bits = [struct.unpack(">f", random.getrandbits(32).to_bytes(4, "big"))[0] for _ in range(3_000)]
    numbers = [*bits, 1e-4, 1e-3, 1e7, 16777216.0, 1e16, 0.1, 3.4028235e38, *(2.0**-149 * times for times in range(-130, 131))]
    frame = spark.createDataFrame([(number,) for number in numbers], "f float")
    made = frame.select("f", values.json_text(F.col("f"), T.FloatType(), "f").alias("v")).collect()
    for number, text in made:
        if not math.isfinite(number):
            assert text == "null"
            continue
        # It reads back to the same float, and no shorter one does.
        assert struct.pack(">f", float(text)) == struct.pack(">f", number)
        figures = len(Decimal(text).normalize().as_tuple().digits)
        if figures > 1 and number:
            shorter = float(f"{number:.{figures - 2}e}")
            assert struct.pack(">f", shorter) != struct.pack(">f", number), text
        narrow = [struct.unpack(">f", struct.pack(">f", edge))[0] for edge in (1e-4, 1e16)]
        assert ("e" in text) == (number != 0 and not narrow[0] <= abs(number) < narrow[1]), text
        assert ("." in text) or ("e" in text)


def test_decimals_have_all_their_digits(spark):
    for strict in ("true", "false"):
        spark.conf.set("spark.sql.ansi.enabled", strict)
        for precision, scale in [(1, 0), (9, 2), (38, 0), (38, 10), (38, 37), (38, 38), (18, 18)]:
            unscaled = [0, 1, -1, 10, -15, 10**precision - 1, 1 - 10**precision, 10 ** (precision // 2)]
            numbers = [Decimal(f"{number}e-{scale}") for number in unscaled if abs(number) < 10**precision]
            frame = spark.createDataFrame([(number,) for number in numbers], f"d decimal({precision},{scale})")
            text = values.json_text(F.col("d"), frame.schema[0].dataType, "d")
            made = [row.v for row in frame.select(text.alias("v")).collect()]
            assert made == [f'"{number:.{scale}f}"' for number in numbers], (precision, scale, strict)
    spark.conf.unset("spark.sql.ansi.enabled")


def test_timestamps_are_utc_whatever_the_session_says(spark):
    random.seed(4)
    micros = [0, -1, 1, 999_999, 1_000_000, -86_400_000_000, 1_710_054_000_000_000, 253_402_300_799_999_999]
    micros += [random.randrange(-62_135_596_800_000_000, 253_402_300_800_000_000) for _ in range(300)]
    frame = spark.createDataFrame([(number,) for number in micros], "n bigint").select(
        "n",
        F.timestamp_micros("n").alias("at"),
        # A clock on the wall of no zone, made without one.
        F.expr("TIMESTAMP_NTZ'1970-01-01 00:00:00' + make_dt_interval(0, 0, 0, 0) + (n div 1000000) * INTERVAL '1' SECOND"
               " + make_dt_interval(0, 0, 0, (n % 1000000) / 1000000)").alias("wall"),
    )
    epoch = datetime.datetime(1970, 1, 1)
    for name in ("at", "wall"):
        kind = frame.schema[name].dataType
        made = frame.select("n", keys.packed(frame.schema, [name]).alias("k"), values.json_text(F.col(name), kind, name).alias("v"))
        for number, key, text in made.collect():
            assert bytes(key) == tuple_int(number), name
            moment = epoch + datetime.timedelta(microseconds=number)
            digits = f".{moment.microsecond:06}" if moment.microsecond else ""
            assert text == f'"{moment.year:04}-{moment:%m-%dT%H:%M:%S}{digits}Z"', name


def test_nested_columns_are_objects_and_lists(spark):
    sql = """
        named_struct('x', 1, 'none', CAST(NULL AS INT), 'in', named_struct('y', array(1.5D, NULL, 2e-5D))) AS st,
        map('k"', 1L, 'n', NULL) AS m, map(1, 'one') AS by_number, array(array(X'00'), array()) AS deep,
        CAST(NULL AS STRUCT<a: INT>) AS no_struct, CAST(NULL AS ARRAY<INT>) AS no_list, CAST(NULL AS MAP<STRING, INT>) AS no_map,
        array(named_struct('at', TIMESTAMP'2024-02-29T12:00:00Z'), NULL) AS moments"""
    frame = spark.sql(f"SELECT {sql}")
    assert packed(frame, frame.columns) == (
        '{"st":{"x":1,"none":null,"in":{"y":[1.5,null,2e-5]}},"m":{"k\\"":1,"n":null},'
        '"by_number":[{"key":1,"value":"one"}],"deep":[["AA=="],[]],"no_struct":null,"no_list":null,"no_map":null,'
        '"moments":[{"at":"2024-02-29T12:00:00Z"},null]}'
    )
    assert packed(frame, ["st.x"]) == '{"st.x":1}'


def test_what_cannot_be_packed_is_refused_before_anything_runs(spark):
    frame = spark.sql("SELECT INTERVAL '1' DAY AS span, NULL AS nothing, named_struct('a', array(1)) AS st, 1 AS n")
    for names, said in [
        (["span"], "cannot be packed"),
        (["nothing"], "cannot be packed"),
        (["st.a"], "is nested"),
        (["nobody"], "no column 'nobody'"),
        (["n", "n"], "packed twice"),
        ([], "no column to pack"),
    ]:
        with pytest.raises(NacreError, match=said):
            values.packed(frame.schema, names)


def test_rows_have_the_native_columns(spark):
    frame = spark.createDataFrame(
        [
            Row(k="a", v="x", at=5, until=None, gone=False),
            Row(k="b", v=None, at=6, until=datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc), gone=True),
        ],
        "k string, v string, at int, until timestamp, gone boolean",
    )
    rows = packed_rows(frame, ["k"], None, "v", None, "at", "until", "gone")
    assert [(name, kind.simpleString()) for name, kind in ((f.name, f.dataType) for f in rows.schema)] == [
        ("key", "binary"),
        ("version", "bigint"),
        ("expires_at", "bigint"),
        ("value", "binary"),
    ]
    assert [tuple(row) for row in rows.collect()] == [(b"a", 5, None, b"x"), (b"b", 6, 1_893_456_000_000_000, None)]
    # Whatever plays no other part is packed.
    rest = packed_rows(frame, ["k"], version_column="at", expires_at="until", delete="gone")
    assert [row.value and bytes(row.value) for row in rest.collect()] == [b'{"v":"x"}', None]
    with pytest.raises(Exception, match="a null value in a row that 'gone' does not delete"):
        packed_rows(frame.withColumn("gone", F.lit(False)), ["k"], value="v", delete="gone").collect()
    with pytest.raises(Exception, match="longer than the limit value_bytes"):
        packed_rows(frame.withColumn("v", F.repeat("k", 1_048_577)), ["k"], value="v").collect()
    with pytest.raises(NacreError, match="exclude each other"):
        packed_rows(frame, ["k"], value="v", pack=["v"])


def test_files_that_the_job_has_not_written_stop_it(spark, tmp_path):
    from nacre_spark import writing

    frame = spark.range(10_000).selectExpr(
        "unhex(lpad(hex(id), 8, '0')) AS key", "encode(CAST(id AS STRING), 'UTF-8') AS value"
    )
    written = writing.write(
        frame, f"file://{tmp_path}", partitions=3, target_file_bytes=1, compression="lz4_raw", committer="auto", cache=True
    )
    assert (written.rows, len(written.files), written.committer) == (10_000, 3, "file")
    assert all(re.fullmatch(r"run-[0-9a-f]{32}/part-\d{5}-[^/]*\.parquet", name) for name in written.files)
    folder = tmp_path / written.files[0].split("/")[0]
    target = f"file://{folder}"
    assert writing._committed(spark, target) == [name.split("/")[1] for name in written.files]
    one = folder / written.files[0].split("/")[1]
    (folder / "stranger.parquet").write_bytes(one.read_bytes())
    with pytest.raises(NacreError, match="has not written"):
        writing._committed(spark, target)
    (folder / "stranger.parquet").unlink()
    # The same task's file, of another job.
    other = re.sub(r"-[0-9a-f]{8}-", "-00000000-", one.name, count=1)
    (folder / other).write_bytes(one.read_bytes())
    with pytest.raises(NacreError, match="of 2 jobs, or of two attempts"):
        writing._committed(spark, target)
