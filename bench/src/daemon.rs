//! How the vehicle's daemon is started beside a gateway or a relay on this machine.

/// Arguments of `carriageway-agent`, run in a folder with `certs` in it, for the vehicle `id`: it finds its gateway at
/// `port` of loopback for UDP and TCP alike, keeps its journal in `<name>.db` and logs as JSON through `filter`.
pub fn agent_arguments(id: &str, name: &str, port: u16, filter: &str) -> Vec<String> {
    let settings = [
        "gateway.host=127.0.0.1".to_owned(),
        format!("gateway.udp_port={port}"),
        format!("gateway.tcp_port={port}"),
        "tls.ca=certs/ca.pem".to_owned(),
        format!("tls.cert=certs/vehicles/{id}.pem"),
        format!("tls.key=certs/vehicles/{id}.key"),
        format!("journal={name}.db"),
        "log.format=json".to_owned(),
        format!("log.filter={filter}"),
    ];
    let settings = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]);
    ["run".to_owned()].into_iter().chain(settings).collect()
}
