//! A model file made smaller: each tensor is read, quantised and written in turn, so that memory
//! stays small however large the model; threads share the pieces of it. The new file is complete
//! under its name or not there at all.
//!
//! Which tensor gets which format is [`recipes`]' affair, how weights become blocks is
//! [`Format::quantise`]'s. Nothing here weighs one weight above another.

mod recipes;

use std::fs::{self, File, OpenOptions};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ingle_backend::Format;

use crate::Error;
use crate::gguf::{Gguf, Outline, Planned, TensorInfo, Value, Writer};
use crate::pull::Progress;
pub use recipes::{RECIPES, Recipe, recipe};

/// Weights that a thread takes at a time: whole blocks of every format.
const PIECE: usize = 1 << 16;
/// Pieces that a thread may have waiting to be written.
const AHEAD: usize = 8;
/// `general.quantization_version`: the layouts that this crate writes (`GGML_QUANT_VERSION`).
const LAYOUTS: u32 = 2;

/// How to quantise.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which tensors get which format.
    pub recipe: &'static Recipe,
    /// Whether weights that are quantised already may lose more.
    pub requantize: bool,
    /// Threads, at least 1.
    pub threads: usize,
}

/// What [`quantize`] made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Length of the new file.
    pub bytes: u64,
    /// Weights in it.
    pub weights: u64,
    /// The bytes that their formats take, in the order of [`Format`].
    pub formats: Vec<(Format, u64)>,
    /// Tensors that were quantised before, and lost accuracy again.
    pub requantized: usize,
}

impl Report {
    /// Bits that a weight takes in the mean, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        let bytes: u64 = self.formats.iter().map(|(_, bytes)| bytes).sum();
        8.0 * bytes as f64 / self.weights as f64
    }
}

/// Writes a quantised copy of `file` to `path`, replacing what is there.
///
/// # Errors
/// [`Error::Unsupported`] where a tensor cannot be read, holds what the new format cannot, or is
/// quantised already and may not be again; [`Error::Interrupted`] where `progress` is cancelled;
/// [`Error::Io`]. None leaves anything behind.
pub fn quantize(
    file: &Gguf,
    options: &Options,
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<Report, Error> {
    let (outline, mut report) = plan(file, options)?;
    let io = |source| Error::Io { path: path.to_owned(), source };
    let partial = Partial::beside(path).map_err(io)?;
    let out = BufWriter::new(&partial.file);
    let mut writer = Writer::begin(&outline, out, io)?;
    progress.begin("quantizing", Some(report.formats.iter().map(|(_, bytes)| bytes).sum()));
    fill(
        file,
        &outline,
        options.threads,
        &mut |bytes| writer.weights(bytes).map_err(io),
        progress,
    )?;
    writer.finish().into_inner().map_err(|error| io(error.into_error()))?;
    progress.done();
    report.bytes = partial.file.metadata().map_err(io)?.len();
    partial.become_whole(path).map_err(io)?;
    Ok(report)
}

/// The same model as if [`quantize`] had been there before: each tensor's weights are quantised
/// when they are first read, by all threads together, and no more of them is held than is read.
/// What was quantised already stays as it is.
///
/// # Errors
/// [`Error::Unsupported`], as [`plan`]; what weights cannot be stored so is told by [`Gguf::fault`]
/// once they were read.
pub fn while_loading(file: Gguf, recipe: &'static Recipe, threads: usize) -> Result<Gguf, Error> {
    let sizes = recipes::Sizes::of(&file);
    let mut outline = Outline::like(&file);
    outline.set("general.file_type", Value::U32(recipe.file_type));
    outline.set("general.quantization_version", Value::U32(LAYOUTS));
    let mut changes = Vec::new();
    for info in file.tensors() {
        let from = file.tensor(&info.name)?.format;
        let wanted = recipe.format(info, &sizes).unwrap_or(from);
        let to = if from.grid().is_some() { from } else { wanted };
        let TensorInfo { name, shape, .. } = info.clone();
        let planned = Planned { name, shape, format: to };
        if planned.bytes().is_none() {
            let what = format!("tensor {} cannot be stored as {}", info.name, to.name());
            return Err(Error::Unsupported(what));
        }
        changes.push((from, planned.clone()));
        outline.push(planned);
    }
    file.remade(&outline, move |i, stored| {
        let (from, to) = &changes[i];
        let pieces: Vec<Piece> = pieces(std::slice::from_ref(to)).collect();
        let made = share(&pieces, threads, |piece, weights| one(*from, stored, to, piece, weights));
        let mut all = Vec::with_capacity(to.bytes().unwrap_or(0));
        for bytes in made {
            all.extend(bytes?);
        }
        Ok(all)
    })
}

/// A file in the making, removed unless it becomes whole.
struct Partial {
    file: File,
    path: PathBuf,
    whole: bool,
}

impl Partial {
    /// Opens one in the folder of `path`, so that it can be renamed.
    fn beside(path: &Path) -> std::io::Result<Self> {
        let name = path.file_name().ok_or_else(|| std::io::Error::other("names no file"))?;
        let name = format!(".{}.{}.partial", name.to_string_lossy(), std::process::id());
        let path = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { file, path, whole: false })
    }

    fn become_whole(mut self, path: &Path) -> std::io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)?;
        self.whole = true;
        // The new name is kept too, where folders can be synced; it is there either way.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the new file will say and hold; reads no weights.
