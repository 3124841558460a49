//! Hugging Face directories, read as if they were GGUF files: metadata is made of `config.json`,
//! the tokenizer's and sentence-transformers' files, tensors get the names that GGUF files give
//! them and stay in the mapped safetensors files, unless they have to be made of them. What is in
//! which architecture is a table ([`families`]); names and keys are llama.cpp's, where it has them.
//!
//! Absent: pickled weights (`.bin`, `.pt`), which are programs; code of a model's own; parts of
//! models that read no text. What cannot be mapped is refused by name.

pub(crate) mod json;

mod change;
mod config;
mod families;
mod heads;
mod quirks;
mod rope;
mod sentences;
mod table;
mod weights;
mod words;

use std::path::{Path, PathBuf};

use crate::Error;
use crate::gguf::{Gguf, Outline, Value};
use json::Object;

/// The directory that a path means: itself, or the one that has the `config.json` or the
/// safetensors file that is named.
pub fn directory(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let config = path.file_name().is_some_and(|name| name == "config.json");
    let weights = path.extension().is_some_and(|extension| extension == "safetensors");
    let parent = path.parent().filter(|_| config || weights)?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() })
}

/// A directory, read as a GGUF file.
///
/// # Errors
/// [`Error::Missing`], [`Error::Malformed`] and [`Error::Unsupported`] name the file, and the key
/// or tensor in it, that is missing, wrong or unknown.
pub fn open(directory: &Path) -> Result<Gguf, Error> {
    let modules = sentences::Modules::read(directory)?;
    let base = modules.base(directory);
    let config = Object::read(&base.join("config.json"))?;
    if config.map.is_empty() && !modules.are_a_table() {
        return Err(Error::Unsupported(format!(
            "{}: no GGUF file, and no Hugging Face model either: it has no config.json",
            base.display()
        )));
    }
    let family = families::of(&config, &modules)?;
    let config = config::inner(config)?;
    let head = heads::of(family, &config, &modules)?;
    let mut outline = Outline::default();
    outline.set("general.architecture", Value::Str(family.arch.to_owned()));
    outline.set("general.name", Value::Str(name(directory, &config)));
    config::write(family, &config, &mut outline)?;
    heads::write(family, head, &config, &mut outline)?;
    sentences::write(directory, &base, &modules, (family, head), &mut outline)?;
    words::write(&base, family, &config, &mut outline)?;
    let made = weights::read(&base, family, head, &config)?;
    let made = made.into_iter().chain(modules.weights(directory, head)?);
    let made = made.chain(rope::divisors(family, &config)?);
    let mut held = Vec::new();
    for (planned, weights) in made {
        outline.push(planned);
        held.push(weights);
    }
    Gguf::assemble(&outline, held)
}

/// What the model is called: as its configuration says, or as its folder is.
fn name(directory: &Path, config: &Object) -> String {
    let said = config.str("_name_or_path").ok().flatten().unwrap_or_default();
    let said = said.rsplit('/').next().unwrap_or_default();
    if !said.is_empty() && said != "." && said != ".." {
        return said.to_owned();
    }
    let folder = std::path::absolute(directory).ok();
    let folder = folder.as_deref().and_then(Path::file_name);
    folder.map_or_else(|| "a model".to_owned(), |name| name.to_string_lossy().into_owned())
}
