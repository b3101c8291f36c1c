//! Chance with a seed that is printed, so that a failure can be had again as far as processes allow.

/// A small generator (xorshift).
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds are to give other numbers from the first roll on; zero would give nothing else.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The seed of `RUN_AGENT_SEED`, or a fixed one; printed.
    #[must_use]
    pub(super) fn seed() -> u64 {
        let seed = std::env::var("RUN_AGENT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
        println!("seed {seed}");
        seed
    }

    pub(super) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }

    pub(super) fn pick(&mut self, below: usize) -> usize {
        usize::try_from(self.roll(below as u64)).unwrap_or_default()
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}
