//! The `covalence` program: arguments, then whatever command they name, on one actix system.

use std::process::ExitCode;

use clap::Parser as _;
use covalence::cli::{Cli, output};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS implementation for everything that opens connections. It fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match actix_rt::System::new().block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads our output has seen enough, as in `covalence events | head`.
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            failure.exit.into()
        }
    }
}
