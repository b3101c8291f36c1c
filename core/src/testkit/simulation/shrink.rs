//! Makes the tape of a failing schedule simpler for as long as it fails in the same way: stretches are left out, then
//! zeroed, then single choices lowered. Bounded, since a story that is simple enough is all that is wanted.

/// So many tapes are tried at the most.
const TRIES_MAX: usize = 3000;

/// The simplest tape found. `fails` tells whether a tape still shows the failure.
pub(super) fn shrink(tape: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
    let mut best = tape;
    let mut tries = 0;
    let mut attempt = |best: &mut Vec<u32>, candidate: Vec<u32>| {
        tries += 1;
        let better = tries <= TRIES_MAX && candidate != *best && fails(&candidate);
        if better {
            *best = candidate;
        }
        (better, tries > TRIES_MAX)
    };
    loop {
        let before = best.clone();
        let mut width = (best.len() / 2).max(1);
        while width > 0 {
            let mut at = 0;
            while at < best.len() {
                let until = (at + width).min(best.len());
                let without: Vec<u32> = best[..at].iter().chain(&best[until..]).copied().collect();
                let (better, spent) = attempt(&mut best, without);
                if spent {
                    return trimmed(best);
                }
                if better {
                    continue;
                }
                let mut zeroed = best.clone();
                zeroed[at..until].fill(0);
                attempt(&mut best, zeroed);
                at += width;
            }
            width /= 2;
        }
        for at in 0..best.len() {
            while best.get(at).is_some_and(|choice| *choice > 0) {
                let mut lower = best.clone();
                lower[at] /= 2;
                if !attempt(&mut best, lower).0 {
                    break;
                }
            }
        }
        if best == before {
            return trimmed(best);
        }
    }
}

/// Zeros at the end say what the end of the tape says anyway.
fn trimmed(mut tape: Vec<u32>) -> Vec<u32> {
    while tape.last() == Some(&0) {
        tape.pop();
    }
    tape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out_and_the_rest_is_as_low_as_it_can_be() {
        let tape = (0..200).collect();
        let shrunk = shrink(tape, |tape| tape.iter().any(|n| *n >= 50) && tape.contains(&7));
        assert!(shrunk.len() == 2 && shrunk.contains(&7), "{shrunk:?}");
        assert!(shrunk.iter().any(|n| (50..100).contains(n)), "{shrunk:?}");
    }
}
