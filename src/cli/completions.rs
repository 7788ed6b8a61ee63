//! `covalence completions`: scripts that complete commands in a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::failure::Outcome;
use crate::cli::{Cli, Shared};

const EXAMPLES: &str = "\
Examples:
  covalence completions bash > ~/.local/share/bash-completion/completions/covalence
  covalence completions zsh > ~/.zfunc/_covalence
  covalence completions fish > ~/.config/fish/completions/covalence.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "covalence", &mut script);
        shared.output().bytes(&script)
    }
}
