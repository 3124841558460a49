//! What calls will cost: what one has cost, times how many are to come, and what else that could
//! be. All of it is arithmetic over sums of the ledger; estimates are floats, money that was spent
//! is not. Absent: prices (a trait says them) and how it is shown.

use ingle_protocol::{Entry, Usage};

use crate::Spend;

/// Who knows what other models cost.
pub trait Pricing {
    /// What a call with this usage would have cost, in micro-dollars; `None` where that is not
    /// known.
    fn micros(&self, usage: &Usage) -> Option<u64>;
}

impl<F: Fn(&Usage) -> Option<u64>> Pricing for F {
    fn micros(&self, usage: &Usage) -> Option<u64> {
        self(usage)
    }
}

/// What calls that left the machine would have cost at other prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repriced {
    /// How many could be priced.
    pub calls: u64,
    /// Those of which no price is known.
    pub unknown: u64,
    /// What the first would have cost, in micro-dollars.
    pub micros: u64,
}

impl Repriced {
    /// Counts one entry, if its call left the machine.
    pub fn count(&mut self, entry: &Entry, prices: &dyn Pricing) {
        if entry.hosts.is_empty() {
            return;
        }
        match prices.micros(&entry.usage) {
            Some(micros) => {
                self.calls += 1;
                self.micros = self.micros.saturating_add(micros);
            }
            None => self.unknown += 1,
        }
    }
}

/// What is to be otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WhatIf {
    /// Calls a day; `None` for as many as there were.
    pub calls_per_day: Option<f64>,
    /// The share of calls that is answered on this machine, 0 to 1; `None` for what it was.
    pub local_share: Option<f64>,
    /// What calls that leave would cost at other prices; `None` for what they did cost.
    pub remote: Option<Repriced>,
    /// What a call answered here costs, in micro-dollars; `None` for what those did.
    pub local_micros: Option<f64>,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Calls a day.
    pub calls_per_day: f64,
    /// The share of them that is answered on this machine.
    pub local_share: f64,
    /// What one costs that is answered here, in micro-dollars; `None` where there was none to
    /// tell.
    pub local_micros: Option<f64>,
    /// What one costs that leaves; `None` where there was none to tell.
    pub remote_micros: Option<f64>,
    /// What one costs, both kinds together.
    pub call_micros: f64,
    /// What a day costs.
    pub day_micros: f64,
    /// What 30 days cost.
    pub month_micros: f64,
    /// The share of calls whose cost was not known, and which are told as if they cost what the
    /// others did.
    pub unknown_share: f64,
}

