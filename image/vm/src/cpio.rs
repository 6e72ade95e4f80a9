//! The archive format of an initial RAM disk ("newc", the kernel's `buffer-format.rst`).

use std::fmt::Write as _;

/// An archive being put together.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    /// Adds a folder; those above it come first.
    pub(crate) fn folder(&mut self, name: &str) {
        self.add(name, 0o040_755, &[]);
    }

    /// Adds a file that can be executed.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.add(name, 0o100_755, content);
    }

    /// The whole of it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let content_len = u32::try_from(content.len()).expect("no file of an initrd has 4 GiB");
        let name_len = u32::try_from(name.len() + 1).expect("a name is short");
        let mut header = String::from("070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, device (2), rdevice (2), namesize, check
        for field in [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            content_len,
            0,
            0,
            0,
            0,
            name_len,
            0,
        ] {
            write!(header, "{field:08X}").expect("a String takes all");
        }
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn name_and_content_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.file("ab", b"12345");
        let bytes = archive.finish();
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000081ED", "a file, rwxr-xr-x");
        assert_eq!(&bytes[54..62], b"00000005", "its length");
        assert_eq!(&bytes[94..102], b"00000003", "its name's, with the zero");
        assert_eq!(&bytes[110..116], b"ab\0\0\0\0");
        assert_eq!(&bytes[116..124], b"12345\0\0\0");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(&bytes[234..244], b"TRAILER!!!");
        assert_eq!(bytes.len() % 4, 0);
    }
}
