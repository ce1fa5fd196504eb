"""Finding columns by the names that docs/values.md gives them, and what keys and values have in common."""

from __future__ import annotations

from typing import Any, Tuple

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from .client import NacreError

#: Integers up to this magnitude are JSON numbers: what a double holds exactly.
EXACT = 1 << 53
MICROS_PER_DAY = 86_400_000_000
INTEGERS = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)


def find(schema: T.StructType, name: str) -> Tuple[Column, T.DataType]:
    """A column of the top level, or one inside structs by its path, ``user.home.city``; and its type."""
    held = [field for field in schema.fields if field.name == name]
    if len(held) > 1:
        raise NacreError(f"there are two columns {name!r}")
    if held:
        return F.col(quoted(name)), held[0].dataType
    for field in schema.fields:
        if name.startswith(field.name + ".") and isinstance(field.dataType, T.StructType):
            inside = _inside(F.col(quoted(field.name)), field.dataType, name[len(field.name) + 1 :])
            if inside is not None:
                return inside
    raise NacreError(f"there is no column {name!r}; there are {', '.join(schema.names)}")


def _inside(parent: Column, struct: T.StructType, path: str) -> Any:
    for field in struct.fields:
        column = parent.getField(field.name)
        if field.name == path:
            if isinstance(field.dataType, (T.StructType, T.ArrayType, T.MapType)):
                raise NacreError(f"column {path!r} is nested: pack the whole column of the top level, or a column in it")
            return column, field.dataType
        if path.startswith(field.name + ".") and isinstance(field.dataType, T.StructType):
            inside = _inside(column, field.dataType, path[len(field.name) + 1 :])
            if inside is not None:
                return inside
    return None


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return "`" + name.replace("`", "``") + "`"


def refuse(detail: str, *parts: Column) -> Column:
    """Ends the job, with the detail and what was found."""
    return F.raise_error(F.concat(F.lit(detail), *parts) if parts else F.lit(detail))


def apart(text: Column) -> Column:
    """The text, by a detour that keeps a projection out of whole-stage code generation. There all of a projection becomes
    one method, and Java interprets methods of more than 8,000 bytes for ever: five packed strings are that long. Other
    projections are cut into methods that are compiled. It costs where it is evaluated, so: in the words of an error."""
    return F.array_join(F.transform(F.array(text), lambda held: held), "")


def micros(column: Column, kind: T.DataType) -> Column:
    """A timestamp as microseconds since the epoch, whatever the session's time zone; one without zone is UTC."""
    if isinstance(kind, T.TimestampType):
        return F.unix_micros(column)
    seconds = F.unix_date(F.to_date(column)).cast("bigint") * 86_400 + (
        F.hour(column) * 3_600 + F.minute(column) * 60
    )
    # The second with its fraction, a decimal(8,6).
    return seconds * 1_000_000 + (F.extract(F.lit("SECOND"), column) * 1_000_000).cast("bigint")


def moment(column: Column, kind: T.DataType, what: str) -> Column:
    """A version or an expiry time: integers as they are, timestamps in microseconds."""
    if isinstance(kind, INTEGERS):
        return column.cast("bigint")
    if isinstance(kind, (T.TimestampType, T.TimestampNTZType)):
        return micros(column, kind)
    raise NacreError(f"{what} ({kind.simpleString()}): integers (microseconds) and timestamps can be that")


def plain_text(column: Column, kind: T.DataType) -> Column:
    """A string that is compared by its bytes, whatever its collation."""
    if getattr(kind, "collationId", 0) != 0:
        return F.collate(column, "UTF8_BINARY")
    return column.cast("string")


def checked_text(column: Column, kind: T.DataType) -> Column:
    """A string that is UTF-8. Spark 3.5 cannot say: there a string made of other bytes is written as it is."""
    text = plain_text(column, kind)
    return F.validate_utf8(text) if hasattr(F, "validate_utf8") else text
