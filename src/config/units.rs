//! Sizes and durations as people write them, in both directions.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};

use crate::mirror::{MinuteOfDay, Timetable};

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

/// `2 MiB/s`, or by the time of day `08:00 512 KiB/s, 18:00 none`; empty: no limit. `None`: no such thing, or a limit of
/// nothing at all.
pub(super) fn parse_bandwidth(text: &str) -> Option<Timetable> {
    let text = text.trim();
    if text.is_empty() || text == NO_LIMIT {
        return Some(Timetable::default());
    }
    if let Some(all_day) = parse_rate(text) {
        return Some(Timetable::always(all_day));
    }
    let entry = |entry: &str| {
        let (time, limit) = entry.trim().split_once(' ')?;
        let limit = match limit.trim() {
            NO_LIMIT => None,
            rate => Some(parse_rate(rate)?),
        };
        Some((parse_time_of_day(time)?, limit))
    };
    Timetable::of(text.split(',').map(entry).collect::<Option<_>>()?)
}

/// What stands for no limit in a timetable.
const NO_LIMIT: &str = "none";

fn parse_rate(text: &str) -> Option<u64> {
    parse_size(text.trim().strip_suffix("/s")?).filter(|bytes| *bytes > 0)
}

/// `08:00`: minutes since midnight.
fn parse_time_of_day(text: &str) -> Option<MinuteOfDay> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, most: MinuteOfDay| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<MinuteOfDay>().ok().filter(|number| is_plain && *number < most)
    };
    Some(number(hour, 24)? * 60 + number(minute, 60).filter(|_| minute.len() == 2)?)
}

/// `table` as [`parse_bandwidth`] reads it.
pub(super) fn bandwidth_text(table: &Timetable) -> String {
    let limit =
        |bytes: Option<u64>| bytes.map_or_else(|| NO_LIMIT.to_owned(), |bytes| format!("{}/s", size_text(bytes)));
    match table.entries() {
        [] => String::new(),
        [(0, Some(bytes))] => limit(Some(*bytes)),
        entries => {
            let entry =
                |(minute, bytes): &(MinuteOfDay, _)| format!("{:02}:{:02} {}", minute / 60, minute % 60, limit(*bytes));
            entries.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
    }
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

    #[test]
    fn limits_read_as_people_write_them() {
        let table = |entries: &[(u16, Option<u64>)]| Timetable::of(entries.to_vec());
        for (text, entries) in [
            ("", &[][..]),
            ("none", &[]),
            ("2 MiB/s", &[(0, Some(2 << 20))]),
            (" 1.5MB/s ", &[(0, Some(1_500_000))]),
            ("08:00 512 KiB/s, 18:00 none", &[(480, Some(512 << 10)), (1080, None)]),
            ("18:30 none,8:05 1 B/s", &[(485, Some(1)), (1110, None)]),
        ] {
            assert_eq!(parse_bandwidth(text), table(entries), "{text}");
        }
        for bad in [
            "fast",
            "2 MiB",
            "0 B/s",
            "/s",
            "25:00 none",
            "8:5 none",
            "08:00",
            "8 none",
            "1:00 none, 1:00 1 B/s",
            "1:00 none,",
            "+1:00 none",
        ] {
            assert_eq!(parse_bandwidth(bad), None, "{bad}");
        }
        let text = |text| parse_bandwidth(text).as_ref().map(bandwidth_text);
        assert_eq!(text("18:00 none, 8:00 512 KiB/s").as_deref(), Some("08:00 512 KiB/s, 18:00 none"));
        assert_eq!([text("2 MiB/s"), text("")], [Some("2 MiB/s".into()), Some(String::new())]);
    }

    proptest::proptest! {
        #[test]
        fn a_timetable_that_is_written_reads_the_same_again(
            entries in proptest::collection::btree_map(0..1440u16, proptest::option::of(1..u64::MAX), 0..5),
        ) {
            let table = Timetable::of(entries.into_iter().collect()).expect("a timetable");
            proptest::prop_assert_eq!(parse_bandwidth(&bandwidth_text(&table)), Some(table));
        }

        #[test]
        fn what_is_written_reads_the_same_again(seconds in 0..=LONGEST.as_secs() - 1, nanos in 0..1_000_000_000u32, bytes: u64) {
            let duration = Duration::new(seconds, nanos);
            proptest::prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
            proptest::prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
            proptest::prop_assert_eq!(parse_a_day(&a_day_text(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,20}|[0-9.]{0,400} ?[a-zA-Z]{0,4}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_bandwidth(&text));
        }
    }
}
