//! What processes used of the CPUs, and how many want each of them. Only asked of runs that are silent otherwise.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as system;

#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(not(target_os = "linux"))]
use portable as system;

use super::ProcessId;

/// The CPU time in ms that each of these used, with the children that it waited for. Those that are gone are left out.
#[must_use]
pub fn used_ms(of: &[ProcessId]) -> Vec<(ProcessId, u64)> {
    system::used_ms(of)
}

/// The CPU time in ms of the processes that this one started or inherited, and waited for.
#[must_use]
pub fn reaped_ms() -> u64 {
    system::reaped_ms()
}

/// How many processes wanted each CPU of the machine over the last minute, times 100.
#[must_use]
pub fn load_percent() -> u64 {
    system::load_percent()
}

/// The same from a load average as systems print it, such as `2.50`.
fn load_percent_of(average: &str) -> u64 {
    let (whole, parts) = average.split_once(['.', ',']).unwrap_or((average, ""));
    let hundredths: String = parts.chars().chain("00".chars()).take(2).collect();
    let load: u64 = format!("{whole}{hundredths}").parse().unwrap_or(0);
    load / std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

/// A time as `ps` prints it: `[[days-]hours:]minutes:seconds`, on some systems with hundredths.
#[cfg_attr(target_os = "linux", allow(dead_code))]
fn clock_ms(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let (clock, hundredths) = clock.split_once('.').unwrap_or((clock, "0"));
    let days: u64 = days.parse().ok()?;
    let parts: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes, seconds] => (hours, minutes, seconds),
        [minutes, seconds] if days == 0 => (0, minutes, seconds),
        _ => return None,
    };
    let hours = days.checked_mul(24)?.checked_add(hours)?;
    let seconds = hours.checked_mul(60)?.checked_add(minutes)?.checked_mul(60)?.checked_add(seconds)?;
    seconds.checked_mul(1000)?.checked_add(hundredths.parse::<u64>().ok()?.checked_mul(10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_of_ps_are_read() {
        for (text, ms) in [
            ("0:00.07", Some(70)),
            ("00:01:02", Some(62_000)),
            ("1-02:03:04", Some(93_784_000)),
            ("12:34.56", Some(754_560)),
        ] {
            assert_eq!(clock_ms(text), ms, "{text}");
        }
        for text in ["", "7", "a:b", "1:2:3:4", "1-2:3"] {
            assert_eq!(clock_ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_load_average_is_told_for_each_cpu() {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        for (text, hundredths) in [("0.00", 0), ("2.5", 250), ("12.34", 1234), ("3", 300), ("", 0), ("x", 0)]
        {
            assert_eq!(load_percent_of(text), hundredths / cpus, "{text}");
        }
    }
}
