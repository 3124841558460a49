//! Models that are directories: their files are fetched one by one into a folder beside, which gets
//! the directory's name when all are there and right. So a directory appears in the store whole and
//! verified, or not at all; a fetch that was interrupted goes on with the files that are missing.

use std::fs;
use std::path::Path;

use super::fetch::{Archive, Numbered, Piece, Want, Whole, one_file, record};
use super::http::{Client, Target};
use super::manifest::{Kept, Manifest};
use super::reference::{Hub, Repository, is_member};
use super::sink::{Bound, Sink, hash_file, hash_text, io_error};
use super::{Entry, Progress, Reference, Store, now_seconds};
use crate::{Error, catalogue};
use ingle_protocol::wire::rfc3339;
use serde::Deserialize;

/// A file of a directory, as far as it is known before it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its path in the directory.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size: Option<u64>,
    /// Its SHA-256, in lower-case hexadecimal.
    pub(crate) sha256: Option<String>,
}

impl Member {
    pub(super) fn of_catalogue(file: &catalogue::File) -> Self {
        let catalogue::File { path, size, sha256 } = *file;
        Self { path: path.into(), size: Some(size), sha256: Some(sha256.into()) }
    }
}

/// What stands for a directory's bytes: the SHA-256 of the list of its files'.
fn hash_of(files: &[Kept]) -> String {
    let lines = files.iter().map(|file| format!("{}  {}\n", file.sha256, file.path));
    hash_text(&lines.collect::<String>())
}