///
/// # Errors
/// [`Error::Unsupported`], as [`quantize`].
pub fn plan(file: &Gguf, options: &Options) -> Result<(Outline, Report), Error> {
    if let Ok(parts @ 2..) = file.uint("split.count") {
        return Err(Error::Unsupported(format!(
            "this file is one of {parts} parts of a model: join the parts into one file first"
        )));
    }
    let sizes = recipes::Sizes::of(file);
    let mut outline = Outline::like(file);
    outline.set("general.file_type", Value::U32(options.recipe.file_type));
    outline.set("general.quantization_version", Value::U32(LAYOUTS));
    let mut report = Report::default();
    for info in file.tensors() {
        let from = file.tensor(&info.name)?.format;
        let to = options.recipe.format(info, &sizes).unwrap_or(from);
        if loses_again(from, to) {
            report.requantized += 1;
            if !options.requantize {
                return Err(quantised_already(info, from));
            }
        }
        let TensorInfo { name, shape, .. } = info.clone();
        let planned = Planned { name, shape, format: to };
        let (Some(weights), Some(bytes)) = (planned.weights(), planned.bytes()) else {
            return Err(Error::Unsupported(format!(
                "tensor {} cannot be stored as {}",
                info.name,
                to.name()
            )));
        };
        report.weights += weights as u64;
        match report.formats.iter_mut().find(|(format, _)| *format == to) {
            Some((_, sum)) => *sum += bytes as u64,
            None => report.formats.push((to, bytes as u64)),
        }
        outline.push(planned);
    }
    report.formats.sort_unstable();
    Ok((outline, report))
}

/// Whether weights that lost accuracy once would lose it again. A copy loses nothing, and floats
/// hold what any block format does but for the last bits.
fn loses_again(from: Format, to: Format) -> bool {
    from != to && from.grid().is_some() && to.grid().is_some()
}

fn quantised_already(info: &TensorInfo, from: Format) -> Error {
    Error::Unsupported(format!(
        "tensor {} is quantized already ({}): quantizing again loses accuracy a second time\n\
         hint: begin with an F16, BF16 or F32 file, or add --allow-requantize",
        info.name,
        from.name()
    ))
}

/// A run of one tensor's weights.
struct Piece {
    tensor: usize,
    start: usize,
    count: usize,
}

fn pieces(tensors: &[Planned]) -> impl Iterator<Item = Piece> {
    tensors.iter().enumerate().flat_map(|(tensor, planned)| {
        let weights = planned.weights().unwrap_or(0);
        (0..weights).step_by(PIECE).map(move |start| {
            let count = PIECE.min(weights - start);
            Piece { tensor, start, count }
        })
    })
}

/// Gives all weights to `write`, in order: some pieces at a time, shared among the threads.
fn fill(
    file: &Gguf,
    outline: &Outline,
    threads: usize,
    write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    progress: &mut dyn Progress,
) -> Result<(), Error> {
    let all: Vec<Piece> = pieces(outline.tensors()).collect();
    let mut written = 0;
    for pieces in all.chunks(threads.max(1) * AHEAD) {
        for bytes in convert(file, outline.tensors(), pieces, threads) {
            if progress.cancelled() {
                return Err(Error::Interrupted);
            }
            let bytes = bytes?;
            write(&bytes)?;
            written += bytes.len() as u64;
        }
        progress.advance(written);
    }
    Ok(())
}

/// The new bytes of each piece.
fn convert(
    file: &Gguf,
    tensors: &[Planned],
    pieces: &[Piece],
    threads: usize,
) -> Vec<Result<Vec<u8>, Error>> {
    share(pieces, threads, |piece, weights| {
        let planned = &tensors[piece.tensor];
        let from = file.tensor(&planned.name)?;
        one(from.format, &from.bytes, planned, piece, weights)
    })
}

/// What is made of each piece, the work shared among threads; each has room for weights.
fn share(
    pieces: &[Piece],
    threads: usize,
    make: impl Fn(&Piece, &mut Vec<f32>) -> Result<Vec<u8>, Error> + Sync,
) -> Vec<Result<Vec<u8>, Error>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<_>> = Mutex::new(Vec::with_capacity(pieces.len()));
    let work = || {
        let mut weights = Vec::new();
        while let Some((at, piece)) = take(&next, pieces) {
            let bytes = make(piece, &mut weights);
            done.lock().expect("no thread panics while it holds this").push((at, bytes));
        }
    };
    std::thread::scope(|scope| {
        (1..threads.min(pieces.len())).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut done = done.into_inner().expect("no thread panics while it holds this");
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, bytes)| bytes).collect()
}

fn take<'a>(next: &AtomicUsize, pieces: &'a [Piece]) -> Option<(usize, &'a Piece)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    pieces.get(at).map(|piece| (at, piece))
}

/// The new bytes of one piece; `weights` is room to work in.
fn one(
    from: Format,
    stored: &[u8],
    to: &Planned,
    piece: &Piece,
    weights: &mut Vec<f32>,
) -> Result<Vec<u8>, Error> {
    let bytes = |format: Format, weights: usize| {
        format.row_bytes(weights).expect("pieces are whole blocks of every format")
    };
    let start = bytes(from, piece.start);
    let stored = &stored[start..start + bytes(from, piece.count)];
    if from == to.format && from.grid().is_some() {
        return Ok(stored.to_vec());
    }
    weights.resize(piece.count, 0.0);
    from.unpack(stored, weights);
    let mut out = vec![0; bytes(to.format, piece.count)];
    to.format.quantise(weights, &mut out).map_err(|unfit| {
        Error::Unsupported(format!(
            "tensor {}: weight {} is {}, which {} cannot hold; the file is damaged, or needs a \
             wider format such as bf16",
            to.name,
            piece.start + unfit.at,
            unfit.value,
            to.format.name()
        ))
    })?;
    Ok(out)
}
