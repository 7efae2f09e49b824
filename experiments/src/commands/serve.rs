//! `sphinx serve`: the server, until it is killed.

use std::io::Read;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};
use serde_json::json;
use sphinx_protocol::serve::{Ended, ServeOptions, Service};

use crate::cli::ServeArgs;
use crate::output::Output;
use crate::table::bytes;
use crate::usage::{OrUsage, UsageError};

pub(super) fn run(args: &ServeArgs) -> Result<()> {
    let out = Output::new(args.output.json, args.output.quiet);
    let addresses = permitted(&args.listen, args.plain_network)?;
    let log = move |ended: &Ended| out.remark(line(ended));
    let mut options = ServeOptions::default();
    options.limits.bytes = usize::try_from(u64::from(args.memory) << 30).unwrap_or(usize::MAX);
    let service = Service::start(addresses.as_slice(), options, log)
        .with_context(|| format!("listening on {}", args.listen))?;
    if args.plain_network && !service.address().ip().is_loopback() {
        out.warn("no TLS: ciphertexts hide the data, but anyone on the path can change them");
    }
    out.object(&json!({ "listening": service.address().to_string() }));
    if !out.is_json() {
        out.say(format_args!("listening on {}", service.address()));
    }
    out.flush();
    if args.until_stdin_ends {
        // Only the end matters; a parent that writes is ignored, one that fails is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    }
    service.wait();
    Ok(())
}

/// The addresses meant, if all of them stay on this machine or `plain_network` was given.
fn permitted(listen: &str, plain_network: bool) -> Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = listen
        .to_socket_addrs()
        .or_usage(format!("--listen {listen}"))?
        .collect();
    let public = addresses.iter().find(|address| !address.ip().is_loopback());
    match public {
        Some(address) if !plain_network => {
            let problem = format!(
                "other machines can reach {address}, and this version has no TLS; give \
                 --plain-network to accept that, or a loopback address"
            );
            Err(UsageError::flag("--listen", problem))
        }
        _ => Ok(addresses),
    }
}

/// One line about a connection that has ended.
fn line(ended: &Ended) -> String {
    let (traffic, connection) = (ended.traffic, ended.connection);
    let cause = match &ended.cause {
        Some(cause) => cause.to_string(),
        None => "farewell".to_owned(),
    };
    format!(
        "connection {connection}: received {}, sent {}, {} frames; ended by {cause}",
        bytes(traffic.received as f64),
        bytes(traffic.sent as f64),
        traffic.frames
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_permitted_unasked() {
        assert!(permitted("127.0.0.1:0", false).is_ok());
        assert!(permitted("[::1]:0", false).is_ok());
        let error = permitted("0.0.0.0:0", false).unwrap_err();
        assert_eq!(crate::usage::exit_code(&error), 2);
        assert!(error.to_string().contains("TLS"), "{error}");
        assert!(permitted("0.0.0.0:0", true).is_ok());
        assert_eq!(
            crate::usage::exit_code(&permitted("nonsense", false).unwrap_err()),
            2
        );
    }
}
