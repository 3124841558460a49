//! Adapters as the loop sees them: taken in between steps, dropped when nobody holds them any more.
//! Keys and values depend on them, so what jobs share of their prefixes is by adapter and scale,
//! too.
//!
//! Absent: names, files, and which request wants which.

use super::Core;
use ingle_backend::{Adapter, Applied, Backend, Delta};
use ingle_protocol::Fault;
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

/// An adapter that the backend has. It is dropped there when the loop alone holds this.
#[derive(Debug)]
pub struct Held {
    adapter: Adapter,
    digest: String,
}

/// What a job is computed with.
#[derive(Clone, Debug)]
pub struct Adapted {
    /// Which adapter.
    pub held: Arc<Held>,
    /// What it adds is multiplied by this.
    pub scale: f32,
}

impl Core {
    /// Takes an adapter in. Where two digests are the same, so are the deltas.
    ///
    /// # Errors
    /// A fault of ours where the memory for it is refused.
    pub fn adapt(&mut self, deltas: &[Delta], digest: &str) -> Result<Arc<Held>, Fault> {
        let adapter = self.backend.adapt(deltas);
        let adapter = adapter.map_err(|refusal| Fault::ours(format!("an adapter: {refusal}")))?;
        let held = Arc::new(Held { adapter, digest: digest.to_owned() });
        self.adapters.push(Arc::clone(&held));
        Ok(held)
    }

    /// Drops the adapters that nobody else holds.
    pub(crate) fn sweep(&mut self) {
        sweep(&mut self.adapters, &mut *self.backend);
    }
}

/// As [`Core::sweep`]. Who holds one no more cannot come to hold it again.
fn sweep(adapters: &mut Vec<Arc<Held>>, backend: &mut dyn Backend) {
    adapters.retain(|held| {
        let wanted = Arc::strong_count(held) > 1;
        if !wanted {
            backend.release(held.adapter);
        }
        wanted
    });
}

/// The same for the backend.
pub(super) fn applied(adapters: &[Adapted]) -> Vec<Applied> {
    let one = |Adapted { held, scale }: &Adapted| Applied { adapter: held.adapter, scale: *scale };
    adapters.iter().map(one).collect()
}

/// A salt's text with what else keys and values depend on: no two of either give the same.
pub(super) fn rooted<'a>(adapters: &[Adapted], salt: &'a str) -> Cow<'a, str> {
    const MARK: char = '\u{1}';
    if adapters.is_empty() && !salt.starts_with(MARK) {
        return Cow::Borrowed(salt);
    }
    let mut text = String::from(MARK);
    for Adapted { held, scale } in adapters {
        let _ = write!(text, "{}*{:08x} ", held.digest, scale.to_bits());
    }
    text.push(MARK);
    text.push_str(salt);
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_backend::cpu::{Cpu, kernels::Kernels};
    use std::collections::BTreeSet;

    fn held(cpu: &mut Cpu, digest: &str) -> Arc<Held> {
        let adapter = cpu.adapt(&[]).expect("nothing takes no memory");
        Arc::new(Held { adapter, digest: digest.to_owned() })
    }

    #[test]
    fn salts_and_adapters_are_not_taken_for_each_other() {
        let mut cpu = Cpu::new(Kernels::best(), 1);
        let held = ["a", "b"].map(|digest| held(&mut cpu, digest));
        let one = |at: usize, scale| Adapted { held: Arc::clone(&held[at]), scale };
        let sets = [
            vec![],
            vec![one(0, 1.0)],
            vec![one(0, 0.5)],
            vec![one(1, 1.0)],
            vec![one(0, 1.0), one(1, 1.0)],
            vec![one(1, 1.0), one(0, 1.0)],
        ];
        let plain = rooted(&sets[1], "").into_owned();
        let salts = ["", "s", "\u{1}", "\u{1}\u{1}", "\u{1}s", plain.as_str()];
        let all: Vec<(usize, usize)> =
            (0..sets.len()).flat_map(|set| (0..salts.len()).map(move |salt| (set, salt))).collect();
        let texts: BTreeSet<Cow<'_, str>> =
            all.iter().map(|&(set, salt)| rooted(&sets[set], salts[salt])).collect();
        assert_eq!(texts.len(), all.len(), "{texts:?}");
        assert_eq!(rooted(&[], "s"), "s", "what was kept on disk before is found");
    }

    #[test]
    fn who_is_not_held_is_dropped() {
        let mut cpu = Cpu::new(Kernels::best(), 1);
        let (first, second) = (held(&mut cpu, "a"), held(&mut cpu, "b"));
        let mut adapters = vec![Arc::clone(&first), Arc::clone(&second)];
        sweep(&mut adapters, &mut cpu);
        assert_eq!(adapters.len(), 2);
        drop(first);
        sweep(&mut adapters, &mut cpu);
        assert_eq!(adapters.iter().map(|held| &*held.digest).collect::<Vec<_>>(), ["b"]);
    }
}
