//! How durations and sizes are written. Durations are read as on the command line.

use std::fmt::Write;
use std::time::Duration;

use crate::render;

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// `64MiB`, `1GB`, `4096`: binary units with an i, decimal ones without.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{}` is not a size; write it as 64MiB, 512KiB or 1GiB", render::value(text));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let factor = match text[digits..].trim_start() {
        "" | "B" => 1,
        "k" | "K" | "kB" | "KB" => 1000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "T" | "TB" => 1_000_000_000_000,
        unit => {
            let unit = if unit.ends_with('B') { unit.to_owned() } else { format!("{unit}B") };
            UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&unit)).ok_or_else(wrong)?.1
        }
    };
    number.checked_mul(factor).filter(|bytes| *bytes <= 1 << 53).ok_or_else(wrong)
}

/// The shortest text that is read as this duration.
pub(crate) fn duration_text(span: Duration) -> String {
    let ms = span.as_millis();
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= size {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    text
}

pub(super) fn bytes_text(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(name, size)| format!("{}{name}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    #[test]
    fn sizes_are_read_and_said_back() {
        for (text, size) in
            [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("4096", 4096), ("5KB", 5000), ("512Ki", 512 << 10)]
        {
            assert_eq!(bytes(text), Ok(size), "{text}");
            assert_eq!(bytes(&bytes_text(size)), Ok(size));
        }
        for wrong in ["", "MiB", "-1", "1.5MiB", "64 MiBs", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_said_back_as_they_are_read() {
        for ms in [0, 1, 200, 1000, 90_000, 5_400_000, 28_800_000, 3_723_004] {
            let span = Duration::from_millis(ms);
            assert_eq!(args::duration(&duration_text(span)), Ok(span));
        }
    }
}
