//! A GGUF file cut at every length and with every bit flipped: never a panic, never more memory
//! than the file's size excuses. One test alone in its binary, since it counts every allocation.

mod writer;

use ingle_backend::Bytes;
use ingle_model::gguf::Gguf;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The most that reading may allocate for each byte of the file. An entry of 13 bytes costs some
/// 100 in the list of entries (which doubles as it grows) and the index of keys.
const PER_BYTE: usize = 24;
/// For error messages, which quote a key or name.
const SLACK: usize = 4096;

/// Reads everything that can be read, and tells whether the file was accepted.
fn read(bytes: Bytes) -> bool {
    let Ok(file) = Gguf::from_bytes(bytes) else { return false };
    for (key, _) in file.metadata() {
        let _ = (file.str(key), file.uint(key), file.float(key), file.bool(key), file.ints(key));
        let _ = (file.strs(key).map(|all| all.iter().count()), file.f32s(key));
    }
    for info in file.tensors() {
        let Ok(tensor) = file.tensor(&info.name) else { continue };
        assert_eq!(
            tensor.format.row_bytes(tensor.cols).map(|bytes| bytes * tensor.rows),
            Some(tensor.bytes.len())
        );
    }
    true
}

#[track_caller]
fn check(bytes: Bytes, accepted: &mut usize) {
    let limit = SLACK + PER_BYTE * bytes.len();
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    *accepted += usize::from(read(bytes));
    let used = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(used <= limit, "{used} bytes allocated where {limit} are enough");
}

/// Many entries and tensors as small as they can be, for which our own lists cost most.
fn dense() -> Vec<u8> {
    let mut writer = writer::Writer::new();
    for i in 0..3000 {
        // Of a type that takes no bytes of ours, since two tensors may not lie on the same.
        writer = writer.entry(&format!("{i:x}"), 0, &[0]).tensor_at(&format!("{i:x}"), &[1], 99, 0);
    }
    writer.bytes()
}

#[test]
fn cut_and_flipped_files_are_read_or_refused() {
    let whole = writer::everything().bytes();
    assert!(read(Bytes::from(whole.clone())));

    let mut accepted = 0;
    check(Bytes::from(dense()), &mut accepted);
    assert_eq!(accepted, 1, "dense file");

    accepted = 0;
    let all = Bytes::from(whole.clone());
    for length in 0..whole.len() {
        check(all.slice(0..length).expect("within the file"), &mut accepted);
    }
    // The last tensor is of a type of unknown length, so its bytes may all be missing.
    assert_eq!(accepted, 132, "cut files");

    accepted = 0;
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(Bytes::from(flipped), &mut accepted);
    }
    assert!(accepted > 0, "a flipped weight is still a weight");

    // All bits set where a length may stand.
    for at in 0..whole.len().saturating_sub(8) {
        let mut flooded = whole.clone();
        flooded[at..at + 8].fill(0xff);
        check(Bytes::from(flooded), &mut accepted);
    }
}
