//! Time zones as this machine knows them, for times of day that agents and providers name.

use jiff::tz::TimeZone;

/// The zone of this name, else the machine's own.
pub(crate) fn zone(name: Option<&str>) -> Option<TimeZone> {
    match name {
        Some(name) => TimeZone::get(name).ok(),
        None => Some(TimeZone::system()),
    }
}
