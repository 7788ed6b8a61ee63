//! One setting: a flag and the variables that may stand for it, looked up in that order.

use std::ops::RangeInclusive;

use crate::config::{ConfigError, Environment};

/// The names of one setting.
pub(super) struct Setting {
    flag: &'static str,
    variables: &'static [&'static str],
}

/// A value and the name under which it was given.
pub(super) struct Given {
    name: &'static str,
    pub(super) value: String,
}

impl Setting {
    pub(super) const fn new(flag: &'static str, variables: &'static [&'static str]) -> Self {
        Self { flag, variables }
    }

    /// The first of flag and variables that is set. An empty variable counts as unset, as compose files write it.
    pub(super) fn read(&self, flag_value: Option<&str>, env: &dyn Environment) -> Option<Given> {
        if let Some(value) = flag_value {
            return Some(Given { name: self.flag, value: value.to_owned() });
        }
        self.variables.iter().find_map(|name| {
            let value = env.var(name).filter(|value| !value.is_empty())?;
            Some(Given { name, value })
        })
    }

    /// A whole number within `range`, or `default`.
    pub(super) fn whole_number(
        &self,
        flag_value: Option<&str>,
        env: &dyn Environment,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let Some(given) = self.read(flag_value, env) else { return Ok(default) };
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        given.parse(&allowed, |text| text.trim().parse().ok().filter(|number| range.contains(number)))
    }
}

impl Given {
    /// Applies `parse`; what it refuses becomes an error that names the source and what is `allowed`.
    pub(super) fn parse<T>(
        self,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        parse(&self.value).ok_or_else(|| ConfigError::Invalid {
            name: self.name.to_owned(),
            value: self.value.clone(),
            allowed: allowed.to_owned(),
        })
    }
}
