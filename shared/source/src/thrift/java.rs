//! The few forms of Java's object serialization that columns of a database take: strings, boxed numbers and booleans, byte
//! arrays. Source: Java Object Serialization Specification, chapter 6.
//!
//! An object's class stands before its value and is always the same bytes, so it is compared, not parsed: anything else
//! (dates, decimals, classes of one's own) is not read.

use crate::doc::Doc;

const MAGIC: [u8; 4] = [0xAC, 0xED, 0x00, 0x05];

/// A boxed number: class name, serial version, the type of its one field `value`.
struct Boxed {
    name: &'static str,
    serial: u64,
    kind: u8,
    is_number: bool,
}

const BOXED: [Boxed; 7] = [
    Boxed { name: "java.lang.Byte", serial: 0x9C4E_6084_EE50_F51C, kind: b'B', is_number: true },
    Boxed { name: "java.lang.Short", serial: 0x684D_3713_3460_DA52, kind: b'S', is_number: true },
    Boxed { name: "java.lang.Integer", serial: 0x12E2_A0A4_F781_8738, kind: b'I', is_number: true },
    Boxed { name: "java.lang.Long", serial: 0x3B8B_E490_CC8F_23DF, kind: b'J', is_number: true },
    Boxed { name: "java.lang.Float", serial: 0xDAED_C9A2_DB3C_F0EC, kind: b'F', is_number: true },
    Boxed { name: "java.lang.Double", serial: 0x80B3_C24A_296B_FB04, kind: b'D', is_number: true },
    Boxed { name: "java.lang.Boolean", serial: 0xCD20_7280_D59C_FAEE, kind: b'Z', is_number: false },
];

impl Boxed {
    /// Everything before the value.
    fn head(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        let mut head = vec![0x73, 0x72];
        text(&mut head, self.name);
        head.extend_from_slice(&self.serial.to_be_bytes());
        head.extend_from_slice(&[0x02, 0x00, 0x01, self.kind]);
        text(&mut head, "value");
        head.push(0x78);
        if self.is_number {
            head.push(0x72);
            text(&mut head, "java.lang.Number");
            head.extend_from_slice(&0x86AC_951D_0B94_E08B_u64.to_be_bytes());
            head.extend_from_slice(&[0x02, 0x00, 0x00, 0x78]);
        }
        head.push(0x70);
        head
    }
}

/// Reads one object; `None` for anything else.
pub(super) fn read(bytes: &[u8]) -> Option<Doc> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    match rest.first()? {
        0x70 => (rest.len() == 1).then_some(Doc::Null),
        0x74 => {
            let (length, text) = rest.get(1..)?.split_at_checked(2)?;
            string(text, u64::from(u16::from_be_bytes(length.try_into().ok()?)))
        }
        0x7C => {
            let (length, text) = rest.get(1..)?.split_at_checked(8)?;
            string(text, u64::from_be_bytes(length.try_into().ok()?))
        }
        0x75 => {
            // A byte array: class "[B", its serial version, no fields, no superclass, the length.
            let head = [
                &[0x75, 0x72, 0x00, 0x02][..],
                b"[B",
                &0xACF3_17F8_0608_54E0_u64.to_be_bytes(),
                &[0x02, 0, 0, 0x78, 0x70],
            ];
            let (length, bytes) = rest.strip_prefix(&head.concat()[..])?.split_at_checked(4)?;
            let length = u32::from_be_bytes(length.try_into().ok()?);
            (usize::try_from(length).ok()? == bytes.len()).then(|| Doc::Bytes(bytes.to_vec()))
        }
        0x73 => BOXED.iter().find_map(|boxed| {
            let value = rest.strip_prefix(&boxed.head()[..])?;
            Some(match boxed.kind {
                b'B' => Doc::Int(i8::from_be_bytes(value.try_into().ok()?).into()),
                b'S' => Doc::Int(i16::from_be_bytes(value.try_into().ok()?).into()),
                b'I' => Doc::Int(i32::from_be_bytes(value.try_into().ok()?).into()),
                b'J' => Doc::Int(i64::from_be_bytes(value.try_into().ok()?).into()),
                b'F' => Doc::Float(f32::from_be_bytes(value.try_into().ok()?).into()),
                b'D' => Doc::Float(f64::from_be_bytes(value.try_into().ok()?)),
                _ => Doc::Bool(*value.first().filter(|_| value.len() == 1)? != 0),
            })
        }),
        _ => None,
    }
}

/// Java's "modified UTF-8": NUL in two bytes, characters beyond the first plane as surrogates of three bytes each.
fn string(bytes: &[u8], length: u64) -> Option<Doc> {
    if u64::try_from(bytes.len()).ok()? != length {
        return None;
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().map(|byte| u16::from(*byte));
    while let Some(first) = rest.next() {
        let mut more = || rest.next().filter(|byte| byte & 0xC0 == 0x80).map(|byte| byte & 0x3F);
        units.push(match first {
            0x00..=0x7F => first,
            0xC0..=0xDF => (first & 0x1F) << 6 | more()?,
            0xE0..=0xEF => (first & 0x0F) << 12 | more()? << 6 | more()?,
            _ => return None,
        });
    }
    String::from_utf16(&units).ok().map(Doc::Text)
}
