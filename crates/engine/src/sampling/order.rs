//! The rules in an order of the caller's, each looking at what the ones before it left. Logits stay
//! as they are but for penalties and the temperature, so that every rule can come after any other.
//! Absent: the usual order, which has a faster way of its own, and drawing.

use super::{Candidate, Sampler, at_least, cut, draw_from, exp, likeliest, mass_of, mix, more};
use super::{by_rank, rank_by_typicality, uniform};
use ingle_protocol::{Stage, Token};

impl Sampler {
    /// Whether another order than the usual one is asked for.
    pub(super) fn reordered(&self) -> bool {
        self.rules.order != Stage::USUAL
    }

    /// What comes before any rule that has a place: bias, tokens that may not come, and what DRY
    /// will take off.
    pub(super) fn prepare(&mut self, logits: &mut [f32], prompt: &[Token], generated: &[Token]) {
        self.note(prompt, generated);
        self.add_bias(logits);
        if self.terms.bans(&self.rules) {
            self.terms.ban(logits, &self.rules, generated);
        }
        self.repeated.clear();
        if self.rules.dry.multiplier > 0.0 && self.rules.order.contains(&Stage::Dry) {
            self.repeated.resize(logits.len(), 0.0);
            self.terms.dry(&mut self.repeated, &self.rules.dry, prompt, generated);
        }
    }

    /// Chooses among prepared logits; `draw` is in `0..1`.
    pub(super) fn choose_in_order(&mut self, logits: &[f32], draw: f64) -> Token {
        let mut kept = std::mem::take(&mut self.candidates);
        at_least(logits, f32::MIN, &mut kept);
        let mut excluded = 0;
        for stage in self.rules.order.clone() {
            // Another one each time, and none of them the token's.
            let other = uniform(mix(draw.to_bits()), excluded);
            excluded += u64::from(stage == Stage::Xtc);
            self.apply(stage, &mut kept, other);
        }
        weigh(&mut kept);
        let token = draw_from(&kept, draw).unwrap_or_else(|| likeliest(logits));
        self.candidates = kept;
        token
    }

    fn apply(&mut self, stage: Stage, kept: &mut Vec<Candidate>, draw: f64) {
        match stage {
            Stage::Penalties if self.penalizes() => {
                for one in kept.iter_mut() {
                    one.logit = self.penalized(one.token, one.logit);
                }
            }
            Stage::Dry => {
                for one in kept.iter_mut() {
                    one.logit += self.repeated.get(one.token as usize).copied().unwrap_or(0.0);
                }
            }
            Stage::TopNSigma if self.rules.top_n_sigma > 0.0 => {
                let mut logits: Vec<f32> = kept.iter().map(|one| one.logit).collect();
                more::top_n_sigma(&mut logits, self.rules.top_n_sigma);
                let mut stays = logits.iter().map(|logit| logit.is_finite());
                kept.retain(|_| stays.next().unwrap_or(false));
            }
            Stage::Temperature => self.cool(kept),
            Stage::TopK if (1..kept.len()).contains(&(self.rules.top_k as usize)) => {
                rank_by_logit(kept);
                let last = self.rules.top_k as usize;
                kept.select_nth_unstable_by(last, by_rank);
                kept.truncate(last);
                kept.sort_unstable_by_key(|one| one.token);
            }
            Stage::Typical if self.rules.typical_p < 1.0 => {
                weigh(kept);
                let mass = mass_of(kept);
                rank_by_typicality(kept, mass);
                cut(kept, &mut self.scratch, f64::from(self.rules.typical_p) * mass);
            }
            Stage::TopP if self.rules.top_p < 1.0 => {
                weigh(kept);
                let goal = f64::from(self.rules.top_p) * mass_of(kept);
                rank_by_logit(kept);
                cut(kept, &mut self.scratch, goal);
            }
            Stage::MinP if self.rules.min_p > 0.0 => {
                weigh(kept);
                // The likeliest one weighs 1.
                kept.retain(|one| one.weight >= self.rules.min_p);
            }
            Stage::Xtc if self.rules.xtc.probability > 0.0 => {
                weigh(kept);
                more::xtc(kept, self.rules.xtc, draw);
            }
            _ => {}
        }
    }

    /// Divides by the temperature; at 0 only the likeliest stays, of equals the lowest.
    fn cool(&mut self, kept: &mut Vec<Candidate>) {
        let logits: Vec<f32> = kept.iter().map(|one| one.logit).collect();
        let (base, dynamic) = (self.rules.temperature, self.rules.dynamic_temperature);
        let temperature = more::temperature(&logits, base, dynamic);
        if temperature < super::COLD {
            let best = likeliest(&logits) as usize;
            let best = kept.get(best).copied();
            kept.clear();
            kept.extend(best);
            return;
        }
        kept.iter_mut().for_each(|one| one.logit /= temperature);
    }
}

fn rank_by_logit(kept: &mut [Candidate]) {
    kept.iter_mut().for_each(|one| one.rank = one.logit);
}

/// Sets weights relative to the likeliest, and leaves logits alone.
fn weigh(kept: &mut [Candidate]) {
    let most = kept.iter().fold(f32::NEG_INFINITY, |most, one| most.max(one.logit));
    kept.iter_mut().for_each(|one| one.weight = exp(one.logit - most));
}
