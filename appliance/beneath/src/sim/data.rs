//! A file's content: pages that copies share until one of them is written.

use super::chance::Chance;
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes as a whole or not at all, and what its space is counted in.
pub(super) const PAGE: usize = 4096;

/// A content. What is behind its end in the last page is zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Data {
    len: usize,
    pages: Vec<Arc<[u8; PAGE]>>,
}

impl Data {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The space that it takes, in bytes.
    pub(super) fn space(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// Reads from a position; returns how many bytes there were.
    pub(super) fn read_at(&self, at: usize, buffer: &mut [u8]) -> usize {
        let len = buffer.len().min(self.len.saturating_sub(at));
        let mut done = 0;
        while done < len {
            let (page, begin) = ((at + done) / PAGE, (at + done) % PAGE);
            let piece = (len - done).min(PAGE - begin);
            buffer[done..done + piece].copy_from_slice(&self.pages[page][begin..begin + piece]);
            done += piece;
        }
        len
    }

    /// Writes at a position, with zeros between the end and there. Returns the pages it touched.
    pub(super) fn write_at(&mut self, at: usize, bytes: &[u8]) -> Range<usize> {
        if bytes.is_empty() {
            return 0..0;
        }
        let first = self.pages.len().min(at / PAGE);
        self.extend(at + bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let (page, begin) = ((at + done) / PAGE, (at + done) % PAGE);
            let piece = (bytes.len() - done).min(PAGE - begin);
            let page = Arc::make_mut(&mut self.pages[page]);
            page[begin..begin + piece].copy_from_slice(&bytes[done..done + piece]);
            done += piece;
        }
        first..(at + bytes.len()).div_ceil(PAGE)
    }

    /// Makes its first byte another one, where there is one.
    pub(super) fn rot(&mut self) {
        if self.len > 0
            && let Some(first) = self.pages.first_mut()
        {
            Arc::make_mut(first)[0] ^= 0x80;
        }
    }

    /// Cuts it off or fills it up with zeros.
    pub(super) fn set_len(&mut self, len: usize) {
        if len >= self.len {
            self.extend(len);
            return;
        }
        self.pages.truncate(len.div_ceil(PAGE));
        self.len = len;
        if !len.is_multiple_of(PAGE)
            && let Some(last) = self.pages.last_mut()
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
    }

    /// Becomes what `live` is, which differs in these pages and in its length only.
    pub(super) fn follow(&mut self, live: &Data, dirty: Range<usize>) {
        self.len = live.len;
        self.pages.truncate(live.pages.len());
        let same = self.pages.len();
        self.pages.extend_from_slice(&live.pages[same..]);
        for page in dirty.start..dirty.end.min(same) {
            self.pages[page] = Arc::clone(&live.pages[page]);
        }
    }

    /// Becomes as long as `live`, but stays what it is: what should have been written wasn't.
    pub(super) fn stay(&mut self, live: &Data) {
        self.set_len(live.len);
    }

    /// What a power cut may leave: each page as it was or as it is, the length likewise or at the
    /// end of a page between.
    pub(super) fn torn(old: &Data, new: &Data, chance: &mut Chance) -> Data {
        let len = match chance.below(3) {
            0 => old.len,
            1 => new.len,
            _ if new.len > old.len => {
                let pages = new.len.div_ceil(PAGE) - old.len / PAGE;
                let more = chance.below(pages as u64);
                let end = (old.len / PAGE + usize::try_from(more).unwrap_or(0)) * PAGE;
                end.clamp(old.len, new.len)
            }
            _ => new.len,
        };
        let mut torn = Data::default();
        torn.extend(len);
        for (at, page) in torn.pages.iter_mut().enumerate() {
            let which = match (old.pages.get(at), new.pages.get(at)) {
                (Some(old), Some(new)) => Some(if chance.coin() { new } else { old }),
                (old, new) => new.or(old),
            };
            if let Some(which) = which {
                *page = Arc::clone(which);
            }
        }
        // What one of them has behind this end isn't part of it.
        if !len.is_multiple_of(PAGE)
            && let Some(last) = torn.pages.last_mut()
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        torn
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read_at(0, &mut bytes);
        bytes
    }

    fn extend(&mut self, len: usize) {
        if len > self.len {
            self.len = len;
            self.pages
                .resize_with(len.div_ceil(PAGE), || Arc::new([0; PAGE]));
        }
    }
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Data {
        let mut data = Data::default();
        data.write_at(0, bytes);
        data
    }
}
