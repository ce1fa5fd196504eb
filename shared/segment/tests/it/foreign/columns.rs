//! Column mapping, typed keys and packed values, on files made here.

use bytes::Bytes;
use nacre_segment::foreign::{Caps, ForeignReader, LoadColumns, Problem, ReadRequest, declare_key, row_cuts};
use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};
use nacre_types::tuple::{self, Part};
use nacre_types::{KeyPart, KeyPartType, KeySchema};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

/// The values of one leaf with their levels.
pub(super) enum Column<'a> {
    Bool(&'a [bool], Levels<'a>),
    I32(&'a [i32], Levels<'a>),
    I64(&'a [i64], Levels<'a>),
    I96(&'a [[u32; 3]], Levels<'a>),
    F32(&'a [f32], Levels<'a>),
    F64(&'a [f64], Levels<'a>),
    Bytes(&'a [&'a [u8]], Levels<'a>),
    Fixed(&'a [&'a [u8]], Levels<'a>),
}

/// Definition and repetition levels.
pub(super) type Levels<'a> = (Option<&'a [i16]>, Option<&'a [i16]>);
const NONE: Levels<'static> = (None, None);

/// A file of one row group.
pub(super) fn file(schema: &str, columns: &[Column<'_>]) -> Bytes {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut out = group.next_column().unwrap().unwrap();
        write(&mut out, column);
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap().into()
}

fn write(out: &mut SerializedColumnWriter<'_>, column: &Column<'_>) {
    match column {
        Column::Bool(values, (d, r)) => out.typed::<BoolType>().write_batch(values, *d, *r).unwrap(),
        Column::I32(values, (d, r)) => out.typed::<Int32Type>().write_batch(values, *d, *r).unwrap(),
        Column::I64(values, (d, r)) => out.typed::<Int64Type>().write_batch(values, *d, *r).unwrap(),
        Column::F32(values, (d, r)) => out.typed::<FloatType>().write_batch(values, *d, *r).unwrap(),
        Column::F64(values, (d, r)) => out.typed::<DoubleType>().write_batch(values, *d, *r).unwrap(),
        Column::I96(values, (d, r)) => {
            let values: Vec<Int96> = values
                .iter()
                .map(|[a, b, c]| {
                    let mut value = Int96::new();
                    value.set_data(*a, *b, *c);
                    value
                })
                .collect();
            out.typed::<Int96Type>().write_batch(&values, *d, *r).unwrap()
        }
        Column::Bytes(values, (d, r)) => {
            let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(value.to_vec())).collect();
            out.typed::<ByteArrayType>().write_batch(&values, *d, *r).unwrap()
        }
        Column::Fixed(values, (d, r)) => {
            let values: Vec<FixedLenByteArray> =
                values.iter().map(|value| ByteArray::from(value.to_vec()).into()).collect();
            out.typed::<FixedLenByteArrayType>().write_batch(&values, *d, *r).unwrap()
        }
    };
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) version: Option<i64>,
    pub(super) expires_at: Option<i64>,
    pub(super) value: Option<String>,
}

pub(super) fn read(file: &Bytes, request: &ReadRequest) -> (Vec<Row>, Vec<Problem>) {
    let mut reader = ForeignReader::open_with(Arc::new(file.clone()), request, &Caps::default()).unwrap();
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    while let Some(batch) = reader.next_batch().unwrap() {
        rows.extend(batch.rows().map(|row| Row {
            key: row.key.to_vec(),
            version: row.version,
            expires_at: row.expires_at,
            value: row.value.map(|value| String::from_utf8_lossy(value).into_owned()),
        }));
        problems.extend_from_slice(batch.problems());
    }
    (rows, problems)
}

pub(super) fn open_error(file: &Bytes, request: &ReadRequest) -> String {
    let error = ForeignReader::open_with(Arc::new(file.clone()), request, &Caps::default()).unwrap_err();
    assert_eq!(error.code(), "load-columns", "{error}");
    error.detail().to_owned()
}

pub(super) fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

fn part(name: &str, kind: KeyPartType) -> KeyPart {
    KeyPart { name: name.into(), kind }
}

const SIMPLE: &str = "message m { required binary key (UTF8); required int64 n; optional binary value; }";

fn simple() -> Bytes {
    file(
        SIMPLE,
        &[
            Column::Bytes(&[b"a", b"b", b"", b"d"], NONE),
            Column::I64(&[1, 2, 3, 4], NONE),
            Column::Bytes(&[b"x", b"z", b"w"], (Some(&[1, 0, 1, 1]), None)),
        ],
    )
}

