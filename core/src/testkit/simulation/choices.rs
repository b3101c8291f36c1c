//! Where a schedule comes from: a tape of small numbers. A seed writes it while the simulation runs; a tape that was
//! kept is played again, and may be cut and lowered first. 0 is always the plainest choice, and a tape that is at its
//! end gives zeros, so that a shorter or lower tape is a simpler story.

#[derive(Debug, Clone)]
pub struct Choices {
    tape: Vec<u32>,
    at: usize,
    /// The state of the generator, while the tape is being written.
    seed: Option<u64>,
}

impl Choices {
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        // Neighbouring seeds give schedules that have nothing in common.
        Self { tape: Vec::new(), at: 0, seed: Some(mix(seed.wrapping_add(0x5851_f42d_4c95_7f2d))) }
    }

    #[must_use]
    pub fn played(tape: Vec<u32>) -> Self {
        Self { tape, at: 0, seed: None }
    }

    /// A number below `n`.
    pub fn pick(&mut self, n: u32) -> u32 {
        let drawn = match &mut self.seed {
            Some(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let drawn = u32::try_from(mix(*state) % u64::from(n.max(1))).unwrap_or(0);
                self.tape.push(drawn);
                drawn
            }
            None => self.tape.get(self.at).copied().unwrap_or(0) % n.max(1),
        };
        self.at += 1;
        drawn
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.pick(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    /// True once in so many times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.pick(n) == n - 1
    }

    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// What was used of the tape.
    #[must_use]
    pub fn into_tape(mut self) -> Vec<u32> {
        self.tape.truncate(self.at);
        self.tape
    }
}

/// The output function of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
