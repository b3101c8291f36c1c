//! Linux: what processes used of the CPUs, from `/proc`.

use super::super::ProcessId;

/// Fields of `/proc/<pid>/stat` behind the name: state is the first.
const UTIME: usize = 11;
const CUTIME: usize = 13;
const START_TICKS: usize = 19;

struct Times {
    own_ms: u64,
    waited_ms: u64,
    start_ticks: u64,
}

fn times(pid: u32) -> Option<Times> {
    // The name may hold anything, also blanks and brackets: the last bracket ends it.
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let fields: Vec<u64> = text.rsplit_once(") ")?.1.split(' ').map(|f| f.parse().unwrap_or(0)).collect();
    let ms = |at: usize| {
        let ticks = fields.get(at)?.saturating_add(*fields.get(at + 1)?);
        Some(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
    };
    Some(Times { own_ms: ms(UTIME)?, waited_ms: ms(CUTIME)?, start_ticks: *fields.get(START_TICKS)? })
}

pub(super) fn used_ms(of: &[ProcessId]) -> Vec<(ProcessId, u64)> {
    let look = |id: &ProcessId| {
        let times = times(id.pid).filter(|times| times.start_ticks == id.start_ticks)?;
        Some((*id, times.own_ms.saturating_add(times.waited_ms)))
    };
    of.iter().filter_map(look).collect()
}

pub(super) fn reaped_ms() -> u64 {
    times(std::process::id()).map_or(0, |times| times.waited_ms)
}

pub(super) fn load_percent() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    super::load_percent_of(text.split(' ').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_used_is_found_under_its_identity_alone() {
        let own = ProcessId::own();
        let stranger = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        // Something to be seen, in ticks of 10 ms.
        let seen = |id| used_ms(&[id]).first().map_or(0, |(_, ms)| *ms);
        let mut n = 0u64;
        while seen(own) == 0 {
            n = std::hint::black_box(n + 1);
        }
        assert_eq!(used_ms(&[stranger]), []);
    }
}
