//! Method names of both versions, and which version a call speaks.
//!
//! The names of 0.3 and 1.0 are disjoint, so the name decides; the `A2A-Version` header only matters where it
//! asks for a version that is not served, since agents and gateways send 1.0 names without it.

/// Version of the protocol whose shapes a call uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// 0.3: `kind` on every object, bare results.
    V03,
    /// 1.0: wrapper members, full enum names.
    V10,
}

/// What a method asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One message, one answer.
    Send,
    /// One message, the answer as an event stream.
    Stream,
    /// Something about a task; there are none.
    Task,
    /// Push notifications; there are none.
    Push,
}

/// Versions that are served.
pub const VERSIONS: [&str; 2] = ["0.3", "1.0"];

/// Finds a method by its name.
pub fn classify(name: &str) -> Option<(Action, Dialect)> {
    Some(match name {
        "message/send" => (Action::Send, Dialect::V03),
        "message/stream" => (Action::Stream, Dialect::V03),
        "tasks/get" | "tasks/cancel" | "tasks/resubscribe" => (Action::Task, Dialect::V03),
        "SendMessage" => (Action::Send, Dialect::V10),
        "SendStreamingMessage" => (Action::Stream, Dialect::V10),
        "GetTask" | "CancelTask" | "SubscribeToTask" => (Action::Task, Dialect::V10),
        name if name.starts_with("tasks/pushNotificationConfig/") => (Action::Push, Dialect::V03),
        name if name.contains("TaskPushNotificationConfig") => (Action::Push, Dialect::V10),
        _ => return None,
    })
}

/// Whether the `A2A-Version` header asks for a version that is served. Only major and minor count; no header and
/// an empty one mean 0.3.
pub fn is_served(version: Option<&str>) -> bool {
    let version = version.map_or("", str::trim);
    let mut numbers = version.splitn(3, '.');
    let major_minor = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or("0"));
    version.is_empty() || matches!(major_minor, ("0", "3") | ("1", "0"))
}

/// The dialect for errors about calls whose method says nothing.
pub fn dialect_of(version: Option<&str>) -> Dialect {
    if version.is_some_and(|version| version.trim().starts_with('1')) { Dialect::V10 } else { Dialect::V03 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_number_never_matters() {
        for served in [None, Some(""), Some("0.3"), Some("0.3.0"), Some("1.0"), Some("1.0.1"), Some("1")] {
            assert!(is_served(served), "{served:?}");
        }
        for other in ["0.2", "1.1", "2.0", "0.30", "x"] {
            assert!(!is_served(Some(other)), "{other}");
        }
    }
}
