//! Determines who can reach the endpoints of a configuration, and refuses configurations because of it.
//!
//! Zenoh opens the endpoints that it is given, and by default a plain port on all interfaces. Anyone who reaches a
//! plain port can send in any node's name, and read what the nodes send. Each endpoint must therefore be local, or
//! encrypted with both ends identified by their certificates, or explicitly allowed:
//! [`super::ZenohConfig::insecure`].
//!
//! This module must not know sessions. Next: [`super::config`].

use std::net::IpAddr;

use ::zenoh::Config;
use ::zenoh::config::EndPoint;
use accompanist_core::contract::{Exposure, TransportError};

/// The keys in Zenoh's configuration that are checked here.
const LISTEN: &str = "listen/endpoints";
const CONNECT: &str = "connect/endpoints";
const TLS: &str = "transport/link/tls";
const WAY_OUT: &str = "set up certificates and access control with `accompanist security init`, or allow it with \
                       `ZenohConfig::insecure` where nobody else reaches this network";

/// The senders that can reach one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Processes of this machine, through files that have an owner.
    Files,
    /// Processes of this machine.
    Loopback,
    /// Holders of a certificate, if both ends ask for one.
    Encrypted,
    /// Anyone who reaches the address.
    Plain,
}

impl Reach {
    fn of(endpoint: &EndPoint) -> Self {
        match endpoint.protocol().as_str() {
            "unixsock-stream" | "unixpipe" => Self::Files,
            "tls" | "quic" => Self::Encrypted,
            _ if is_loopback(endpoint.address().as_str()) => Self::Loopback,
            _ => Self::Plain,
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns who can reach a node with this configuration.
///
/// # Errors
/// [`TransportError::Config`] for an endpoint that anybody can use, unless `insecure`.
pub(super) fn check(config: &Config, insecure: bool) -> Result<Exposure, TransportError> {
    let (listen, connect) = (endpoints(config, LISTEN), endpoints(config, CONNECT));
    let all = || listen.iter().chain(&connect).map(|endpoint| (endpoint, Reach::of(endpoint)));
    let greatest = all().map(|(_, reach)| reach).max().unwrap_or(Reach::Files);
    let exposure = match greatest {
        Reach::Files | Reach::Loopback => Exposure::Local,
        _ if insecure => Exposure::Anybody,
        Reach::Encrypted if is_set(config, "enable_mtls") && has_access_control(config) => Exposure::Authenticated,
        Reach::Encrypted | Reach::Plain => Exposure::Anybody,
    };
    if insecure {
        return Ok(exposure);
    }
    let refuse = |what: String| Err(TransportError::Config(format!("{what}; {WAY_OUT}")));
    let is_encrypted = all().any(|(_, reach)| reach == Reach::Encrypted) || has_certificate(config);
    let beside = |endpoint: &&EndPoint| matches!(Reach::of(endpoint), Reach::Plain | Reach::Loopback);
    if let Some(plain) = listen.iter().find(beside).filter(|_| is_encrypted) {
        return refuse(format!(
            "TLS is configured, and this node would also listen on `{plain}` without it{}: set `listen` to `tls/..` \
             endpoints alone",
            if is_default(plain) { ", which is what zenoh does when it is not told where to listen" } else { "" }
        ));
    }
    if let Some((plain, _)) = all().find(|(_, reach)| *reach == Reach::Plain) {
        return refuse(format!(
            "whoever reaches `{plain}` could speak in the name of any node, and read all that they send"
        ));
    }
    if greatest == Reach::Encrypted && !is_set(config, "enable_mtls") {
        return refuse(
            "TLS without `enable_mtls` asks no peer for a certificate, so anybody could speak in the name of any node"
                .into(),
        );
    }
    if greatest == Reach::Encrypted && !has_access_control(config) {
        return refuse(
            "without `access_control` that denies by default, whoever has a certificate could speak in the name of any \
             other node"
                .into(),
        );
    }
    Ok(exposure)
}

/// Whether this is the endpoint on which Zenoh listens by default.
fn is_default(endpoint: &EndPoint) -> bool {
    endpoint.as_str().starts_with("tcp/[::]:")
}

/// Whether a configuration says where to listen, or must say so because it uses TLS.
pub(super) fn says_where_to_listen(config: &Config) -> bool {
    let connect = endpoints(config, CONNECT);
    let is_encrypted =
        connect.iter().any(|endpoint| Reach::of(endpoint) == Reach::Encrypted) || has_certificate(config);
    is_encrypted || endpoints(config, LISTEN).iter().any(|endpoint| !is_default(endpoint))
}

/// Returns the endpoints under `key` that apply to the mode.
fn endpoints(config: &Config, key: &str) -> Vec<EndPoint> {
    let read = |key: &str| config.get_json(key).ok().and_then(|json| serde_json::from_str(&json).ok());
    let mode = match read("mode") {
        Some(serde_json::Value::String(mode)) => mode,
        _ => "peer".into(),
    };
    let list = match read(key) {
        Some(serde_json::Value::Object(mut by_mode)) => by_mode.remove(&mode).unwrap_or_default(),
        other => other.unwrap_or_default(),
    };
    let texts: Vec<String> = match list {
        serde_json::Value::String(one) => vec![one],
        list => serde_json::from_value(list).unwrap_or_default(),
    };
    // A malformed endpoint is refused elsewhere.
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn is_set(config: &Config, key: &str) -> bool {
    config.get_json(&format!("{TLS}/{key}")).is_ok_and(|json| json == "true")
}

fn has_certificate(config: &Config) -> bool {
    ["root_ca_certificate", "listen_certificate", "connect_certificate"]
        .iter()
        .any(|key| config.get_json(&format!("{TLS}/{key}")).is_ok_and(|json| json != "null"))
}

fn has_access_control(config: &Config) -> bool {
    let is = |key: &str, value: &str| config.get_json(key).is_ok_and(|json| json == value);
    is("access_control/enabled", "true") && is("access_control/default_permission", "\"deny\"")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn config(entries: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (key, value) in entries {
            config.insert_json5(key, value).unwrap();
        }
        config
    }

    /// Checks that the refusal contains `words`; with no words, that the configuration is allowed.
    fn check_refusal(entries: &[(&str, &str)], words: &[&str]) {
        let checked = check(&config(entries), false);
        match checked {
            Ok(_) => assert!(words.is_empty(), "{entries:?} is allowed"),
            Err(error) => {
                let error = error.to_string();
                let has_all = words.iter().all(|word| error.contains(word));
                assert!(!words.is_empty() && has_all && error.contains("accompanist security init"), "{error}");
            }
        }
        assert!(check(&config(entries), true).is_ok(), "it is allowed by name");
    }

    const LOCAL: (&str, &str) = (LISTEN, r#"["tcp/127.0.0.1:7447"]"#);
    const MTLS: [(&str, &str); 3] = [
        ("transport/link/tls/enable_mtls", "true"),
        ("access_control/enabled", "true"),
        ("access_control/default_permission", "\"deny\""),
    ];

    #[test]
    fn loopback_endpoints_are_allowed() {
        for endpoint in ["tcp/127.0.0.1:7447", "tcp/[::1]:0", "udp/localhost:7", "unixsock-stream//tmp/socket"] {
            let listen = format!("[\"{endpoint}\"]");
            check_refusal(&[(LISTEN, &listen)], &[]);
            assert_eq!(check(&config(&[(LISTEN, &listen)]), false).unwrap(), Exposure::Local);
            check_refusal(&[LOCAL, (CONNECT, &listen)], &[]);
        }
    }

    #[test]
    fn public_endpoints_are_refused() {
        for endpoint in ["tcp/0.0.0.0:7447", "tcp/[::]:7447", "tcp/10.0.0.1:7447", "udp/shop.example:7", "ws/[::]:80"] {
            let list = format!("[\"{endpoint}\"]");
            check_refusal(&[(LISTEN, &list)], &[endpoint, "in the name of any node"]);
            check_refusal(&[LOCAL, (CONNECT, &list)], &[endpoint]);
            let by_mode = format!("{{ peer: [\"{endpoint}\"], client: [] }}");
            check_refusal(&[(LISTEN, &by_mode)], &[endpoint]);
            assert_eq!(check(&config(&[(LISTEN, &list)]), true).unwrap(), Exposure::Anybody);
        }
        // Only the endpoints that this mode opens count.
        check_refusal(&[("mode", "\"client\""), (LISTEN, "{ peer: [\"tcp/[::]:1\"] }"), LOCAL], &[]);
    }

    #[test]
    fn tls_that_leaves_a_plain_port_open_is_refused() {
        let connect = (CONNECT, r#"["tls/shop.example:7447"]"#);
        let with = |more: &[(&'static str, &'static str)]| [&MTLS[..], &[connect], more].concat();
        check_refusal(&with(&[]), &["tcp/[::]:0", "not told where to listen"]);
        check_refusal(&with(&[(LISTEN, r#"["tls/0.0.0.0:7447", "tcp/0.0.0.0:7448"]"#)]), &["tcp/0.0.0.0:7448"]);
        // An access rule applies to a certificate, and a process of this machine needs none there.
        check_refusal(&with(&[(LISTEN, r#"["tls/0.0.0.0:7447", "tcp/127.0.0.1:7448"]"#)]), &["tcp/127.0.0.1:7448"]);
        let certificate = ("transport/link/tls/listen_certificate", "\"cert.pem\"");
        check_refusal(&[LOCAL, certificate], &["tcp/127.0.0.1:7447"]);
        check_refusal(&with(&[(LISTEN, r#"["tls/0.0.0.0:7447", "unixsock-stream//tmp/socket"]"#)]), &[]);
    }

    #[test]
    fn tls_needs_certificates_of_both_and_access_control() {
        let listen = (LISTEN, r#"["tls/0.0.0.0:7447"]"#);
        check_refusal(&[listen], &["enable_mtls"]);
        check_refusal(&[listen, MTLS[0]], &["access_control"]);
        let allows = ("access_control/default_permission", "\"allow\"");
        check_refusal(&[listen, MTLS[0], MTLS[1], allows], &["access_control"]);
        let all = [&[listen][..], &MTLS].concat();
        check_refusal(&all, &[]);
        assert_eq!(check(&config(&all), false).unwrap(), Exposure::Authenticated);
    }
}
