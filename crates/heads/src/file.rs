//! A head as one JSON file, which may come from anywhere: every number in it is checked before it
//! is believed.

use serde::{Deserialize, Serialize};

use crate::{DIMENSIONS, Error, Head, LABELS, Layer};

/// The most bytes of a head's file.
pub const FILE_BYTES: usize = 256 << 20;
/// The most layers.
const LAYERS: usize = 2;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    ingle_head: u32,
    kind: String,
    encoder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    labels: Vec<String>,
    dimensions: usize,
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<f64>,
    layers: Vec<WrittenLayer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLayer {
    /// A row an output.
    weights: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

impl Head {
    /// The head as a file's text.
    pub fn write(&self) -> String {
        let layer = |layer: &Layer| WrittenLayer {
            weights: layer.weights.chunks_exact(layer.inputs).map(<[f64]>::to_vec).collect(),
            bias: layer.bias.clone(),
        };
        let written = Written {
            ingle_head: VERSION,
            kind: self.kind().name().to_owned(),
            encoder: self.encoder.clone(),
            prompt: self.prompt.clone(),
            labels: self.labels.clone(),
            dimensions: self.dimensions(),
            temperature: self.temperature,
            c: self.c,
            layers: self.layers.iter().map(layer).collect(),
        };
        serde_json::to_string(&written).expect("numbers, texts and lists of them are JSON") + "\n"
    }

    /// Reads a head's file.
    ///
    /// # Errors
    /// Where it is none, or says what cannot be.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > FILE_BYTES {
            return Err(Error(format!("a head's file has at most {FILE_BYTES} bytes")));
        }
        let wrong = |error: serde_json::Error| {
            Error(format!("it is no head, as `ingle train head` writes them: {error}"))
        };
        let written: Written = serde_json::from_slice(bytes).map_err(wrong)?;
        check(&written).map_err(|why| Error(format!("it is no head that can be: {why}")))?;
        let layer = |layer: WrittenLayer| Layer {
            inputs: layer.weights.first().map_or(0, Vec::len),
            weights: layer.weights.concat(),
            bias: layer.bias,
        };
        Ok(Self {
            encoder: written.encoder,
            prompt: written.prompt,
            labels: written.labels,
            temperature: written.temperature,
            layers: written.layers.into_iter().map(layer).collect(),
            c: written.c,
        })
    }
}

fn check(written: &Written) -> Result<(), String> {
    let Written { labels, dimensions, layers, temperature, .. } = written;
    if written.ingle_head != VERSION {
        return Err(format!("`ingle_head` is {}, and known is {VERSION}", written.ingle_head));
    }
    if !(2..=LABELS).contains(&labels.len()) || !labels.is_sorted_by(|one, next| one < next) {
        return Err(format!("`labels` are 2 to {LABELS}, sorted, no two alike"));
    }
    if !(1..=DIMENSIONS).contains(dimensions) {
        return Err(format!("`dimensions` is 1 to {DIMENSIONS}"));
    }
    if !(temperature.is_finite() && *temperature > 0.0) {
        return Err("`temperature` is above 0".to_owned());
    }
    let kind = if layers.len() == 1 { "logistic" } else { "mlp" };
    if !(1..=LAYERS).contains(&layers.len()) || written.kind != kind {
        return Err("`kind` is logistic with one layer, or mlp with two".to_owned());
    }
    let mut inputs = *dimensions;
    for layer in layers {
        let fits = layer.weights.iter().all(|row| row.len() == inputs);
        if !fits || layer.weights.len() != layer.bias.len() || layer.bias.is_empty() {
            return Err("a layer's weights are not as many as its inputs and outputs".to_owned());
        }
        let mut numbers = layer.weights.iter().flatten().chain(&layer.bias);
        if numbers.any(|it| !it.is_finite() || it.abs() > 1e30) {
            return Err("a weight is no number that can be worked with".to_owned());
        }
        inputs = layer.bias.len();
    }
    let one = kind == "logistic" && labels.len() == 2 && inputs == 1;
    if inputs != labels.len() && !one {
        return Err("it has not as many outputs as labels".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "ingle_head": 1, "kind": "mlp", "encoder": "e", "labels": ["a", "b"], "dimensions": 3,
            "temperature": 1.5,
            "layers": [
                { "weights": [[1.0, 0.5, -1.0]], "bias": [0.1] },
                { "weights": [[2.0], [-2.0]], "bias": [0.0, 0.25] },
            ],
        })
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head::read(good().to_string().as_bytes()).expect("reads");
        assert_eq!(Head::read(head.write().as_bytes()), Ok(head.clone()));
        assert_eq!(head.logits(&[1.0, 2.0, 0.5]), Ok(vec![3.2, -2.95]));
        assert_eq!(head.logits(&[0.0, 0.0, 1.0]), Ok(vec![0.0, 0.25]), "what is below 0 is 0");
        let why = head.logits(&[1.0]).expect_err("is too short").0;
        assert!(why.contains("3 floats") && why.contains("`e`"), "{why}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let check = |path: &str, value: Value, words: &str| {
            let mut head = good();
            *head.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
            let why = Head::read(head.to_string().as_bytes()).expect_err("is refused").0;
            assert!(why.contains(words), "{why}");
        };
        check("/ingle_head", json!(2), "ingle_head");
        check("/labels", json!(["a"]), "labels");
        check("/labels", json!(["b", "a"]), "labels");
        check("/labels", json!(["a", "b", "c"]), "outputs");
        check("/dimensions", json!(0), "dimensions");
        check("/dimensions", json!(4), "weights");
        check("/dimensions", json!(1_u64 << 60), "dimensions");
        check("/temperature", json!(0), "temperature");
        check("/temperature", json!(-1), "temperature");
        check("/kind", json!("logistic"), "kind");
        check("/layers", json!([]), "kind");
        check("/layers/0/weights/0/0", json!(1e31), "weight");
        check("/layers/0/weights/0/0", json!(null), "no head");
        check("/layers/1/bias", json!([0.0]), "weights");
        check("/layers/1/weights", json!([[2.0], [1.0, 2.0]]), "weights");
        for bytes in [b"".as_slice(), b"{}", b"[", b"\xff", b"{\"ingle_head\": 1e400}"] {
            assert!(Head::read(bytes).is_err());
        }
    }
}
