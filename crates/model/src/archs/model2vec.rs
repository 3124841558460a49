//! Static embeddings, as Model2Vec distils them and sentence-transformers trains them: a table has
//! a vector for each token, and a text's is their mean. There is nothing else to compute: no
//! layers, no order of words. What weighs tokens is multiplied into the table when a directory is
//! read.

use super::Recorder;
use crate::Error;

pub(super) fn load(r: &mut Recorder<'_>) -> Result<(), Error> {
    let reading = r.reading()?;
    let (x, _) = r.embed(1.0)?; // [t, width]
    r.read_out(x, &reading)
}
