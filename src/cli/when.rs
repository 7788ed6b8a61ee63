//! A point in the log, as a person says it: RFC 3339, `03:07`, `-15m`, or a position.

use chrono::{DateTime, Days, Local, NaiveTime, SecondsFormat, TimeDelta, TimeZone, Utc};

/// A point in time, or a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// A point in time.
    Time(DateTime<Utc>),
    /// A place in the log.
    Position(u64),
}

const ALLOWED: &str = "expected RFC 3339 (`2026-03-01T03:07:00Z`), a time of day (`03:07`), an age (`-15m`, with s, m, h or d), or a position (`1234`)";

impl When {
    /// Reads it as of this moment. A time of day is the latest one that is past.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_as_of(text, &Local::now())
    }

    /// The same as of another moment.
    pub(super) fn parse_as_of<Zone: TimeZone>(text: &str, now: &DateTime<Zone>) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.to_utc()));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Position).map_err(|_| format!("`{text}` is past any position"));
        }
        let parsed = match text.strip_prefix('-') {
            Some(age) => Self::age(age, now),
            None => Self::time_of_day(text, now),
        };
        parsed.map(Self::Time).ok_or_else(|| ALLOWED.to_owned())
    }

    fn age<Zone: TimeZone>(age: &str, now: &DateTime<Zone>) -> Option<DateTime<Utc>> {
        // Without a unit it would be a guess between seconds and positions.
        let unit = age.chars().last()?;
        let duration = unit.is_ascii_alphabetic().then(|| crate::config::duration(age)).flatten()?;
        now.to_utc().checked_sub_signed(TimeDelta::from_std(duration).ok()?)
    }

    fn time_of_day<Zone: TimeZone>(text: &str, now: &DateTime<Zone>) -> Option<DateTime<Utc>> {
        let time = NaiveTime::parse_from_str(text, "%H:%M:%S")
            .or_else(|_| NaiveTime::parse_from_str(text, "%H:%M"))
            .ok()?;
        let today = now.date_naive();
        let at =
            |date: chrono::NaiveDate| now.timezone().from_local_datetime(&date.and_time(time)).earliest();
        at(today)
            .filter(|at| at <= now)
            .or_else(|| at(today.checked_sub_days(Days::new(1))?))
            .map(|at| at.to_utc())
    }
}

/// How a time is written in a query.
pub(super) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use chrono::FixedOffset;

    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let now = FixedOffset::east_opt(3600).unwrap().with_ymd_and_hms(2026, 3, 1, 10, 0, 0).unwrap();
        When::parse_as_of(text, &now).map(|when| match when {
            When::Time(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            When::Position(position) => position.to_string(),
        })
    }

    #[test]
    fn rfc_3339_is_taken_with_its_offset() {
        assert_eq!(parse("2026-02-28T12:00:00+02:00").unwrap(), "2026-02-28T10:00:00Z");
        assert_eq!(parse("2026-02-28T12:00:00.250Z").unwrap(), "2026-02-28T12:00:00.250Z");
    }

    #[test]
    fn a_time_of_day_is_local_and_the_latest_one_that_is_past() {
        assert_eq!(parse("03:07").unwrap(), "2026-03-01T02:07:00Z");
        assert_eq!(parse("10:00:00").unwrap(), "2026-03-01T09:00:00Z");
        assert_eq!(parse("10:01").unwrap(), "2026-02-28T09:01:00Z");
    }

    #[test]
    fn an_age_counts_back_from_now() {
        assert_eq!(parse("-15m").unwrap(), "2026-03-01T08:45:00Z");
        assert_eq!(parse("-90s").unwrap(), "2026-03-01T08:58:30Z");
        assert_eq!(parse("-2d").unwrap(), "2026-02-27T09:00:00Z");
    }

    #[test]
    fn a_bare_number_is_a_position() {
        assert_eq!(When::parse("1234"), Ok(When::Position(1234)));
        assert_eq!(When::parse("0"), Ok(When::Position(0)));
    }

    #[test]
    fn anything_else_says_what_is_accepted() {
        for wrong in ["", "-", "-15", "-0m", "yesterday", "25:00", "-5w", "99999999999999999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("soon").unwrap_err().contains("`-15m`"));
    }
}
