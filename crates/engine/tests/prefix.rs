//! Cached prefixes: who shares them, and what becomes of them when a model is opened again with the
//! directory that they are kept in. Whatever was done to the files, answers are the same bits.

mod support;

use ingle_engine::{Local, Options, PrefixDisk, Stats};
use ingle_protocol::{Input, Request, Token};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Told, answer, ask, open, request, tiny};

/// A directory of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-prefix-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// The files in it, by name.
    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.0).expect("is there").map(|entry| entry.expect("is").path());
        let mut files: Vec<PathBuf> = files.collect();
        files.sort();
        files
    }

    fn bytes(&self) -> u64 {
        self.files().iter().map(|file| fs::metadata(file).expect("is there").len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Path, bytes_most: u64) -> Options {
    let prefix_disk = Some(PrefixDisk { folder: folder.to_owned(), bytes_most });
    Options { threads: Some(1), prefix_disk, ..Options::default() }
}

const PLENTY: u64 = 1 << 30;
const PROMPT: usize = 200;
/// The tokens of its full blocks, one of them left to compute.
const FULL: u32 = 192;

fn asking(first: Token, salt: &str) -> Request {
    let prompt = (first..first + PROMPT as Token).map(|at| at * 7 % 251).collect();
    Request { logprobs: Some(3), cache_salt: salt.to_owned(), ..request(Input::Tokens(prompt), 12) }
}

/// The chosen token, then the likeliest ones, each with the bits of its log-probability.
fn bits(told: &Told) -> Vec<Vec<(Token, u32)>> {
    let scored = |score: &ingle_protocol::TokenScore| {
        let all = [&score.chosen].into_iter().chain(&score.top);
        all.map(|one| (one.token, one.logprob.to_bits())).collect()
    };
    told.scores().map(scored).collect()
}

/// Opens a model with the directory, asks, and closes it; what was said, how many prompt tokens
/// were found, and how things stood at the end.
fn life(model: &str, options: &Options, asked: &Request) -> (Told, u32, Stats) {
    let local = open(&tiny(model), options);
    let told = answer(&local, asked);
    let cached = told.receipt().usage.cached_tokens;
    let stats = local.stats();
    (told, cached, stats)
}

/// As if each row came after the ones before: the salt, and how many prompt tokens it finds.
#[test]
fn a_prefix_is_shared_within_its_salt() {
    let model = open(&tiny("qwen3"), &Options { threads: Some(1), ..Options::default() });
    let check = |salt: &str, cached: u32| {
        let told = answer(&model, &asking(0, salt));
        assert_eq!(told.receipt().usage.cached_tokens, cached, "{salt:?}");
        bits(&told)
    };
    let first = check("", 0);
    let rows = [("a", 0), ("b", 0), ("a", FULL), ("", FULL), ("b", FULL), ("c", 0)];
    assert!(rows.iter().all(|&(salt, cached)| check(salt, cached) == first));
    // Whose it is parts prefixes as salts do.
    for cached in [0, FULL] {
        let told = answer(&model, &Request { home: "me".to_owned(), ..asking(0, "a") });
        assert_eq!(told.receipt().usage.cached_tokens, cached);
        assert_eq!(bits(&told), first);
    }
    let refused = asking(0, &"x".repeat(5000));
    let fault = ask(&model, &refused).map(|_| ()).expect_err("is refused");
    assert_eq!(fault.param.as_deref(), Some("cache_salt"));
}

/// A life after another: the model, the first token, the salt, and how many prompt tokens it finds.
#[test]
fn prefixes_outlive_the_engine() {
    let folder = Folder::new();
    let options = options(&folder.0, PLENTY);
    let check = |model: &str, first: Token, salt: &str, found: u32| {
        let (told, cached, stats) = life(model, &options, &asking(first, salt));
        assert_eq!(cached, found, "{model} {first} {salt:?}");
        let counted = (stats.lookup_tokens, stats.cached_tokens, stats.disk_tokens);
        assert_eq!(counted, (PROMPT as u64, found.into(), found.into()));
        bits(&told)
    };
    let first = check("qwen3", 0, "", 0);
    assert_eq!(check("qwen3", 0, "", FULL), first);
    assert_eq!(check("qwen3", 0, "a", 0), first);
    assert_eq!(check("qwen3", 0, "b", 0), first);
    assert_eq!(check("qwen3", 0, "a", FULL), first);
    assert_ne!(check("qwen3", 1, "", 0), first);
    // Some of its layers see a window alone.
    assert_eq!(check("gemma3", 0, "", 0), check("gemma3", 0, "", FULL));
    assert_ne!(check("qwen2", 0, "", 0), first);
    assert_ne!(check("qwen2", 0, "", FULL), first);
    assert_eq!(check("qwen3", 0, "", FULL), first);
}

/// Several who come at once and share a prefix that is on disk, one of whom goes away.
#[test]
fn all_who_wait_for_a_prefix_find_it() {
    let folder = Folder::new();
    let options = options(&folder.0, PLENTY);
    let (told, _, _) = life("qwen3", &options, &asking(0, ""));
    let local = open(&tiny("qwen3"), &options);
    let asked = [0, 0, 0, 5, 0].map(|first| ask(&local, &asking(first, "")).expect("taken in"));
    let given_up = ask(&local, &asking(0, "")).expect("taken in");
    drop(given_up.call);
    let cached = asked.map(|asked| {
        let heard = asked.wait();
        let same = bits(&heard) == bits(&told);
        (heard.receipt().usage.cached_tokens, same)
    });
    assert_eq!(cached, [(FULL, true), (FULL, true), (FULL, true), (0, false), (FULL, true)]);
    assert!(given_up.events.iter().count() >= 1, "it hears of its end");
}

/// What may become of files, each done to all of them: what is found after it.
#[test]
fn whatever_becomes_of_the_files_answers_stay() {
    type Damage = fn(&Path, &[u8]);
    let rows: &[(&str, Damage)] = &[
        ("deleted", |path, _| fs::remove_file(path).expect("may be")),
        ("emptied", |path, _| fs::write(path, []).expect("may be")),
        ("halved", |path, bytes| fs::write(path, &bytes[..bytes.len() / 2]).expect("may be")),
        ("cut", |path, bytes| fs::write(path, &bytes[..bytes.len() - 1]).expect("may be")),
        ("longer", |path, bytes| fs::write(path, [bytes, &[0]].concat()).expect("may be")),
        ("its form", |path, bytes| flipped(path, bytes, 7)),
        ("its identity", |path, bytes| flipped(path, bytes, 20)),
        ("a token", |path, bytes| flipped(path, bytes, 49)),
        ("a number", |path, bytes| flipped(path, bytes, bytes.len() / 2)),
        ("the last number", |path, bytes| flipped(path, bytes, bytes.len() - 9)),
        ("the checksum", |path, bytes| flipped(path, bytes, bytes.len() - 1)),
        ("zeros", |path, bytes| fs::write(path, vec![0; bytes.len()]).expect("may be")),
        ("a folder", |path, _| {
            fs::remove_file(path).expect("may be");
            fs::create_dir(path).expect("may be");
        }),
        #[cfg(unix)]
        ("an endless device", |path, _| {
            fs::remove_file(path).expect("may be");
            std::os::unix::fs::symlink("/dev/zero", path).expect("may be");
        }),
    ];
    let cold = life("qwen3", &Options { threads: Some(1), ..Options::default() }, &asking(0, "")).0;
    for (what, damage) in rows {
        let folder = Folder::new();
        let options = options(&folder.0, PLENTY);
        life("qwen3", &options, &asking(0, ""));
        let files = folder.files();
        assert!(files.len() >= FULL as usize / 16, "{what}: {files:?}");
        for file in &files {
            damage(file, &fs::read(file).expect("is there"));
        }
        let (told, cached, _) = life("qwen3", &options, &asking(0, ""));
        assert_eq!((cached, bits(&told) == bits(&cold)), (0, true), "{what}");
    }
}

fn flipped(path: &Path, bytes: &[u8], at: usize) {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("may be written");
}

/// Files under each other's names are not taken for each other; of a chain with a hole, the part
/// before it is found.
#[test]
fn a_block_is_what_it_says_and_not_what_it_is_called() {
    let folder = Folder::new();
    let options = options(&folder.0, PLENTY);
    let (cold, _, _) = life("qwen3", &options, &asking(0, ""));
    // Longer prefixes have longer files; names say nothing of the order, and differ from build to
    // build.
    let mut files = folder.files();
    files.sort_by_key(|file| fs::metadata(file).expect("is there").len());
    let contents: Vec<Vec<u8>> =
        files.iter().map(|file| fs::read(file).expect("is there")).collect();
    for (file, other) in files.iter().zip(contents.iter().cycle().skip(1)) {
        fs::write(file, other).expect("may be");
    }
    let (told, cached, _) = life("qwen3", &options, &asking(0, ""));
    assert_eq!((cached, bits(&told)), (0, bits(&cold)));
    fs::remove_file(&files[3]).expect("may be");
    let (told, cached, _) = life("qwen3", &options, &asking(0, ""));
    assert_eq!((cached, bits(&told)), (3 * 16, bits(&cold)));
}

#[test]
fn the_directory_stays_within_its_bound() {
    let folder = Folder::new();
    life("qwen3", &options(&folder.0, PLENTY), &asking(0, ""));
    let one = folder.bytes();
    let both = options(&folder.0, one + one / 2);
    fs::write(folder.0.join("a-file-of-its-user"), vec![0; 4 << 20]).expect("may be");
    for first in 1..6 {
        life("qwen3", &both, &asking(first, ""));
        let kept = folder.bytes() - (4 << 20);
        assert!(one <= kept && kept <= one + one / 2, "{kept} of {one}");
    }
    assert!(life("qwen3", &both, &asking(5, "")).1 == FULL, "what was used last is there");
    assert_eq!(life("qwen3", &both, &asking(1, "")).1, 0, "what was used first is not");
    let none = options(&folder.0, one / 50);
    assert_eq!(life("qwen3", &none, &asking(9, "")).1, 0);
    assert_eq!(life("qwen3", &none, &asking(9, "")).1, 0, "no block of it would fit");
}

/// Two engines with one directory, asked at once and in turn.
#[test]
fn two_may_use_one_directory() {
    let folder = Folder::new();
    let options = options(&folder.0, PLENTY);
    let both = [(); 2].map(|()| open(&tiny("qwen3"), &options));
    let ask = |local: &Local| answer(local, &asking(0, ""));
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| ask(&both[0]));
        (ask(&both[1]), one.join().expect("answers"))
    });
    assert_eq!(bits(&one), bits(&two));
    both.iter().for_each(Local::finish);
    assert!(folder.files().iter().all(|file| file.extension().is_some_and(|kind| kind == "kv")));
    let (told, cached, _) = life("qwen3", &options, &asking(0, ""));
    assert_eq!((cached, bits(&told)), (FULL, bits(&one)));
}

/// What is wrong with the directory is told once, and answers go on.
#[test]
fn a_directory_that_is_none_is_told_of_once() {
    static WARNED: AtomicUsize = AtomicUsize::new(0);
    fn warn(text: &str) {
        assert!(text.contains("--prefix-cache-dir"), "{text}");
        WARNED.fetch_add(1, Ordering::Relaxed);
    }
    let folder = Folder::new();
    fs::write(&folder.0, "a file").expect("may be");
    let options = Options { warn, ..options(&folder.0, PLENTY) };
    let (told, cached, _) = life("qwen3", &options, &asking(0, ""));
    assert_eq!((cached, told.receipt().usage.completion_tokens), (0, 12));
    assert_eq!(WARNED.load(Ordering::Relaxed), 1);
    fs::remove_file(&folder.0).expect("may be");
    // One that is there when the engine starts, and then is not.
    let local = open(&tiny("qwen3"), &options);
    fs::remove_dir_all(&folder.0).expect("may be");
    for first in 0..3 {
        answer(&local, &asking(first, ""));
    }
    local.finish();
    assert_eq!(WARNED.load(Ordering::Relaxed), 2);
    assert!(ask(&local, &asking(0, "")).is_err(), "it has ended");
}