#[test]
fn wrong_names_and_types_list_what_there_is() {
    let file = simple();
    let request = |columns| ReadRequest { columns, ..ReadRequest::default() };
    let listed = "the file has the columns key (string), n (integer), value (binary)";
    let error =
        open_error(&file, &request(LoadColumns { value: Some("v".into()), ..LoadColumns::default() }));
    assert_eq!(error, format!("there is no column \"v\"; {listed}"));
    let error =
        open_error(&file, &request(LoadColumns { value: Some("n".into()), ..LoadColumns::default() }));
    assert!(error.contains("\"n\" (integer) cannot be the value") && error.ends_with(listed), "{error}");
    let error = open_error(&file, &request(LoadColumns { key: names(&["n"]), ..LoadColumns::default() }));
    assert!(error.contains("\"n\" (integer) cannot be the key"), "{error}");
    let error =
        open_error(&file, &request(LoadColumns { delete: Some("n".into()), ..LoadColumns::default() }));
    assert!(error.contains("must be boolean"), "{error}");
    let error =
        open_error(&file, &request(LoadColumns { version: Some("key".into()), ..LoadColumns::default() }));
    assert!(error.contains("\"key\" (string) cannot be the version"), "{error}");
    let both =
        LoadColumns { value: Some("value".into()), pack: Some(names(&["n"])), ..LoadColumns::default() };
    assert!(open_error(&file, &request(both)).contains("both a value column and columns to pack"));
}

#[test]
fn rows_that_cannot_be_loaded_are_named_and_left_out() {
    let file = simple();
    let (rows, problems) = read(&file, &ReadRequest::default());
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1].value, None, "a null value is a tombstone");
    let expected = Problem {
        row: 2,
        column: Some("key".into()),
        detail: "the key is empty; a key has 1 to 2048 bytes".into(),
    };
    assert_eq!(problems, [expected]);
}

#[test]
fn a_delete_column_makes_tombstones_and_forbids_nulls() {
    let file = file(
        "message m { required binary key; optional boolean gone; optional binary value; optional int64 at (TIMESTAMP_MILLIS); }",
        &[
            Column::Bytes(&[b"a", b"b", b"c", b"d"], NONE),
            Column::Bool(&[true, false, false], (Some(&[1, 1, 0, 1]), None)),
            Column::Bytes(&[b"x", b"y"], (Some(&[1, 0, 1, 0]), None)),
            Column::I64(&[5, 6, 7], (Some(&[1, 1, 1, 0]), None)),
        ],
    );
    let columns =
        LoadColumns { delete: Some("gone".into()), version: Some("at".into()), ..LoadColumns::default() };
    let (rows, problems) = read(&file, &ReadRequest { columns, ..ReadRequest::default() });
    let row = |key: &str, version, value: Option<&str>| Row {
        key: key.into(),
        version: Some(version),
        expires_at: None,
        value: value.map(str::to_owned),
    };
    assert_eq!(rows, [row("a", 5_000, None), row("c", 7_000, Some("y"))]);
    let told: Vec<(u64, &str)> = problems.iter().map(|p| (p.row, p.column.as_deref().unwrap())).collect();
    assert_eq!(told, [(1, "value"), (3, "at")]);
}

