//! Other machines, as `--on` names them: by bandwidth and by compute, and nothing else. There is no
//! table of machines here: a figure that nobody measured would look like one that was.

/// A machine that may not be at hand.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    /// As it was given.
    pub(super) text: String,
    /// Bytes per second.
    pub(super) bandwidth: Option<f64>,
    /// Operations per second.
    pub(super) compute: Option<f64>,
}

const HOW: &str = "write bandwidth=80GB/s,compute=500GFLOPS, or one of the two";

/// Reads `bandwidth=80GB/s,compute=500GFLOPS`.
pub(super) fn target(text: &str) -> Result<Target, String> {
    let mut target = Target { text: text.to_owned(), bandwidth: None, compute: None };
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| HOW.to_owned())?;
        let (units, place): (&[&str], _) = match name.trim() {
            "bandwidth" => (&["b/s"], &mut target.bandwidth),
            "compute" => (&["flops", "flop/s", "ops"], &mut target.compute),
            other => return Err(format!("`{other}` is not known: {HOW}")),
        };
        if place.replace(rate(value.trim(), units)?).is_some() {
            return Err(format!("`{}` is given twice", name.trim()));
        }
    }
    Ok(target)
}

/// A number with a prefix and one of the units, such as `80GB/s`.
fn rate(text: &str, units: &[&str]) -> Result<f64, String> {
    const PREFIXES: [(char, f64); 4] = [('k', 1e3), ('m', 1e6), ('g', 1e9), ('t', 1e12)];
    let wrong = || format!("`{text}` is no rate: {HOW}");
    let lower = text.to_ascii_lowercase();
    let rest = units.iter().find_map(|unit| lower.strip_suffix(unit)).ok_or_else(wrong)?;
    let prefix = PREFIXES.iter().find_map(|(c, factor)| Some((rest.strip_suffix(*c)?, *factor)));
    let (number, factor) = prefix.unwrap_or((rest, 1.0));
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let rate = number * factor;
    if rate.is_finite() && rate >= 1.0 { Ok(rate) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read() {
        let check = |text: &str, bandwidth, compute| {
            let expect = Target { text: text.to_owned(), bandwidth, compute };
            assert_eq!(target(text), Ok(expect));
        };
        check("bandwidth=80GB/s,compute=500GFLOPS", Some(80e9), Some(500e9));
        check("compute=1.5 TFLOP/s", None, Some(1.5e12));
        check("bandwidth = 800 MB/s", Some(800e6), None);
        check("compute=2tops", None, Some(2e12));
        check("bandwidth=5000000B/s", Some(5e6), None);
    }

    #[test]
    fn nonsense_is_refused_with_the_way_to_write_it() {
        let check = |text: &str, words: &str| {
            let error = target(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        };
        for text in ["", "fast", "bandwidth=80", "bandwidth=GB/s", "bandwidth=80GFLOPS"] {
            check(text, HOW);
        }
        for text in ["compute=-1GFLOPS", "compute=nanGFLOPS", "compute=1e400GFLOPS", "latency=1s"] {
            check(text, HOW);
        }
        check("bandwidth=1GB/s,bandwidth=2GB/s", "twice");
    }
}
