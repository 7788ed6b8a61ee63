//! Which addresses an agent may have, when somebody else than our own backend says so (decision 2).
//!
//! [`Class`] is a pure judgement over one address; [`check`] resolves a name and looks at *every* address that it has,
//! and hands them back so that the caller can connect to exactly what was looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use url::{Host, Url};

/// A name server that takes longer than this is as good as none.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Nobody has more addresses than this for one agent; a longer list is somebody playing games.
const ADDRESSES_MAX: usize = 32;

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reachable for everybody.
    Public,
    /// This very machine.
    Loopback,
    /// RFC 1918, and `fd00::/8`.
    Private,
    /// Everything that no agent can have: link-local (cloud metadata), unspecified, multicast, carrier-grade NAT,
    /// documentation ranges and the like.
    Forbidden,
}

impl Class {
    /// The class of an address. IPv4 inside IPv6 counts as what it is.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => embedded_v4(address).map_or_else(|| Self::of_v6(address), Self::of_v4),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            (127, _, _) => Self::Loopback,
            (10, _, _) | (172, 16..=31, _) | (192, 168, _) => Self::Private,
            (0 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (192, 0, 0 | 2)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113) => Self::Forbidden,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [first, second, ..] = address.segments();
        match first {
            _ if address.is_loopback() => Self::Loopback,
            _ if address.is_unspecified() => Self::Forbidden,
            0xfd00..=0xfdff => Self::Private,
            0xfc00..=0xfcff | 0xfe80..=0xfeff | 0xff00..=0xffff => Self::Forbidden,
            0x2001 if second == 0x0db8 || second == 0 => Self::Forbidden,
            _ => Self::Public,
        }
    }
}

/// The IPv4 address that an IPv6 address carries: mapped, compatible, NAT64 or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let low = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => Some(low(a, b)),
        [0, 0, 0, 0, 0, 0, a, b] if (a, b) != (0, 0) && (a, b) != (0, 1) => Some(low(a, b)),
        [0x2002, a, b, ..] => Some(low(a, b)),
        _ => None,
    }
}

/// When a URL is looked at, and how strict that makes us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// An agent registers, or somebody creates an external workspace: no relaxation but the name `localhost`.
    Register,
    /// We are about to call it.
    Call,
}

/// What the operator's surroundings allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `MOLECULE_ENV` says development.
    pub development: bool,
    /// Multi-tenant deployment with agents in private networks.
    pub saas: bool,
}

impl Surroundings {
    /// Whether an address of this class may be called or registered.
    pub const fn allow(self, class: Class, occasion: Occasion) -> bool {
        match (class, occasion) {
            (Class::Public, _) => true,
            (Class::Forbidden, _) | (Class::Loopback, Occasion::Register) => false,
            (Class::Private, Occasion::Register) => self.saas,
            (Class::Private, Occasion::Call) => self.saas || self.development,
            (Class::Loopback, Occasion::Call) => self.development && !self.saas,
        }
    }
}

/// Why a URL is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no URL.
    #[error("`{0}` is not a URL")]
    NotUrl(String),
    /// Only the two are spoken here.
    #[error("URL scheme must be http or https")]
    Scheme,
    /// There is nobody to call.
    #[error("URL has no host")]
    NoHost,
    /// The name does not resolve.
    #[error("host `{0}` does not resolve")]
    Unresolved(String),
    /// One of its addresses is out of bounds.
    #[error("address `{0}` is not allowed")]
    Address(IpAddr),
}

