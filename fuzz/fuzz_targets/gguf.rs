//! Any bytes as a GGUF file: read or refused, never a panic. Of a file that is read, every value is
//! asked for in every type, and every tensor is unpacked.

#![no_main]

use ingle_backend::Bytes;
use ingle_model::gguf::{Gguf, Tensor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::from_bytes(Bytes::from(bytes.to_vec())) else { return };
    for (key, _) in file.metadata() {
        let _ = (file.str(key), file.uint(key), file.float(key), file.bool(key), file.ints(key));
        let _ = (file.strs(key).map(|all| all.iter().count()), file.f32s(key));
    }
    for info in file.tensors() {
        let Ok(Tensor { format, cols, rows, bytes }) = file.tensor(&info.name) else { continue };
        let mut weights = vec![0.0; cols * rows];
        format.unpack(&bytes, &mut weights);
    }
});