/// What calls will cost, by what `all` of a time that was `days` long did, and by what is to be
/// otherwise. Refused calls are none.
///
/// # Errors
/// Where there was nothing to tell from, in words for who asked.
pub fn forecast(all: &Spend, days: f64, what_if: &WhatIf) -> Result<Forecast, String> {
    let tried = all.calls.saturating_sub(all.refused);
    let local = tried.saturating_sub(all.left);
    let local_unknown = all.unknown.saturating_sub(all.left_unknown);
    let local_cost = all.cost_micros.saturating_sub(all.left_micros);
    let each = |micros: u64, calls: u64| (calls > 0).then(|| micros as f64 / calls as f64);
    let local_micros =
        what_if.local_micros.or_else(|| each(local_cost, local.saturating_sub(local_unknown)));
    let remote_micros = match &what_if.remote {
        Some(other) => each(other.micros, other.calls),
        None => each(all.left_micros, all.left.saturating_sub(all.left_unknown)),
    };
    let share = match what_if.local_share {
        Some(share) if (0.0..=1.0).contains(&share) => share,
        Some(share) => return Err(format!("the share kept local is from 0 to 1, not {share}")),
        None => each(local, tried).ok_or("no call was made in this time: choose a longer one")?,
    };
    let calls_per_day = match what_if.calls_per_day {
        Some(calls) if calls.is_finite() && calls >= 0.0 => calls,
        Some(calls) => return Err(format!("{calls} is no number of calls a day")),
        None if days > 0.0 => tried as f64 / days,
        None => return Err("a time without days tells nothing: choose a longer one".into()),
    };
    let part = |share: f64, micros: Option<f64>, which: &str| match micros {
        Some(micros) => Ok(share * micros),
        None if share == 0.0 => Ok(0.0),
        None => Err(format!("no call {which} has a known cost in this time to tell from")),
    };
    let call_micros = part(share, local_micros, "answered on this machine")?
        + part(1.0 - share, remote_micros, "that left this machine")?;
    let day_micros = call_micros * calls_per_day;
    Ok(Forecast {
        calls_per_day,
        local_share: share,
        local_micros,
        remote_micros,
        call_micros,
        day_micros,
        month_micros: day_micros * 30.0,
        unknown_share: each(all.unknown, tried).unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten calls in five days: one refused, three answered here for 30 together, six that left,
    /// of which two are of unknown cost and four cost 4000 together.
    fn all() -> Spend {
        Spend {
            calls: 10,
            refused: 1,
            left: 6,
            left_unknown: 2,
            unknown: 2,
            left_micros: 4000,
            cost_micros: 4030,
            ..Spend::default()
        }
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-9 * other.abs().max(1.0)
    }

    #[test]
    fn what_was_goes_on() {
        let it = forecast(&all(), 5.0, &WhatIf::default()).expect("there were calls");
        assert!(near(it.calls_per_day, 9.0 / 5.0) && near(it.local_share, 3.0 / 9.0));
        assert_eq!((it.local_micros, it.remote_micros), (Some(10.0), Some(1000.0)));
        assert!(near(it.call_micros, (3.0 * 10.0 + 6.0 * 1000.0) / 9.0), "{it:?}");
        assert!(near(it.day_micros, it.call_micros * 9.0 / 5.0));
        assert!(near(it.month_micros, it.day_micros * 30.0) && near(it.unknown_share, 2.0 / 9.0));
    }

    #[test]
    fn what_could_be() {
        let check = |what_if: WhatIf, call: f64, day: f64| {
            let it = forecast(&all(), 5.0, &what_if).expect("there were calls");
            assert!(near(it.call_micros, call) && near(it.day_micros, day), "{what_if:?}: {it:?}");
        };
        let volume = Some(1e6);
        let plain = WhatIf { calls_per_day: volume, ..WhatIf::default() };
        check(WhatIf { local_share: Some(0.8), ..plain }, 208.0, 208e6);
        check(WhatIf { local_share: Some(1.0), ..plain }, 10.0, 10e6);
        check(WhatIf { local_share: Some(0.0), ..plain }, 1000.0, 1000e6);
        check(WhatIf { calls_per_day: Some(0.0), ..plain }, 670.0, 0.0);
        let half = WhatIf { local_share: Some(0.5), ..plain };
        check(WhatIf { local_micros: Some(0.0), ..half }, 500.0, 500e6);
        let cheap = Repriced { calls: 5, unknown: 1, micros: 500 };
        check(WhatIf { remote: Some(cheap), ..half }, 55.0, 55e6);
    }

    #[test]
    fn nothing_is_told_from_nothing() {
        let check = |all: Spend, days: f64, what_if: WhatIf, expect: &str| {
            let why = forecast(&all, days, &what_if).expect_err(expect);
            assert!(why.contains(expect), "{why}");
        };
        let plain = WhatIf::default();
        check(Spend::default(), 5.0, plain, "no call was made");
        check(Spend { calls: 3, refused: 3, ..Spend::default() }, 5.0, plain, "no call was made");
        check(all(), 0.0, plain, "without days");
        for share in [-0.1, 1.1, f64::NAN] {
            check(all(), 5.0, WhatIf { local_share: Some(share), ..plain }, "from 0 to 1");
        }
        for calls in [-1.0, f64::NAN, f64::INFINITY] {
            let what_if = WhatIf { calls_per_day: Some(calls), ..plain };
            check(all(), 5.0, what_if, "no number of calls");
        }
        let remote = Spend { calls: 2, left: 2, left_micros: 9, cost_micros: 9, ..all() };
        let remote = Spend { refused: 0, left_unknown: 0, unknown: 0, ..remote };
        let half = WhatIf { local_share: Some(0.5), ..plain };
        check(remote.clone(), 5.0, half, "answered on this machine");
        assert!(forecast(&remote, 5.0, &plain).is_ok(), "what there is none of needs no price");
        let unpriced = Repriced { calls: 0, unknown: 6, micros: 0 };
        let what_if = WhatIf { remote: Some(unpriced), ..plain };
        check(all(), 5.0, what_if, "left this machine");
    }

    #[test]
    fn only_what_left_is_priced_anew() {
        let prices = |usage: &Usage| (usage.prompt_tokens > 0).then_some(7);
        let entry = |hosts: &[&str], prompt_tokens| Entry {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            usage: Usage { prompt_tokens, ..Usage::default() },
            ..Entry::default()
        };
        let mut all = Repriced::default();
        for entry in [entry(&[], 1), entry(&["far"], 1), entry(&["far"], 0), entry(&["far"], 2)] {
            all.count(&entry, &prices);
        }
        assert_eq!(all, Repriced { calls: 2, unknown: 1, micros: 14 });
    }
}
