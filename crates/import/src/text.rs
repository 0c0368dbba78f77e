//! Bytes to text: what shells and editors make of a redirected output.

use crate::ImportError;

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The text of a file in UTF-8, or in UTF-16 with a byte order mark as PowerShell writes it.
///
/// Single bytes that are no UTF-8 (a `±` in another code page) become `�`; colours of a terminal
/// are taken out.
///
/// # Errors
/// Databases, and files with zero bytes, which no text has.
pub fn decode(bytes: &[u8]) -> Result<String, ImportError> {
    if bytes.starts_with(SQLITE_MAGIC) {
        return Err(ImportError::Sqlite);
    }
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    if text.contains('\0') {
        return Err(ImportError::NotText);
    }
    Ok(without_colours(&text))
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Takes out `ESC [ … letter` (ECMA-48, control sequences).
fn without_colours(text: &str) -> String {
    if !text.contains('\u{1b}') {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            // Parameters end at the first byte from `@` to `~`, at the latest with the line.
            while let Some(&next) = chars.peek() {
                if next == '\n' {
                    break;
                }
                chars.next();
                if ('@'..='~').contains(&next) {
                    break;
                }
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_order_marks_and_utf16_of_a_windows_shell() {
        assert_eq!(decode(b"\xef\xbb\xbf[]").unwrap(), "[]");
        let little: Vec<u8> = std::iter::once(0xfeff)
            .chain("1 ± 2".encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(decode(&little).unwrap(), "1 ± 2");
        let big: Vec<u8> =
            std::iter::once(0xfeff).chain("ab".encode_utf16()).flat_map(u16::to_be_bytes).collect();
        assert_eq!(decode(&big).unwrap(), "ab");
        // An odd byte at the end of a cut file.
        assert_eq!(decode(b"\xff\xfea\0b").unwrap(), "a");
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(decode(b"\x1b[1;32m| a |\x1b[0m\n").unwrap(), "| a |\n");
        assert_eq!(decode(b"\x1b[31\nb").unwrap(), "\nb");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(matches!(decode(b"SQLite format 3\0\x10"), Err(ImportError::Sqlite)));
        assert!(matches!(decode(b"GGUF\x03\0\0\0"), Err(ImportError::NotText)));
        assert_eq!(decode(b"a \xb1 b").unwrap(), "a \u{fffd} b");
    }
}
