"""The tables of TPC-H as nacre holds them: which columns are the key, and which are packed as the value.

Keys are packed in SQL and values made by DuckDB, so what is compared does not come from nacre's own code."""

KEYS = {"orders": ["o_orderkey"], "lineitem": ["l_orderkey", "l_linenumber"]}

VALUES = {
    "orders": "o_custkey o_orderstatus o_totalprice o_orderdate o_orderpriority o_clerk o_shippriority o_comment",
    "lineitem": "l_partkey l_suppkey l_quantity l_extendedprice l_discount l_tax l_returnflag l_linestatus l_shipdate"
    " l_commitdate l_receiptdate l_shipinstruct l_shipmode l_comment",
}

# What docs/values.md makes strings of: decimals and dates.
TEXTS = "o_totalprice o_orderdate l_quantity l_extendedprice l_discount l_tax l_shipdate l_commitdate l_receiptdate"

# The pages that make a file of pyarrow's adoptable.
PYARROW = dict(
    use_dictionary=False,
    write_page_index=True,
    write_page_checksum=True,
    row_group_size=5120,
    max_rows_per_page=128,
    write_batch_size=128,
)


def values(table):
    """The columns that are packed; the second coming of `orders` has one more, in front."""
    if table == "second":
        return ["o_tag", *values("orders")]
    return VALUES[table].split()


def keys(table):
    """The key's columns."""
    return KEYS["orders" if table == "second" else table]


def packed_part(column, to_hex):
    """SQL for the hexadecimal digits of a number that is not negative, packed as docs/keys.md says."""
    digits = f"{to_hex}({column})"
    length = f"CAST(floor((length({digits}) + 1) / 2) AS INT)"
    return (
        f"CASE WHEN {column} = 0 THEN '14'"
        f" ELSE concat({to_hex}(20 + {length}), lpad({digits}, 2 * {length}, '0')) END"
    )


def packed_key(table, to_hex="to_hex"):
    """SQL for the hexadecimal digits of a row's key; `to_hex` is `hex` in Spark."""
    return "concat(" + ", ".join(packed_part(column, to_hex) for column in keys(table)) + ")"


def columns(table, text="VARCHAR"):
    """SQL for the packed columns as JSON has them; `text` is `STRING` in Spark."""
    texts = set(TEXTS.split())
    return [f"CAST({name} AS {text}) AS {name}" if name in texts else name for name in values(table)]


def value(table):
    """SQL for DuckDB: the packed value."""
    named = zip(values(table), columns(table))
    fields = ", ".join(f"{name} := {column.removesuffix(' AS ' + name)}" for name, column in named)
    return f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"


def parts(table):
    """SQL for the parts of the key as JSON."""
    return "concat('[', " + ", ',', ".join(keys(table)) + ", ']')"


def rows(table, file):
    """SQL for DuckDB: `key`, `parts` and `value` of every row of a file."""
    key = f"unhex({packed_key(table)})"
    return f"SELECT {key} AS key, {parts(table)} AS parts, {value(table)} AS value FROM '{file}'"


def connect():
    """DuckDB with the memory and threads of a small machine."""
    import duckdb

    return duckdb.connect(config={"memory_limit": "2GB", "threads": 2})