/// Checks a URL; answers with the addresses that were looked at.
pub async fn check(url: &str, around: Surroundings, occasion: Occasion) -> Result<Vec<SocketAddr>, Refused> {
    let url = Url::parse(url).map_err(|_| Refused::NotUrl(url.chars().take(200).collect()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Scheme);
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses = match url.host().ok_or(Refused::NoHost)? {
        Host::Ipv4(address) => vec![SocketAddr::new(address.into(), port)],
        Host::Ipv6(address) => vec![SocketAddr::new(address.into(), port)],
        // The contract's local agents register under this name; whether it may be called is asked again at the call.
        Host::Domain("localhost") if occasion == Occasion::Register => return Ok(Vec::new()),
        Host::Domain(name) => resolve(name, port).await?,
    };
    match addresses.iter().find(|address| !around.allow(Class::of(address.ip()), occasion)) {
        Some(bad) => Err(Refused::Address(bad.ip())),
        None => Ok(addresses),
    }
}

async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Refused> {
    let unresolved = || Refused::Unresolved(name.to_owned());
    let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name, port)))
        .await
        .map_err(|_| unresolved())?
        .map_err(|_| unresolved())?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX + 1).collect();
    if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
        return Err(unresolved());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::{Class, Occasion, Refused, Surroundings, check};

    const TABLE: &[(&str, Class)] = &[
        ("8.8.8.8", Class::Public),
        ("2606:4700::1111", Class::Public),
        ("127.0.0.1", Class::Loopback),
        ("127.8.8.8", Class::Loopback),
        ("::1", Class::Loopback),
        ("::ffff:127.0.0.1", Class::Loopback),
        ("10.1.2.3", Class::Private),
        ("172.16.0.1", Class::Private),
        ("172.31.255.255", Class::Private),
        ("172.32.0.1", Class::Public),
        ("192.168.1.1", Class::Private),
        ("::ffff:10.0.0.1", Class::Private),
        ("64:ff9b::a00:1", Class::Private),
        ("2002:a00:1::", Class::Private),
        ("fd12::1", Class::Private),
        ("fc00::1", Class::Forbidden),
        ("fe80::1", Class::Forbidden),
        ("ff02::1", Class::Forbidden),
        ("::", Class::Forbidden),
        ("0.0.0.0", Class::Forbidden),
        ("169.254.169.254", Class::Forbidden),
        ("::ffff:169.254.169.254", Class::Forbidden),
        ("100.64.0.1", Class::Forbidden),
        ("100.128.0.1", Class::Public),
        ("192.0.2.1", Class::Forbidden),
        ("198.51.100.7", Class::Forbidden),
        ("203.0.113.7", Class::Forbidden),
        ("224.0.0.1", Class::Forbidden),
        ("255.255.255.255", Class::Forbidden),
        ("2001:db8::1", Class::Forbidden),
    ];

    #[test]
    fn each_address_has_the_class_that_the_contract_s_tables_give_it() {
        for (address, class) in TABLE {
            assert_eq!(Class::of(address.parse().unwrap()), *class, "{address}");
        }
    }

    #[test]
    fn nothing_relaxes_what_no_agent_can_have() {
        for development in [false, true] {
            for saas in [false, true] {
                let around = Surroundings { development, saas };
                assert!(!around.allow(Class::Forbidden, Occasion::Call));
                assert!(!around.allow(Class::Forbidden, Occasion::Register));
                assert!(!around.allow(Class::Loopback, Occasion::Register));
            }
        }
    }

    #[test]
    fn development_opens_loopback_and_private_for_calls_only() {
        let around = Surroundings { development: true, saas: false };
        assert!(around.allow(Class::Loopback, Occasion::Call));
        assert!(around.allow(Class::Private, Occasion::Call));
        assert!(!around.allow(Class::Private, Occasion::Register));
    }

    #[test]
    fn saas_opens_private_but_never_loopback() {
        let around = Surroundings { development: true, saas: true };
        assert!(around.allow(Class::Private, Occasion::Register));
        assert!(around.allow(Class::Private, Occasion::Call));
        assert!(!around.allow(Class::Loopback, Occasion::Call));
    }

    #[tokio::test]
    async fn a_url_is_judged_by_scheme_host_and_address() {
        let around = Surroundings::default();
        let at = |url| check(url, around, Occasion::Register);
        assert_eq!(at("ftp://8.8.8.8/").await, Err(Refused::Scheme));
        assert!(matches!(at("no url").await, Err(Refused::NotUrl(_))));
        assert_eq!(at("http://[fd00::1]:80/").await, Err(Refused::Address("fd00::1".parse().unwrap())));
        assert_eq!(at("http://2130706433/").await, Err(Refused::Address("127.0.0.1".parse().unwrap())));
        assert_eq!(at("http://localhost:9000/").await, Ok(Vec::new()));
        assert_eq!(at("http://8.8.8.8/a").await, Ok(vec!["8.8.8.8:80".parse().unwrap()]));
        assert!(matches!(at("http://name.invalid/").await, Err(Refused::Unresolved(_))));
    }

    #[tokio::test]
    async fn the_name_localhost_is_looked_at_again_when_it_is_called() {
        let strict = check("http://localhost:9/", Surroundings::default(), Occasion::Call).await;
        assert!(matches!(strict, Err(Refused::Address(_))), "{strict:?}");
    }
}
