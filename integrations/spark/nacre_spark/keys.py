"""Keys packed as docs/keys.md says, by Spark's own functions: no row goes through Python."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Union

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from .client import NacreError
from .columns import INTEGERS, apart, checked_text, find, micros, plain_text, refuse

#: A table's `key` setting: "bytes", or the parts.
KeySetting = Union[str, List[Mapping[str, Any]]]

_NUL = "\u0000"
#: What stands for a zero byte inside a part, if bytes are read as the 256 characters of ISO 8859-1.
_ESCAPED = "\u0000\u00ff"
_LATIN = "ISO-8859-1"
_MOST_BYTES = 2_048


def setting_of(schema: T.StructType, key: Sequence[str]) -> KeySetting:
    """What a table's keys are if these columns make them: one string or binary column is bytes, anything else typed."""
    kinds = [(name, find(schema, name)[1]) for name in key]
    if len(kinds) == 1 and isinstance(kinds[0][1], (T.StringType, T.BinaryType)):
        return "bytes"
    return [{"name": name, "type": _part_type(name, kind)} for name, kind in kinds]


def _part_type(name: str, kind: T.DataType) -> str:
    if isinstance(kind, T.StringType):
        return "string"
    if isinstance(kind, T.BinaryType):
        return "bytes"
    if isinstance(kind, INTEGERS):
        return "int64"
    if isinstance(kind, T.DateType):
        return "date"
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        return "timestamp"
    raise NacreError(
        f"column {name!r} ({kind.simpleString()}) cannot be part of a key; integers, strings, binaries, dates and "
        "timestamps can"
    )


def packed(schema: T.StructType, key: Sequence[str], setting: Optional[KeySetting] = None) -> Column:
    """The key's bytes, of the columns `key` for a table whose setting is `setting`. A null, and a key of no or more
    than 2,048 bytes, end the job."""
    if not key:
        raise NacreError("key names no column")
    if setting is None:
        setting = setting_of(schema, key)
    found = [(name, *find(schema, name)) for name in key]
    if setting == "bytes":
        if len(found) != 1 or not isinstance(found[0][2], (T.StringType, T.BinaryType)):
            raise NacreError("the table's keys are bytes: one string or binary column can be that")
        name, column, kind = found[0]
        return _sized(_there(_raw(column, kind), name))
    if isinstance(setting, str) or len(setting) != len(found):
        raise NacreError(f"key names {len(found)} columns, and the table's keys are {setting!r}")
    parts = [_part(str(part["type"]), name, column, kind) for part, (name, column, kind) in zip(setting, found)]
    return _sized(F.concat(*parts))


def _sized(key: Column) -> Column:
    length = F.octet_length(key)
    too_long = refuse(f"a key is longer than the limit key_bytes, {_MOST_BYTES}: it has ", apart(length.cast("string")))
    return F.when(length == 0, refuse("a key is empty")).when(length > _MOST_BYTES, too_long).otherwise(key)


def _there(column: Column, name: str) -> Column:
    return F.coalesce(column, refuse(f"a null in key column {name!r}"))


def _raw(column: Column, kind: T.DataType) -> Column:
    return (plain_text(column, kind) if isinstance(kind, T.StringType) else column).cast("binary")


def _part(part: str, name: str, column: Column, kind: T.DataType) -> Column:
    text, binary = isinstance(kind, T.StringType), isinstance(kind, T.BinaryType)
    if part == "string" and text:
        return _ended(b"\x02", _zeros_escaped(_there(checked_text(column, kind), name)))
    if part == "string" and binary:
        return _ended(b"\x02", _zeros_escaped(checked_text(_there(column, name).cast("string"), T.StringType())))
    if part == "bytes" and (text or binary):
        return _ended(b"\x01", _bytes_escaped(_there(_raw(column, kind), name)))
    if part == "int64" and isinstance(kind, INTEGERS):
        return int64(_there(column, name).cast("bigint"))
    if part == "date" and isinstance(kind, T.DateType):
        return int64(_there(F.unix_date(column), name).cast("bigint"))
    if part == "timestamp" and isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        return int64(_there(micros(column, kind), name))
    if part == "uuid" and text:
        return F.concat(_literal(b"\x30"), _uuid(_there(plain_text(column, kind), name), name))
    if part == "uuid" and binary:
        sixteen = F.when(F.octet_length(column) == 16, column)
        return F.concat(_literal(b"\x30"), F.coalesce(sixteen, refuse(f"a UUID in {name!r} that has not 16 bytes")))
    raise NacreError(f"column {name!r} ({kind.simpleString()}) does not fit a part of the key that is {part}")


def _literal(data: bytes) -> Column:
    return F.lit(bytearray(data))


def _ended(code: bytes, body: Column) -> Column:
    return F.concat(_literal(code), body, _literal(b"\x00"))


def _zeros_escaped(text: Column) -> Column:
    return F.when(F.instr(text, _NUL) == 0, text.cast("binary")).otherwise(_bytes_escaped(text.cast("binary")))


def _bytes_escaped(data: Column) -> Column:
    latin = F.decode(data, _LATIN)
    return F.encode(F.replace(latin, F.lit(_NUL), F.lit(_ESCAPED)), _LATIN)


def _uuid(text: Column, name: str) -> Column:
    digits = "[0-9a-fA-F]"
    form = f"^({digits}{{32}}|{digits}{{8}}-{digits}{{4}}-{digits}{{4}}-{digits}{{4}}-{digits}{{12}})$"
    right = F.when(text.rlike(form), F.unhex(F.replace(text, F.lit("-"), F.lit(""))))
    return F.coalesce(right, refuse(f"no UUID in key column {name!r}: ", text))


def int64(number: Column) -> Column:
    """An int64 of the tuple encoding: as few bytes as the magnitude needs, each turned over where it is negative."""
    above, below = _literal(b"\x1c"), _literal(b"\x0c")
    for size in range(7, 0, -1):
        above = F.when(number < 1 << 8 * size, _literal(bytes([20 + size]))).otherwise(above)
        below = F.when(number > -(1 << 8 * size), _literal(bytes([20 - size]))).otherwise(below)
    # Digits of an odd count become bytes as if a zero stood before them.
    turned = F.translate(F.hex(F.unhex(F.hex(-number))), "0123456789ABCDEF", "FEDCBA9876543210")
    return (
        F.when(number > 0, F.concat(above, F.unhex(F.hex(number))))
        .when(number == 0, _literal(b"\x14"))
        # Its magnitude is no int64.
        .when(number == F.lit(-(1 << 63)), _literal(bytes.fromhex("0c7fffffffffffffff")))
        .otherwise(F.concat(below, F.unhex(turned)))
    )
