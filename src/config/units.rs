//! Sizes and durations as people write them, in both directions.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};

/// No wait is longer: clocks can be asked to add it to any time without running over.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// `2s`, `15m`, `1h 30m`. `None`: no duration, a negative one, or one of more than a year.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let parsed = SpanParser::new().parse_unsigned_duration(text.trim()).ok()?;
    (parsed <= LONGEST).then_some(parsed)
}

/// `duration` as [`parse_duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

/// `10 GiB`, `1.5MB`, `4096`: bytes. `None`: no size.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    text.trim().parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// `100 MiB/day`: bytes a day. `None`: no such thing.
pub(super) fn parse_a_day(text: &str) -> Option<u64> {
    parse_size(text.trim().strip_suffix("/day")?)
}

/// `bytes` a day as [`parse_a_day`] reads it.
pub(super) fn a_day_text(bytes: u64) -> String {
    format!("{}/day", size_text(bytes))
}

/// `bytes` as [`parse_size`] reads it, exactly: in the largest unit that leaves a whole number.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [(&str, u32); 6] = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = UNITS.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("2s", 2_000),
            ("15m", 900_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
            (" 60s ", 60_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "2", "s", "-2s", "2s ago", "2 apples", "1 month", "9000h", "99999999999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
        assert_eq!(duration_text(Duration::from_secs(5_400)), "1h 30m");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [("10 GiB", 10 << 30), ("1.5MB", 1_500_000), ("4096", 4096), ("0 B", 0), (" 1 KiB ", 1024)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in ["", "GiB", "-1 B", "ten", "1 GiB/s", "1.2.3 B", "1e3"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!([0, 1, 1536, 10 << 30].map(size_text), ["0 B", "1 B", "1536 B", "10 GiB"]);
    }

    #[test]
    fn sizes_a_day_read_as_people_write_them() {
        for (text, bytes) in [("100 MiB/day", 100 << 20), ("1GB/day", 1_000_000_000), (" 0 B /day ", 0)] {
            assert_eq!(parse_a_day(text), Some(bytes), "{text}");
        }
        for bad in ["", "/day", "100 MiB", "100 MiB/s", "100 MiB per day", "-1 B/day", "1 MiB/day/day"] {
            assert_eq!(parse_a_day(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_the_same_again(seconds in 0..=LONGEST.as_secs() - 1, nanos in 0..1_000_000_000u32, bytes: u64) {
            let duration = Duration::new(seconds, nanos);
            proptest::prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
            proptest::prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
            proptest::prop_assert_eq!(parse_a_day(&a_day_text(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}|[0-9.]{0,400} ?[a-zA-Z]{0,4}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