/// Fetches all files from one source and makes them a directory.
pub(super) fn from_source(
    store: &Store,
    want: &Want,
    source: &[Piece],
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, Error> {
    for piece in source {
        store.settings.online(&piece.from)?;
    }
    let partial = folder.join(format!("{}.partial", want.file));
    let mut archive = Archive::default();
    let (mut kept, mut verified) = (Vec::new(), true);
    for (i, (member, piece)) in want.files.iter().zip(source).enumerate() {
        let step = Some((i + 1, source.len()));
        let progress = &mut Numbered { progress, step };
        let whole = file(store, want, member, piece, &partial, &mut archive, progress)?;
        verified &= whole.verified;
        kept.push(Kept { path: member.path.clone(), size: whole.size, sha256: whole.sha256 });
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    let (size, sha256) = (kept.iter().map(|file| file.size).sum(), hash_of(&kept));
    if let Some(wanted) = want.sha256.as_ref().filter(|wanted| **wanted != sha256) {
        let _ = fs::remove_dir_all(&partial); // worth nothing to a later attempt
        return Err(Error::Fetch(format!(
            "the files' SHA-256 is {sha256} instead of {wanted}; they were not kept"
        )));
    }
    let _ = fs::remove_file(partial.join(COMMIT));
    let path = folder.join(&want.file);
    if path.is_dir() {
        fs::remove_dir_all(&path).map_err(|source| io_error(&path, source))?; // without a manifest
    }
    fs::rename(&partial, &path).map_err(|source| io_error(&path, source))?;
    let manifest = Manifest {
        version: 1,
        name: want.name.clone(),
        reference: want.reference.clone(),
        source: source_of(source),
        file: want.file.clone(),
        size,
        sha256,
        verified: verified || want.sha256.is_some(),
        fetched_at: rfc3339(now_seconds()),
        licence: want.licence.clone(),
        files: kept,
    };
    record(manifest, folder)
}

/// The longest list of a repository's files, in bytes; the longest known have some 2 million.
const MAX_LISTING: u64 = 32 << 20;
/// The file beside a directory's in the making that names the commit which they are of.
const COMMIT: &str = ".commit";

/// What the hub tells of a repository.
#[derive(Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

/// What is known of a file that is kept apart from the repository's text.
#[derive(Deserialize)]
struct Large {
    sha256: String,
}

/// Fetches the files of a repository that a model needs, all of one commit.
pub(super) fn from_repository(
    store: &Store,
    want: &Want,
    repository: &Repository,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Entry, Error> {
    store.settings.online(&Reference::Repository(repository.clone()))?;
    let Listing { sha, siblings } = listing(store, repository, folder, progress)?;
    let partial = folder.join(format!("{}.partial", want.file));
    let commit = partial.join(COMMIT);
    if partial.is_dir() && fs::read_to_string(&commit).ok().as_deref() != Some(sha.as_str()) {
        fs::remove_dir_all(&partial).map_err(|source| io_error(&partial, source))?;
    }
    fs::create_dir_all(&partial).map_err(|source| io_error(&partial, source))?;
    fs::write(&commit, &sha).map_err(|source| io_error(&commit, source))?;
    let (files, pieces): (Vec<Member>, Vec<Piece>) = members(siblings, repository, &sha)?;
    let want = Want { files, ..want.clone() };
    from_source(store, &want, &pieces, folder, progress)
}

/// Asks for the list of a repository's files.
fn listing(
    store: &Store,
    repository: &Repository,
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<Listing, Error> {
    let path = folder.join("listing.json.partial");
    let target = Target {
        url: store.settings.listing_url(repository),
        token: store.settings.token.clone(),
        base: 0,
        bound: Bound::AtMost(MAX_LISTING),
        sha256: None,
    };
    let mut sink = Sink::open(&path, 0)?;
    let client = Client::new(&store.settings)?;
    let fetched = client.fetch(&target, &mut None, &mut |_| Ok(()), &mut sink, progress);
    let text =
        fetched.and_then(|()| fs::read_to_string(&path).map_err(|source| io_error(&path, source)));
    let _ = fs::remove_file(&path);
    let wrong = |error| Error::Fetch(format!("{}: no list of files: {error}", target.url));
    let listing: Listing = serde_json::from_str(&text?).map_err(wrong)?;
    let commit = &listing.sha;
    if !(7..=64).contains(&commit.len()) || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Fetch(format!("{}: names no commit", target.url)));
    }
    Ok(listing)
}

/// The files that are needed, and where to fetch them.
fn members(
    siblings: Vec<Sibling>,
    repository: &Repository,
    commit: &str,
) -> Result<(Vec<Member>, Vec<Piece>), Error> {
    let Repository { owner, repo, .. } = repository;
    let named = |end: &str| siblings.iter().find(|file| file.rfilename.ends_with(end));
    let weights = siblings
        .iter()
        .any(|file| needed(&file.rfilename) && file.rfilename.ends_with(".safetensors"));
    // A model that is modules alone has no configuration of its own.
    let told = |file: &Sibling| ["config.json", "modules.json"].contains(&&*file.rfilename);
    if !weights || !siblings.iter().any(told) {
        let hint = match (named(".gguf"), named(".bin")) {
            (Some(file), _) => {
                let file = file.rfilename.escape_debug();
                format!("it has GGUF files; name one, as hf:{owner}/{repo}/{file}")
            }
            (None, Some(_)) => "its weights are pickled, which is a program; Ingle reads \
                                safetensors files alone"
                .into(),
            (None, None) => "look for a repository that has these".into(),
        };
        return Err(Error::Fetch(format!(
            "hf:{owner}/{repo} has no config.json or no model.safetensors\nhint: {hint}"
        )));
    }
    let mut all: Vec<(Member, Piece)> = siblings
        .into_iter()
        .filter(|file| needed(&file.rfilename))
        .map(|Sibling { rfilename: path, size, lfs }| {
            let hub = Hub {
                owner: owner.clone(),
                repo: repo.clone(),
                file: path.clone(),
                revision: Some(commit.to_owned()),
            };
            let piece = Piece { from: Reference::Hub(hub), size, download: size };
            (Member { path, size, sha256: lfs.map(|large| large.sha256) }, piece)
        })
        .collect();
    all.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    all.dedup_by(|a, b| a.0.path == b.0.path);
    Ok(all.into_iter().unzip())
}

/// Where all files came from, in a few words.
fn source_of(source: &[Piece]) -> String {
    let first = source.first().map(|piece| piece.from.to_string()).unwrap_or_default();
    match source.len() {
        0 | 1 => first,
        all => format!("{first} and {} more files", all - 1),
    }
}

/// One file of the directory: the one that is there already, if it is right, or a fetched one.
fn file(
    store: &Store,
    want: &Want,
    member: &Member,
    piece: &Piece,
    partial: &Path,
    archive: &mut Archive,
    progress: &mut dyn Progress,
) -> Result<Whole, Error> {
    let Member { path, size, sha256 } = member;
    if !is_member(path) {
        let shown = path.escape_debug();
        return Err(Error::Fetch(format!("`{shown}` is no path that the store can keep")));
    }
    let at = partial.join(path);
    if at.is_file() {
        progress.begin("reading what is here", *size);
        let (there, sum) = hash_file(&at, progress)?;
        progress.done();
        if size.is_none_or(|size| size == there)
            && sha256.as_ref().is_none_or(|known| *known == sum)
        {
            return Ok(Whole { size: there, sha256: sum, verified: sha256.is_some() });
        }
    }
    let parent = at.parent().unwrap_or(partial);
    fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
    let source = vec![piece.clone()];
    let want = Want {
        file: path.clone(),
        size: *size,
        sha256: sha256.clone(),
        sources: vec![source.clone()],
        files: Vec::new(),
        ..want.clone()
    };
    one_file(store, &want, &source, partial, archive, progress)
}

/// Whether all files of a directory are there and as long as they were.
pub(super) fn is_whole(path: &Path, files: &[Kept]) -> bool {
    let there = |file: &Kept| {
        let about = fs::metadata(path.join(&file.path));
        is_member(&file.path)
            && about.is_ok_and(|about| about.is_file() && about.len() == file.size)
    };
    path.is_dir() && files.iter().all(there)
}

/// Reads all files of a directory to their ends; their size, and what stands for them.
pub(super) fn hash_all(
    path: &Path,
    files: &[Kept],
    progress: &mut dyn Progress,
) -> Result<(u64, String), Error> {
    let mut now = Vec::new();
    for file in files {
        let (size, sha256) = hash_file(&path.join(&file.path), progress)?;
        now.push(Kept { path: file.path.clone(), size, sha256 });
    }
    Ok((now.iter().map(|file| file.size).sum(), hash_of(&now)))
}

/// Bytes of all files in a folder of the store, without following links.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_in(&entry.path()),
        Ok(about) if about.is_file() => about.len(),
        _ => 0,
    });
    bytes.sum()
}