#[test]
fn typed_keys_are_packed_from_their_columns() {
    let uuid: &[u8] = &[7; 16];
    let file = file(
        "message m { required binary s (UTF8); required binary b; required int32 i; required int64 u (UINT_64);
          required fixed_len_byte_array(16) id (UUID); required int32 d (DATE); required int64 t (TIMESTAMP(NANOS,true));
          required int96 old; optional binary value; }",
        &[
            Column::Bytes(&[b"x\0", b"y", b"\xFF"], NONE),
            Column::Bytes(&[b"\0", b"", b""], NONE),
            Column::I32(&[-5, i32::MIN, 0], NONE),
            Column::I64(&[9, -1, 0], NONE),
            Column::Fixed(&[uuid, uuid, uuid], NONE),
            Column::I32(&[19_782, 0, 0], NONE),
            Column::I64(&[-1_000, 0, 0], NONE),
            // 1970-01-02 and 3 microseconds.
            Column::I96(&[[3_000, 0, 2_440_589], [0, 0, 2_440_588], [0, 0, 0]], NONE),
            Column::Bytes(&[b"v", b"v", b"v"], (Some(&[1, 1, 1]), None)),
        ],
    );
    let key = names(&["s", "b", "i", "u", "id", "d", "t", "old"]);
    let columns = LoadColumns { key, ..LoadColumns::default() };
    let schema = declare_key(&file, &columns, &[], &Caps::default()).unwrap();
    let kinds = [
        KeyPartType::String,
        KeyPartType::Bytes,
        KeyPartType::Int64,
        KeyPartType::Int64,
        KeyPartType::Uuid,
        KeyPartType::Date,
        KeyPartType::Timestamp,
        KeyPartType::Timestamp,
    ];
    let expected = columns.key.iter().zip(kinds).map(|(name, kind)| part(name, kind)).collect();
    assert_eq!(schema, KeySchema::Parts(expected));
    let (rows, problems) = read(&file, &ReadRequest { columns, key: schema, ..ReadRequest::default() });
    let parts = [
        Part::String("x\0".into()),
        Part::Bytes(Bytes::from_static(b"\0")),
        Part::Int64(-5),
        Part::Int64(9),
        Part::Uuid([7; 16]),
        Part::Date(19_782),
        Part::Timestamp(-1),
        Part::Timestamp(86_400_000_003),
    ];
    assert_eq!(rows[0].key, tuple::pack(&parts));
    let told: Vec<(u64, &str, &str)> =
        problems.iter().map(|p| (p.row, p.column.as_deref().unwrap(), &p.detail[..])).collect();
    assert_eq!(told, [(1, "u", "18446744073709551615 does not fit an int64"), (2, "s", "not UTF-8")]);
}

#[test]
fn a_typed_table_takes_packed_keys_and_folders_too() {
    let schema = KeySchema::Parts(vec![part("day", KeyPartType::Date), part("n", KeyPartType::Int64)]);
    let file = simple();
    let columns = LoadColumns { key: names(&["day", "n"]), ..LoadColumns::default() };
    let folder_columns = vec![("day".to_owned(), "2024-02-29".to_owned())];
    let request = ReadRequest { columns, key: schema.clone(), folder_columns, ..ReadRequest::default() };
    let (rows, _) = read(&file, &request);
    assert_eq!(rows[3].key, tuple::pack(&[Part::Date(19_782), Part::Int64(4)]));
    // Named like the parts, the columns need not be named again.
    let (again, _) = read(&file, &ReadRequest { columns: LoadColumns::default(), ..request.clone() });
    assert_eq!(rows, again);
    // Without such columns, `key` holds packed keys; these here are none.
    let (rows, problems) = read(&file, &ReadRequest { key: schema, ..ReadRequest::default() });
    assert!(rows.is_empty() && problems.len() == 4, "{problems:?}");
    assert!(problems[0].detail.contains("is not a packed one: no date at byte 0"), "{}", problems[0].detail);
    let wrong = vec![("day".to_owned(), "yesterday".to_owned())];
    let error = ForeignReader::open_with(
        Arc::new(file),
        &ReadRequest { folder_columns: wrong, ..request },
        &Caps::default(),
    )
    .unwrap_err();
    assert!(error.detail().contains("yesterday") && error.detail().contains("2024-02-29"), "{error}");
}

