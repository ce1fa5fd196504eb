//! One column chunk of the open row group: encoded pages, one after another.

use crate::codec::Compressor;
use crate::encoding::write_levels;
use crate::index::PageSpan;
use crate::page;
use nacre_types::{Error, Result};

/// A column of the open row group.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Encoded pages.
    pub(super) data: Vec<u8>,
    /// Where they lie in `data`.
    pub(super) pages: Vec<PageSpan>,
    /// Bytes of all pages with headers, had they not been compressed.
    pub(super) uncompressed: u64,
    /// PLAIN values of the open page.
    open: Vec<u8>,
    /// Optional columns: which rows of the open page have a value.
    defined: Option<Vec<bool>>,
    /// A whole page before compression, where levels must come before the values.
    whole: Vec<u8>,
}

impl Chunk {
    pub(super) fn new(optional: bool) -> Self {
        Self {
            data: Vec::new(),
            pages: Vec::new(),
            uncompressed: 0,
            open: Vec::new(),
            defined: optional.then(Vec::new),
            whole: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn push_bytes(&mut self, value: &[u8]) {
        self.open.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.open.extend_from_slice(value);
        if let Some(defined) = &mut self.defined {
            defined.push(true);
        }
    }

    #[inline]
    pub(super) fn push_i64(&mut self, number: i64) {
        self.open.extend_from_slice(&number.to_le_bytes());
        if let Some(defined) = &mut self.defined {
            defined.push(true);
        }
    }

    #[inline]
    pub(super) fn push_null(&mut self) {
        if let Some(defined) = &mut self.defined {
            defined.push(false);
        }
    }

    /// Encodes the open page of `rows` rows; answers its uncompressed size.
    pub(super) fn end_page(&mut self, rows: u32, compressor: &mut Compressor) -> Result<u32> {
        let page = match &mut self.defined {
            None => &self.open,
            Some(defined) => {
                self.whole.clear();
                write_levels(&mut self.whole, defined);
                self.whole.extend_from_slice(&self.open);
                defined.clear();
                &self.whole
            }
        };
        let size = |bytes: usize| {
            u32::try_from(bytes).map_err(|_| Error::internal(format!("a page of {bytes} bytes")))
        };
        let uncompressed = size(page.len())?;
        let body = compressor.compress(page)?;
        let offset = self.data.len();
        page::write_data_header(&mut self.data, rows, uncompressed, size(body.len())?, crc32fast::hash(body));
        self.uncompressed += u64::from(uncompressed) + (self.data.len() - offset) as u64;
        self.data.extend_from_slice(body);
        self.pages.push(PageSpan { offset: offset as u64, length: size(self.data.len() - offset)? });
        self.open.clear();
        Ok(uncompressed)
    }

    /// The bytes of the last page.
    pub(super) fn last_page(&self) -> &[u8] {
        let start = self.pages.last().map_or(self.data.len(), |page| page.offset as usize);
        self.data.get(start..).unwrap_or_default()
    }
}
