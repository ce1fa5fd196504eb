"""Columns packed as one JSON object, byte for byte as docs/values.md says and as nacre's own rewrite makes it.

By Spark's own functions, so that no row goes through Python. Two things need a word:

- Spark's `to_json` is not used: it writes int64 beyond 2^53 and decimals as numbers, timestamps in the session's zone, and
  control characters with capital digits. Objects are concatenated instead, and lists and maps with `transform`, which Spark
  interprets: nested columns cost several times what flat ones do.
- The shortest digits of a float or double are not what Java 17's `Double.toString` writes. Jackson, which every Spark since
  3.5 brings along, has Raffaele Giulietti's algorithm, and `java_method` calls it.
"""

from __future__ import annotations

import json
import struct
from typing import List, Mapping, Sequence, Tuple

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from .client import NacreError
from .columns import EXACT, MICROS_PER_DAY, apart, checked_text, find, micros, refuse

#: A value has at most so many bytes.
MOST_BYTES = 1 << 20
_DEPTH = 16

_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_RARE = {chr(code): f"\\u{code:04x}" for code in range(0x20) if chr(code) not in _SHORT}
_RARE.update({"\b": "\\b", "\f": "\\f"})


def packed(schema: T.StructType, names: Sequence[str]) -> Column:
    """The value: one JSON object of these columns, UTF-8. One of more than a mebibyte ends the job."""
    if not names:
        raise NacreError("there is no column to pack")
    if len(set(names)) != len(names):
        raise NacreError(f"a column is packed twice: {', '.join(names)}")
    fields = []
    for at, name in enumerate(names):
        column, kind = find(schema, name)
        fields.append(_label(at, name))
        fields.append(_or_null(json_text(column, kind, name)))
    return sized(F.concat(*fields, F.lit("}")).cast("binary"))


def sized(value: Column) -> Column:
    """A value that is not longer than one may be."""
    length = F.octet_length(value)
    said = f"a value is longer than the limit value_bytes, {MOST_BYTES}: it has "
    too_long = refuse(said, apart(length.cast("string")))
    return F.when(length > MOST_BYTES, too_long).otherwise(value)


def _label(at: int, name: str) -> Column:
    return F.lit(("{" if at == 0 else ",") + json.dumps(name, ensure_ascii=False) + ":")


def _or_null(text: Column) -> Column:
    return F.coalesce(text, F.lit("null"))


def json_text(column: Column, kind: T.DataType, name: str, depth: int = _DEPTH) -> Column:
    """A value as JSON text; null where it is null."""
    if depth == 0:
        raise NacreError(f"column {name!r} is nested too deep to be packed; {_DEPTH} is the most")
    if isinstance(kind, (T.BooleanType, T.ByteType, T.ShortType, T.IntegerType)):
        return column.cast("string")
    if isinstance(kind, T.LongType):
        digits = column.cast("string")
        return F.when(column.between(-EXACT, EXACT), digits).otherwise(_string(digits))
    if isinstance(kind, (T.FloatType, T.DoubleType)):
        return _float(column, kind)
    if isinstance(kind, T.DecimalType):
        return _string(_decimal(column, kind))
    if isinstance(kind, T.StringType):
        return _string(_escaped(checked_text(column, kind)))
    if isinstance(kind, T.BinaryType):
        # Some versions of Spark break the line after 76 characters.
        return _string(F.translate(F.base64(column), "\r\n", ""))
    if isinstance(kind, T.DateType):
        return _string(column.cast("string"))
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        return _string(_timestamp(micros(column, kind)))
    if kind.typeName() == "time":
        return _string(_time_fraction(column.cast("string")))
    if isinstance(kind, T.StructType):
        return _struct(column, kind, name, depth)
    if isinstance(kind, T.ArrayType):
        return _list(column, kind, name, depth)
    if isinstance(kind, T.MapType):
        return _map(column, kind, name, depth)
    raise NacreError(
        f"column {name!r} ({kind.simpleString()}) cannot be packed: cast it to a string, a number or a struct first"
    )


def _string(text: Column) -> Column:
    return F.concat(F.lit('"'), text, F.lit('"'))


def _struct(column: Column, kind: T.StructType, name: str, depth: int) -> Column:
    if not kind.fields:
        raise NacreError(f"column {name!r} is a struct without fields")
    fields = []
    for at, field in enumerate(kind.fields):
        fields.append(_label(at, field.name))
        inner = json_text(column.getField(field.name), field.dataType, f"{name}.{field.name}", depth - 1)
        fields.append(_or_null(inner))
    return F.when(column.isNotNull(), F.concat(*fields, F.lit("}")))


def _list(column: Column, kind: T.ArrayType, name: str, depth: int) -> Column:
    def element(held: Column) -> Column:
        return _or_null(json_text(held, kind.elementType, name, depth - 1))

    return F.concat(F.lit("["), F.array_join(F.transform(column, element), ","), F.lit("]"))


def _map(column: Column, kind: T.MapType, name: str, depth: int) -> Column:
    is_object = isinstance(kind.keyType, T.StringType)
    start, between, end = ("", ":", "") if is_object else ('{"key":', ',"value":', "}")

    def entry(held: Column) -> Column:
        return F.concat(
            F.lit(start),
            json_text(held.getField("key"), kind.keyType, name, depth - 1),
            F.lit(between),
            _or_null(json_text(held.getField("value"), kind.valueType, name, depth - 1)),
            F.lit(end),
        )

    entries = F.array_join(F.transform(F.map_entries(column), entry), ",")
    return F.concat(F.lit("{" if is_object else "["), entries, F.lit("}" if is_object else "]"))


