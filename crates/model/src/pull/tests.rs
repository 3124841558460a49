//! The store: what appears in it, what never does, and who waits for whom.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::sink::hash_text;
use super::*;

/// A folder of a test's own, gone afterwards.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn scratch(name: &str) -> Scratch {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let path = std::env::temp_dir().join(format!("ingle-test-{name}-{process}-{number}"));
    fs::create_dir_all(&path).expect("created");
    Scratch(path)
}

/// Remembers notes; stops once as many bytes are done as it is told.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) stop_at: Option<u64>,
    pub(crate) stopped: AtomicBool,
}

impl Progress for Watch {
    fn begin(&mut self, _label: &str, _total: Option<u64>) {}
    fn advance(&mut self, bytes_done: u64) {
        if self.stop_at.is_some_and(|at| bytes_done >= at) {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }
    fn done(&mut self) {}
    fn cancelled(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
    fn note(&mut self, line: &str) {
        self.notes.lock().expect("sound").push(line.into());
    }
}

const MODEL: &str = "GGUF, as far as the store looks";

fn store(folder: &Path) -> Store {
    Store::with_settings(folder.join("home"), Settings { offline: true, ..Settings::default() })
}

fn a_file(folder: &Path, text: &str) -> Reference {
    let path = folder.join("a.gguf");
    fs::write(&path, text).expect("written");
    Reference::Path(path)
}

fn named(name: &str) -> Options {
    Options { name: Some(name.into()), sha256: None }
}

#[test]
fn a_file_is_taken_in_found_listed_and_removed() {
    let folder = scratch("store");
    let store = store(&folder);
    assert_eq!(store.find("mine"), None);
    let pulled = store.pull(&a_file(&folder, MODEL), &named("Mine"), &mut Quiet).expect("pulled");
    assert!(pulled.fetched);
    let manifest = &pulled.entry.manifest;
    assert_eq!(manifest.name, "mine");
    assert_eq!(manifest.size, MODEL.len() as u64);
    assert_eq!((&manifest.sha256, manifest.verified), (&hash_text(MODEL), false));
    assert_eq!(fs::read_to_string(&pulled.entry.path).expect("read"), MODEL);
    assert_eq!(store.find("MINE"), Some(pulled.entry.path.clone()));
    assert_eq!(store.resolve("mine", &mut Quiet).expect("here"), pulled.entry.path);
    let listing = store.list().expect("listed");
    assert_eq!(listing.models, std::slice::from_ref(&pulled.entry));
    assert!(listing.partial.is_empty() && listing.problems.is_empty());
    assert!(store.remove("mine").expect("removed") > MODEL.len() as u64);
    assert_eq!(store.find("mine"), None);
    assert!(!pulled.entry.path.exists());
    assert!(matches!(store.remove("mine"), Err(Error::Refused(_))));
}

/// A directory is taken in with the files that a model needs, all of them or none.
#[test]
fn a_directory_is_taken_in_checked_and_removed() {
    let folder = scratch("directory");
    let store = store(&folder);
    let from = folder.join("from");
    for (path, text) in [
        ("config.json", "{}"),
        ("model.safetensors", MODEL),
        ("1_Pooling/config.json", "{ }"),
        ("pytorch_model.bin", "a program"),
        ("onnx/model.onnx", "for another program"),
    ] {
        let path = from.join(path);
        fs::create_dir_all(path.parent().expect("within")).expect("created");
        fs::write(path, text).expect("written");
    }
    let reference = Reference::Path(from.clone());
    let pulled = store.pull(&reference, &named("mine"), &mut Quiet).expect("pulled");
    let Entry { manifest, path } = &pulled.entry;
    let kept: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(kept, ["1_Pooling/config.json", "config.json", "model.safetensors"]);
    assert_eq!(manifest.size, 5 + MODEL.len() as u64);
    let sums = [("{ }", kept[0]), ("{}", kept[1]), (MODEL, kept[2])];
    let lines = sums.map(|(text, path)| format!("{}  {path}\n", hash_text(text)));
    assert_eq!(manifest.sha256, hash_text(&lines.concat()));
    assert_eq!(fs::read_to_string(path.join("1_Pooling/config.json")).expect("there"), "{ }");
    assert_eq!(fs::read_dir(path).expect("there").count(), 3);
    assert_eq!(store.find("mine").as_ref(), Some(path));
    store.check(&pulled.entry, &mut Quiet).expect("as it came");
    assert!(!store.pull(&reference, &named("mine"), &mut Quiet).expect("here").fetched);

    fs::write(path.join("config.json"), "[]").expect("written");
    let changed = store.check(&pulled.entry, &mut Quiet).expect_err("changed").to_string();
    assert!(changed.contains("has changed since it came"), "{changed}");
    fs::write(path.join("config.json"), "").expect("written");
    assert_eq!(store.find("mine"), None, "cut, so not here");
    assert!(store.remove("mine").expect("removed") > manifest.size);
    assert!(!path.exists() && from.join("config.json").exists());

    let sha256 = Some("0".repeat(64));
    let error = store.pull(&reference, &Options { sha256, ..named("mine") }, &mut Quiet);
    assert!(error.expect_err("another").to_string().contains("they were not kept"));
    assert!(!store.root().join("models/mine").exists(), "failures leave nothing behind");
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).expect("created");
    let error = store.pull(&Reference::Path(empty), &named("a"), &mut Quiet).expect_err("empty");
    assert!(error.to_string().contains("holds no model"), "{error}");
}

#[test]
fn what_is_wrong_is_not_kept() {
    let folder = scratch("wrong");
    let store = store(&folder);
    let check = |text: &str, options: &Options, expect: &str| {
        let error = store.pull(&a_file(&folder, text), options, &mut Quiet).expect_err("wrong");
        assert!(error.to_string().contains(expect), "{error}");
        assert!(store.list().expect("listed").models.is_empty());
    };
    check("<html>not a model</html>", &named("a"), "not a GGUF file");
    let sha256 = Some("0".repeat(64));
    check(MODEL, &Options { sha256, ..named("a") }, "SHA-256 is");
    let sha256 = Some("xyz".into());
    check(MODEL, &Options { sha256, ..named("a") }, "64 hexadecimal digits");
    check(MODEL, &named("../a"), "cannot be a model's name");
    // A catalogue's name is a promise about the bytes.
    check(MODEL, &named("smollm2"), "98362432");
    let missing = Reference::Path(folder.join("none.gguf"));
    assert!(store.pull(&missing, &named("a"), &mut Quiet).is_err());
    let left = fs::read_dir(folder.join("home/models")).expect("read").count();
    assert_eq!(left, 0, "failures leave nothing behind");
}

#[test]
fn offline_says_what_to_do_by_hand() {
    let folder = scratch("offline");
    let store = store(&folder);
    let error = store.resolve("smollm2", &mut Quiet).expect_err("offline").to_string();
    for part in ["INGLE_OFFLINE", "hint:", "--as smollm2", "models/smollm2", "b179c9523d0e"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let error = store.resolve("nosuch", &mut Quiet).expect_err("unknown").to_string();
    assert!(error.contains("known names are smollm2"), "{error}");
    let error = store.resolve("owner/repo/file.gguf", &mut Quiet).expect_err("no such file");
    assert!(error.to_string().contains("did you mean hf:owner/repo/file.gguf"), "{error}");
}

#[test]
fn a_file_placed_by_hand_is_taken_in_if_it_is_the_right_one() {
    let folder = scratch("by-hand");
    let store = store(&folder);
    let options = Options { name: Some("m".into()), sha256: Some(hash_text(MODEL)) };
    let at = folder.join("home/models/m");
    fs::create_dir_all(&at).expect("created");
    fs::write(at.join("a.gguf"), MODEL).expect("written");
    let reference = a_file(&folder, "GGUF but another");
    let pulled = store.pull(&reference, &options, &mut Quiet).expect("adopted");
    assert!(!pulled.fetched);
    assert_eq!(pulled.entry.manifest.source, "placed by hand");
    assert!(pulled.entry.manifest.verified);
    store.remove("m").expect("removed");
    fs::create_dir_all(&at).expect("created");
    fs::write(at.join("a.gguf"), "GGUF but another").expect("written");
    let mut watch = Watch::default();
    let reference = a_file(&folder, MODEL);
    assert!(store.pull(&reference, &options, &mut watch).expect("replaced").fetched);
    let notes = watch.notes.into_inner().expect("sound");
    assert!(notes.iter().any(|note| note.contains("will be replaced")), "{notes:?}");
}

#[test]
fn names_that_are_taken_stay_taken() {
    let folder = scratch("taken");
    let store = store(&folder);
    store.pull(&a_file(&folder, MODEL), &named("m"), &mut Quiet).expect("pulled");
    let again = store.pull(&a_file(&folder, MODEL), &named("m"), &mut Quiet).expect("here");
    assert!(!again.fetched);
    let other = folder.join("b.gguf");
    fs::write(&other, MODEL).expect("written");
    let error = store.pull(&Reference::Path(other), &named("m"), &mut Quiet).expect_err("taken");
    assert!(error.to_string().contains("ingle rm m"), "{error}");
}

#[test]
fn hostile_manifests_reach_nothing_outside() {
    let folder = scratch("manifest");
    let store = store(&folder);
    let entry = store.pull(&a_file(&folder, MODEL), &named("m"), &mut Quiet).expect("pulled").entry;
    let at = entry.path.with_file_name("manifest.json");
    let outside = folder.join("outside.gguf");
    fs::write(&outside, MODEL).expect("written");
    for file in ["../../../outside.gguf", "/etc/passwd", "", "."] {
        let manifest = Manifest { file: file.into(), ..entry.manifest.clone() };
        manifest::write_json(&at, &manifest).expect("written");
        assert_eq!(store.find("m"), None, "{file}");
        assert_eq!(store.list().expect("listed").problems.len(), 1);
    }
    let sound = |name: &str| {
        let manifest = Manifest { name: name.into(), ..entry.manifest.clone() };
        serde_json::to_string(&manifest).expect("written")
    };
    fs::write(&at, sound("m")).expect("written");
    assert!(store.find("m").is_some());
    let (other, long) = (sound("n"), sound("m") + &" ".repeat(2 << 20));
    for text in ["", "{", "[]", "null", &"[".repeat(100_000), &other, &long] {
        fs::write(&at, text).expect("written");
        assert!(store.lookup(&Reference::Name("m".into())).is_err(), "{text:.20}");
    }
    store.remove("m").expect("what is broken can be removed");
    assert!(outside.exists());
}

#[cfg(unix)]
#[test]
fn removing_follows_no_links() {
    let folder = scratch("links");
    let store = store(&folder);
    let outside = folder.join("outside");
    fs::create_dir_all(&outside).expect("created");
    fs::write(outside.join("precious"), "x").expect("written");
    let models = folder.join("home/models");
    fs::create_dir_all(&models).expect("created");
    std::os::unix::fs::symlink(&outside, models.join("linked")).expect("linked");
    assert!(matches!(store.remove("linked"), Err(Error::Refused(_))));
    let entry = store.pull(&a_file(&folder, MODEL), &named("m"), &mut Quiet).expect("pulled").entry;
    let link = entry.path.with_file_name("link");
    std::os::unix::fs::symlink(outside.join("precious"), &link).expect("linked");
    store.remove("m").expect("removed");
    fs::create_dir_all(models.join("n/sub")).expect("created");
    assert!(matches!(store.remove("n"), Err(Error::Refused(_))));
    assert!(outside.join("precious").exists());
    for name in ["..", ".", "../models/linked", "/", "a/../.."] {
        assert!(store.remove(name).is_err(), "{name}");
    }
}

#[test]
fn a_model_being_fetched_is_waited_for_and_not_removed() {
    let folder = scratch("locked");
    let store = store(&folder);
    let reference = a_file(&folder, MODEL);
    fs::create_dir_all(folder.join("home/models/m")).expect("created");
    let lock = store.try_lock("m").expect("locked").expect("free");
    let error = store.remove("m").expect_err("locked").to_string();
    assert!(error.contains("another process"), "{error}");
    let waiter = {
        let (store, reference) = (store.clone(), reference.clone());
        std::thread::spawn(move || {
            let mut watch = Watch::default();
            let pulled = store.pull(&reference, &named("m"), &mut watch);
            (pulled, watch.notes.into_inner().expect("sound"))
        })
    };
    std::thread::sleep(LOCK_POLL / 2);
    assert!(!waiter.is_finished());
    drop(lock);
    let (pulled, _notes) = waiter.join().expect("no panic");
    assert!(pulled.expect("pulled").fetched);
    // One that is told to stop does not wait.
    let _lock = store.try_lock("other").expect("locked").expect("free");
    let mut watch = Watch { stopped: true.into(), ..Watch::default() };
    let stopped = store.pull(&reference, &named("other"), &mut watch);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}

#[test]
fn an_interrupted_copy_is_not_a_model() {
    let folder = scratch("interrupted");
    let store = store(&folder);
    let text = format!("GGUF{}", "x".repeat(1 << 20));
    let mut watch = Watch { stop_at: Some(300_000), ..Watch::default() };
    let stopped = store.pull(&a_file(&folder, &text), &named("m"), &mut watch);
    assert!(matches!(stopped, Err(Error::Interrupted)));
    assert_eq!(store.find("m"), None);
    let listing = store.list().expect("listed");
    assert_eq!(listing.partial.len(), 1);
    let pulled = store.pull(&a_file(&folder, &text), &named("m"), &mut Quiet).expect("pulled");
    assert_eq!(pulled.entry.manifest.sha256, hash_text(&text));
    let names = fs::read_dir(folder.join("home/models/m")).expect("read").count();
    assert_eq!(names, 2, "the model and its manifest");
}
