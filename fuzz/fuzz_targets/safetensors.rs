//! Any bytes as a safetensors file: read or refused, never a panic. Of a file that is read, each
//! tensor has as many bytes as its shape and its type say.

#![no_main]

use ingle_backend::Bytes;
use ingle_model::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tensors) = safetensors::read(&Bytes::from(bytes.to_vec())) else { return };
    for stored in tensors.values() {
        let count: usize = stored.shape.iter().product();
        if let Some(format) = stored.format {
            assert_eq!(stored.bytes.len(), format.row_bytes(count).expect("not too many"));
            let mut numbers = vec![0.0; count];
            format.unpack(&stored.bytes, &mut numbers);
        }
    }
});
