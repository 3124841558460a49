//! What computing on this machine costs: the electricity that it draws while it computes, and its
//! share of what the machine cost. Absent: how long a call computes, which is measured elsewhere.

/// Hours of a year of 365.25 days.
const YEAR_HOURS: u128 = 8_766;
const HOUR_MS: u128 = 3_600_000;

/// What the user says of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCost {
    /// Electricity, in micro-dollars a kilowatt-hour.
    pub kwh_micros: u64,
    /// What the machine draws while it computes, in watts.
    pub watts: u64,
    /// What the machine cost, in micro-dollars.
    pub hardware_micros: u64,
    /// Years over which it is written off; 0 leaves its price out.
    pub years: u64,
    /// The share of those years in which it computes, in percent; 1 to 100.
    pub busy_percent: u64,
}

impl LocalCost {
    /// Pico-dollars of an hour's computing: kilowatt-hours × their price, and hardware / (years ×
    /// 8,766 h × the share that it computes).
    pub fn pico_per_hour(&self) -> u128 {
        let power = u128::from(self.kwh_micros) * u128::from(self.watts);
        let electricity = power.saturating_mul(1_000);
        let busy = u128::from(self.years) * YEAR_HOURS * u128::from(self.busy_percent.min(100));
        let hardware = u128::from(self.hardware_micros) * 100 * 1_000_000;
        let hardware = if busy == 0 { 0 } else { hardware.div_ceil(busy) };
        electricity.saturating_add(hardware)
    }

    /// Micro-dollars of a call that computed for so many milliseconds, rounded up.
    pub fn micros(&self, compute_ms: u64) -> u64 {
        let pico = self.pico_per_hour().saturating_mul(compute_ms.into());
        super::money::micros_up(pico.div_ceil(HOUR_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::LocalCost;

    #[test]
    fn an_hour_costs_its_electricity_and_its_share_of_the_machine() {
        let check = |cost: LocalCost, ms, micros| assert_eq!(cost.micros(ms), micros, "{cost:?}");
        // 0.30 $ × 0.4 kW × 1 h = 0.12 $.
        let power = LocalCost { kwh_micros: 300_000, watts: 400, ..Default::default() };
        check(power, 3_600_000, 120_000);
        check(power, 1_000, 34); // 33.3
        check(power, 0, 0);
        // 8,766 $ over 1 year at all hours is 1 $ an hour; at half of them, 2 $.
        let share = LocalCost { hardware_micros: 8_766_000_000, years: 1, ..Default::default() };
        check(LocalCost { busy_percent: 100, ..share }, 3_600_000, 1_000_000);
        check(LocalCost { busy_percent: 50, ..share }, 3_600_000, 2_000_000);
        check(LocalCost { busy_percent: 50, years: 0, ..share }, 3_600_000, 0);
        check(LocalCost { busy_percent: 100, ..power }, 3_600_000, 120_000);
        check(LocalCost { kwh_micros: u64::MAX, watts: u64::MAX, ..share }, u64::MAX, u64::MAX);
    }
}