/// A directory on this machine as one to be copied: the files that a model's directory may have.
pub(super) fn of_path(directory: &Path) -> Result<(Vec<Member>, Vec<Piece>), Error> {
    let mut found = Vec::new();
    for (within, depth) in folders(directory)? {
        let entries = fs::read_dir(directory.join(&within));
        for entry in entries.map_err(|source| io_error(directory, source))?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if depth == 0 { name } else { format!("{within}/{name}") };
            let about = fs::metadata(entry.path());
            if needed(&path)
                && let Ok(about) = about
                && about.is_file()
            {
                let from = Reference::Path(entry.path());
                let piece = Piece { from, size: Some(about.len()), download: None };
                found.push((Member { path, size: Some(about.len()), sha256: None }, piece));
            }
        }
    }
    found.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    Ok(found.into_iter().unzip())
}

/// The directory itself, and the folders in it that may belong to a model.
fn folders(directory: &Path) -> Result<Vec<(String, usize)>, Error> {
    let entries = fs::read_dir(directory).map_err(|source| io_error(directory, source))?;
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let modules = names.filter(|name| is_module(name)).map(|name| (name, 1));
    Ok(std::iter::once((String::new(), 0)).chain(modules).collect())
}

/// Whether a folder is one of sentence-transformers' modules, such as `1_Pooling`.
fn is_module(folder: &str) -> bool {
    let digits = folder.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && folder[digits..].starts_with('_') && !folder.contains('/')
}

/// Files of a model's directory that are read; the others, pickled weights and those for other
/// programs among them, are left where they are.
pub(super) fn needed(path: &str) -> bool {
    const NAMES: &[&str] = &[
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "modules.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ];
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let part = name.starts_with("model-") && name.ends_with(".safetensors");
    let lengths = name.starts_with("sentence_") && name.ends_with("_config.json");
    (folder.is_empty() || is_module(folder)) && (NAMES.contains(&name) || part || lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_of_a_directory() {
        let check = |path: &str, expect: bool| assert_eq!(needed(path), expect, "{path}");
        for path in [
            "config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "0_StaticEmbedding/tokenizer.json",
            "sentence_bert_config.json",
            "vocab.txt",
        ] {
            check(path, true);
        }
        for path in [
            "pytorch_model.bin",
            "training_args.pt",
            "onnx/model.onnx",
            "onnx/config.json",
            "consolidated.safetensors",
            "original/model.safetensors",
            "1_Pooling/deep/config.json",
            "README.md",
            "modeling_custom.py",
        ] {
            check(path, false);
        }
    }
}