#[test]
fn packed_values_follow_the_documented_table() {
    let schema = "message m { required binary key; optional boolean b; optional int64 i; required int64 u (UINT_64);
        required float f; required double d; optional binary s (UTF8); optional binary raw;
        required fixed_len_byte_array(16) id (UUID); required int32 day (DATE); required int32 clock (TIME_MILLIS);
        required int64 at (TIMESTAMP_MICROS); required int64 fine (TIMESTAMP(NANOS,true)); required int32 dec (DECIMAL(9,2));
        required fixed_len_byte_array(9) big (DECIMAL(20,3)); required fixed_len_byte_array(12) span (INTERVAL); }";
    let all: Levels<'_> = (Some(&[1, 0]), None);
    let minus = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFB];
    let file = file(
        schema,
        &[
            Column::Bytes(&[b"a", b"b"], NONE),
            Column::Bool(&[true], all),
            Column::I64(&[9_007_199_254_740_993], all),
            Column::I64(&[9_007_199_254_740_992, -1], NONE),
            Column::F32(&[0.1, f32::INFINITY], NONE),
            Column::F64(&[1e300, f64::NAN], NONE),
            Column::Bytes(&["q\"\u{1}ü".as_bytes()], all),
            Column::Bytes(&[b"\x00\xFF"], all),
            Column::Fixed(&[&[0x12; 16], &[0xAB; 16]], NONE),
            Column::I32(&[19_782, -1], NONE),
            Column::I32(&[43_200_005, 0], NONE),
            Column::I64(&[-1, 0], NONE),
            Column::I64(&[1, 1_000_000_000], NONE),
            Column::I32(&[-5, 12_345], NONE),
            Column::Fixed(&[&[0, 0, 0, 0, 0, 0, 0, 0x30, 0x39], &minus], NONE),
            Column::Fixed(&[&[1, 0, 0, 0, 2, 0, 0, 0, 0xE9, 3, 0, 0], &[0; 12]], NONE),
        ],
    );
    // Name, first and second row's JSON, from the table in the documentation.
    let documented: Vec<[&str; 3]> = include_str!("../../../../../docs/values.md")
        .split("<!-- vectors -->")
        .nth(1)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, _, first, second] = cells[..] else { panic!("four cells in {line}") };
            [name, first, second].map(|cell| cell.trim_matches('`'))
        })
        .collect();
    assert_eq!(documented.len(), 16);
    let pack: Vec<&str> = documented.iter().map(|row| row[0]).collect();
    let columns = LoadColumns { pack: Some(names(&pack)), ..LoadColumns::default() };
    let folder_columns = vec![("region".to_owned(), "eu".to_owned())];
    let (rows, problems) = read(&file, &ReadRequest { columns, folder_columns, ..ReadRequest::default() });
    assert_eq!(problems, []);
    for (at, row) in rows.iter().enumerate() {
        let fields: Vec<String> =
            documented.iter().map(|cells| format!("\"{}\":{}", cells[0], cells[at + 1])).collect();
        assert_eq!(row.value.as_deref().unwrap(), format!("{{{}}}", fields.join(",")));
    }
}

#[test]
fn nested_columns_become_objects_and_lists() {
    let schema = "message m { required binary key;
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
        optional group scores (MAP) { repeated group key_value { required binary key (UTF8); optional int32 value; } }
        optional group by_day (MAP) { repeated group key_value { required int32 key; required int32 value; } }
        optional group user { required int64 id; optional group home { optional binary city (UTF8); } }
        repeated int32 bare;
        optional group deep (LIST) { repeated group list { optional group element (LIST) { repeated group list { required int32 element; } } } } }";
    let file = file(
        schema,
        &[
            Column::Bytes(&[b"a", b"b", b"c"], NONE),
            // ["x", null], [], null
            Column::Bytes(&[b"x"], (Some(&[3, 2, 1, 0]), Some(&[0, 1, 0, 0]))),
            // {"p": 1, "q": null}, {}, null
            Column::Bytes(&[b"p", b"q"], (Some(&[2, 2, 1, 0]), Some(&[0, 1, 0, 0]))),
            Column::I32(&[1], (Some(&[3, 2, 1, 0]), Some(&[0, 1, 0, 0]))),
            Column::I32(&[7], (Some(&[2, 1, 0]), Some(&[0, 0, 0]))),
            Column::I32(&[8], (Some(&[2, 1, 0]), Some(&[0, 0, 0]))),
            // {1, {"city"}}, {2, null}, null
            Column::I64(&[1, 2], (Some(&[1, 1, 0]), None)),
            Column::Bytes(&[b"Bonn"], (Some(&[3, 1, 0]), None)),
            Column::I32(&[1, 2, 3], (Some(&[1, 1, 1, 0]), Some(&[0, 1, 0, 0]))),
            // [[1, 2], null, [3]], [[]], null
            Column::I32(&[1, 2, 3], (Some(&[4, 4, 1 + 1, 4, 3, 0]), Some(&[0, 2, 1, 1, 0, 0]))),
        ],
    );
    // What a list's element being null means in levels: deep is 1, its element 2 (null), the inner list 3 (empty), 4.
    let pack = names(&["tags", "scores", "by_day", "user", "bare", "deep", "user.home.city"]);
    let columns = LoadColumns { pack: Some(pack), ..LoadColumns::default() };
    let (rows, problems) = read(&file, &ReadRequest { columns, ..ReadRequest::default() });
    assert_eq!(problems, []);
    let values: Vec<&str> = rows.iter().map(|row| row.value.as_deref().unwrap()).collect();
    assert_eq!(
        values,
        [
            "{\"tags\":[\"x\",null],\"scores\":{\"p\":1,\"q\":null},\"by_day\":[{\"key\":7,\"value\":8}],\
             \"user\":{\"id\":1,\"home\":{\"city\":\"Bonn\"}},\"bare\":[1,2],\"deep\":[[1,2],null,[3]],\
             \"user.home.city\":\"Bonn\"}",
            "{\"tags\":[],\"scores\":{},\"by_day\":[],\"user\":{\"id\":2,\"home\":null},\"bare\":[3],\
             \"deep\":[[]],\"user.home.city\":null}",
            "{\"tags\":null,\"scores\":null,\"by_day\":null,\"user\":null,\"bare\":[],\"deep\":null,\
             \"user.home.city\":null}",
        ]
    );
    let key = LoadColumns { key: names(&["tags.list.element"]), ..LoadColumns::default() };
    let error = open_error(&file, &ReadRequest { columns: key, ..ReadRequest::default() });
    assert!(error.contains("lies in a list or map"), "{error}");
}