def _escaped(text: Column) -> Column:
    """Text as it stands between quotes. Most has nothing to escape, and most of the rest nothing rare."""
    plain = ~text.rlike('["\\\\\\x00-\\x1f]')
    common = ~text.rlike("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]")
    return F.when(plain, text).when(common, _replaced(text, _SHORT)).otherwise(_replaced(text, {**_SHORT, **_RARE}))


def _replaced(text: Column, escapes: Mapping[str, str]) -> Column:
    """One after the other, the backslash first. Interpreted: it is short, and seldom needed."""
    pairs = F.array(*(F.array(F.lit(char), F.lit(escape)) for char, escape in escapes.items()))
    return F.aggregate(pairs, text, lambda held, pair: F.replace(held, pair[0], pair[1]))


def _float(column: Column, kind: T.DataType) -> Column:
    """The shortest digits that read back to the same number, laid out as Rust does: an exponent from 1e16 and below
    1e-4. Java has one from 1e7 and below 1e-3, with `.0` before it."""
    width = kind.simpleString()
    algorithm = "DoubleToDecimal" if width == "double" else "FloatToDecimal"
    shortest = F.java_method(F.lit(f"com.fasterxml.jackson.core.io.schubfach.{algorithm}"), F.lit("toString"), column)
    size = F.abs(column)

    def bound(number: float) -> Column:
        return F.lit(number).cast(width)

    # Java has at least two digits, and of the smallest numbers the second is not needed: 4.9E-324 is 5e-324.
    smallest, texts = _smallest(width)
    place = (size / F.lit(smallest).cast(width)).cast("int")
    sign = F.when(column < 0, F.lit("-")).otherwise(F.lit(""))
    tiny = F.concat(sign, F.split_part(F.lit(",".join(texts)), F.lit(","), place))
    scientific = F.replace(F.replace(shortest, F.lit(".0E"), F.lit("E")), F.lit("E"), F.lit("e"))
    # Exact: at most 16 digits before the point, and 20 behind it.
    digits = F.regexp_replace(shortest.cast("decimal(38,21)").cast("string"), "0+$", "")
    plain = F.regexp_replace(digits, "\\.$", ".0")
    return (
        # The method takes no null, so none may come to it.
        F.when(column.isNull() | F.isnan(column) | (size == bound(float("inf"))), F.lit("null"))
        .when((size < bound(smallest * len(texts))) & (column != 0), tiny)
        .when((size >= bound(1e16)) | ((size < bound(1e-4)) & (column != 0)), scientific)
        .when((size >= bound(1e7)) | ((size < bound(1e-3)) & (column != 0)), plain)
        .otherwise(shortest)
    )


def _smallest(width: str) -> Tuple[float, List[str]]:
    """The smallest number of a width, and the shortest texts of it and its multiples, up to where two digits no longer
    read back to the same number as one does."""
    code, smallest = (">d", 5e-324) if width == "double" else (">f", 2.0**-149)
    texts = []
    for times in range(1, 101):
        number = smallest * times
        bits = struct.pack(code, number)
        digits = (f"{number:.{count}e}" for count in range(17))
        mantissa, exponent = next(text for text in digits if struct.pack(code, float(text)) == bits).split("e")
        texts.append(f"{mantissa}e{int(exponent)}")
    return smallest, texts


def _decimal(column: Column, kind: T.DecimalType) -> Column:
    """All digits behind the point. Spark writes small ones with an exponent, unless it is strict (ANSI)."""
    text = column.cast("string")
    if kind.scale <= 6:
        return text
    mantissa = F.replace(F.replace(F.substring_index(text, "E", 1), F.lit("."), F.lit("")), F.lit("-"), F.lit(""))
    # By its name: in Spark 3.5 the function takes no column for the number.
    zeros = F.call_function("repeat", F.lit("0"), F.abs(F.substring_index(text, "E", -1).cast("int")) - 1)
    sign = F.when(text.startswith("-"), F.lit("-0.")).otherwise(F.lit("0."))
    return F.when(text.contains("E"), F.concat(sign, zeros, mantissa)).otherwise(text)


def _timestamp(since_epoch: Column) -> Column:
    """RFC 3339 in UTC, computed: Spark's own text would be in the session's time zone."""
    of_day = F.pmod(since_epoch, F.lit(MICROS_PER_DAY))
    fraction = of_day % 1_000_000

    def two(micros_of_day: Column, unit: int) -> Column:
        return F.lpad(_div(micros_of_day, unit).cast("string"), 2, "0")

    return F.concat(
        F.date_from_unix_date(_div(since_epoch - of_day, MICROS_PER_DAY).cast("int")).cast("string"),
        F.lit("T"),
        two(of_day, 3_600_000_000),
        F.lit(":"),
        two(of_day % 3_600_000_000, 60_000_000),
        F.lit(":"),
        two(of_day % 60_000_000, 1_000_000),
        F.when(fraction == 0, F.lit("")).otherwise(F.concat(F.lit("."), F.lpad(fraction.cast("string"), 6, "0"))),
        F.lit("Z"),
    )


def _div(number: Column, by: int) -> Column:
    """Whole numbers divided, without a double between them."""
    return F.call_function("div", number, F.lit(by).cast("bigint"))


def _time_fraction(text: Column) -> Column:
    """A time of day with six digits behind the point, or none."""
    return F.when(F.length(text) <= 8, text).otherwise(F.rpad(text, 15, "0"))
