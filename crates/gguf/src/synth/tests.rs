use std::io::{Read, Seek, SeekFrom};

use foretoken_spec::QuantScheme;
use proptest::prelude::*;

use super::*;
use crate::testing::{bytes_of, spec, tiny_shape};

#[test]
fn the_written_file_is_the_read_one_and_progress_reaches_its_end() {
    for &scheme in QuantScheme::ALL {
        let spec = spec(tiny_shape(), scheme);
        let mut written = Vec::new();
        let mut seen = Vec::new();
        write_synthetic(&spec, &mut written, &mut |at, total| seen.push((at, total))).unwrap();
        assert!(written == bytes_of(&spec), "{scheme}");
        let total = file_bytes(&spec);
        assert_eq!(written.len() as u64, total);
        assert_eq!(seen.last(), Some(&(total, total)));
    }
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let spec = spec(tiny_shape(), QuantScheme::Q4_0);
    let error = write_synthetic(&spec, &mut Full, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn tensors_of_one_type_hold_different_blocks() {
    let spec = spec(tiny_shape(), QuantScheme::Q4_0);
    let header = crate::testing::header_of(&bytes_of(&spec)).unwrap();
    let bytes = bytes_of(&spec);
    let start = |name: &str| {
        let at = (header.data_offset + header.tensor(name).unwrap().offset) as usize;
        bytes[at..at + 512].to_vec()
    };
    assert_ne!(start("blk.0.attn_q.weight"), start("blk.1.attn_q.weight"));
    assert_ne!(start("blk.0.attn_q.weight"), start("blk.0.attn_k.weight"));
    assert_eq!(start("blk.0.attn_norm.weight"), 1f32.to_le_bytes().repeat(128));
}

#[test]
fn seeking_before_the_start_is_an_error_and_past_the_end_reads_nothing() {
    let mut file = SyntheticGguf::new(&spec(tiny_shape(), QuantScheme::Q8_0));
    assert!(file.seek(SeekFrom::Current(-1)).is_err());
    let end = file.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(end, file.len());
    file.seek(SeekFrom::End(100)).unwrap();
    assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
}

proptest! {
    #[test]
    fn reading_anywhere_gives_the_bytes_of_the_written_file(
        scheme in prop::sample::select(QuantScheme::ALL),
        reads in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5000), 1..12),
    ) {
        let mut shape = tiny_shape();
        // Rows of 36 and 100 weights leave padding between tensors.
        (shape.hidden_size, shape.head_dim) = (100, 9);
        let spec = spec(shape, scheme);
        let whole = bytes_of(&spec);
        let mut file = SyntheticGguf::new(&spec);
        for (at, n) in reads {
            let at = at.index(whole.len());
            let mut buffer = vec![0xaa; n];
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            let got = file.read(&mut buffer).unwrap();
            prop_assert_eq!(got, n.min(whole.len() - at));
            prop_assert!(buffer[..got] == whole[at..at + got]);
        }
    }
}
