//! What somebody does next, by chance and the same for the same seed.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// One of many, of one seed.
    pub(crate) fn new(seed: u64, number: u64) -> Chance {
        // Mixed, or one's numbers would be its neighbour's a little later.
        let mixed = Chance(seed).next() ^ number;
        Chance(Chance(mixed).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The same as a length.
    pub(crate) fn len_below(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("it is below a length")
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A content that compresses badly and is like no other: mostly small, now and then large.
    pub(crate) fn content(&mut self) -> Vec<u8> {
        let len_max = match self.below(100) {
            0..70 => 4 << 10,
            70..97 => 64 << 10,
            _ => 1 << 20,
        };
        let len = self.len_below(len_max);
        let mut content = Vec::with_capacity(len + 8);
        while content.len() < len {
            content.extend_from_slice(&self.next().to_le_bytes());
        }
        content.truncate(len);
        content
    }
}
