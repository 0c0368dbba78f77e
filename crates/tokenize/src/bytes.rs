//! What bytes a token stands for.

/// The characters that byte-level vocabularies write for bytes: those that print for themselves,
/// and for the rest the characters from U+0100 on, in order.
pub(crate) fn byte_chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let mut next = 0x100;
    for (byte, char) in (0..=255u8).zip(&mut chars) {
        let prints = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        *char = if prints {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or('\0')
        };
    }
    chars
}

/// Whether a byte occurs in any text.
pub(crate) fn is_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..)
}

/// The bytes of a token of a byte-level vocabulary; other characters stand for themselves.
pub(crate) fn of_byte_chars(text: &str, out: &mut Vec<u8>) {
    for char in text.chars() {
        match u32::from(char) {
            // In the order of `byte_chars`: 33 control characters and the space, then 0x7F to 0xA0
            // and 0xAD.
            n @ 0x100..=0x120 => out.push((n - 0x100) as u8),
            n @ 0x121..=0x142 => out.push((n - 0x121) as u8 + 0x7F),
            0x143 => out.push(0xAD),
            n @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => out.push(n as u8),
            _ => out.extend(char.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
}

/// The byte that a text like `<0x0A>` spells.
pub(crate) fn spelled(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Byte strings by number, in one piece of memory.
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Pieces {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// Appends what `write` appends as one piece.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The piece with this number; nothing where there is none.
    pub(crate) fn get(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(number)) {
            (Some(start), Some(&end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_has_a_character_and_comes_back() {
        let chars = byte_chars();
        assert_eq!(chars.iter().collect::<HashSet<_>>().len(), 256);
        for (byte, char) in (0..=255u8).zip(chars) {
            let mut out = Vec::new();
            of_byte_chars(&char.to_string(), &mut out);
            assert_eq!(out, [byte], "{char}");
        }
        assert_eq!((chars[usize::from(b' ')], chars[usize::from(b'\n')]), ('Ġ', 'Ċ'));
        assert_eq!(chars[0xAD], '\u{143}');
    }

    #[test]
    fn other_characters_stand_for_themselves() {
        let mut out = Vec::new();
        of_byte_chars("你 ", &mut out);
        assert_eq!(out, "你 ".as_bytes());
    }

    #[test]
    fn spelled_bytes() {
        assert_eq!(spelled("<0x0A>"), Some(10));
        for text in ["<0x0>", "<0x+1>", "0x0A", "<0x0AB>", "<0xä>"] {
            assert_eq!(spelled(text), None, "{text}");
        }
    }

    #[test]
    fn pieces_by_number() {
        let mut pieces = Pieces::new();
        pieces.push(|out| out.extend(b"ab"));
        pieces.push(|_| {});
        pieces.push(|out| out.push(b'c'));
        assert_eq!([pieces.get(0), pieces.get(1), pieces.get(2)], [&b"ab"[..], b"", b"c"]);
        assert_eq!((pieces.get(3), pieces.get(u32::MAX), pieces.len()), (&b""[..], &b""[..], 3));
    }
}