#[test]
fn a_packed_value_beyond_the_limit_is_named_and_the_next_row_is_read() {
    let long = vec![b'x'; 600_000];
    let file = file(
        "message m { required binary key; repeated binary s (UTF8); required int32 n; }",
        &[
            Column::Bytes(&[b"a", b"b"], NONE),
            Column::Bytes(&[&long, &long, &long, b"y"], (Some(&[1, 1, 1, 1]), Some(&[0, 1, 1, 0]))),
            Column::I32(&[1, 2], NONE),
        ],
    );
    let columns = LoadColumns { pack: Some(names(&["s", "n"])), ..LoadColumns::default() };
    let (rows, problems) = read(&file, &ReadRequest { columns, ..ReadRequest::default() });
    assert_eq!(rows[0].value.as_deref(), Some("{\"s\":[\"y\"],\"n\":2}"));
    assert_eq!((problems[0].row, problems[0].column.as_deref()), (0, Some("s")));
    assert!(problems[0].detail.contains("value_bytes"), "{}", problems[0].detail);
}

#[test]
fn row_groups_among_rows_to_skip_are_not_read() {
    let settings = WriterSettings { rows_per_page: 10, rows_per_group: 20, ..WriterSettings::default() };
    let mut writer = SegmentWriter::new(Vec::new(), settings).unwrap();
    for number in 0..95 {
        let key = format!("k{number:03}");
        let row = SegmentRow {
            key: key.as_bytes(),
            version: number,
            place: None,
            expires_at: None,
            value: Some(b"v"),
        };
        writer.push(&row).unwrap();
    }
    let file: Bytes = writer.finish().unwrap().0.into();
    for (skip_rows, first) in [(0, 0), (19, 0), (20, 20), (39, 20), (61, 60), (94, 80), (95, 95), (500, 95)] {
        let request = ReadRequest { skip_rows, ..ReadRequest::default() };
        let mut reader =
            ForeignReader::open_with(Arc::new(file.clone()), &request, &Caps::default()).unwrap();
        let (mut next, mut count) = (first, 0);
        while let Some(batch) = reader.next_batch().unwrap() {
            for row in batch.rows() {
                assert_eq!((row.file_row, row.version), (next, Some(next as i64)), "{skip_rows} skipped");
                (next, count) = (next + 1, count + 1);
            }
        }
        assert_eq!(count, 95 - first, "{skip_rows} skipped");
    }
    // Cut into parts, each row is in exactly one.
    for (part_bytes, fewest, most) in [(0, 4, 4), (1, 4, 4), (file.len() as u64 / 3, 1, 3), (1 << 20, 0, 0)] {
        let cuts = row_cuts(&file, &Caps::default(), part_bytes).unwrap();
        assert!(cuts.iter().all(|cut| cut % 20 == 0 && *cut > 0 && *cut < 95), "{cuts:?}");
        assert!((fewest..=most).contains(&cuts.len()), "{part_bytes}: {cuts:?}");
        let mut next = 0;
        for (part, skip_rows) in [0].iter().chain(&cuts).copied().enumerate() {
            let request =
                ReadRequest { skip_rows, until_row: cuts.get(part).copied(), ..ReadRequest::default() };
            let mut reader =
                ForeignReader::open_with(Arc::new(file.clone()), &request, &Caps::default()).unwrap();
            while let Some(batch) = reader.next_batch().unwrap() {
                for row in batch.rows() {
                    assert_eq!(row.file_row, next);
                    next += 1;
                }
            }
        }
        assert_eq!(next, 95);
    }
}
