//! `covalence log checkpoint`: what is worth a copy elsewhere.

use clap::{Args, Subcommand};
use covalence_events::log::checkpoint::Book;
use serde_json::json;

use super::log_path;
use crate::cli::Shared;
use crate::cli::failure::{Exit, Failure, Outcome};

#[derive(Debug, Args)]
pub(super) struct Checkpoints {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the public key that the data directory's checkpoints are checked by
    #[command(after_help = "Examples:\n  covalence log checkpoint key")]
    Key {},
    /// Print the data directory's checkpoints, oldest first, one a line
    #[command(after_help = "Examples:\n  covalence log checkpoint ls > /media/usb/kept")]
    Ls {},
}

impl Checkpoints {
    pub(super) fn run(self, shared: &Shared) -> Outcome {
        let path = log_path(shared)?;
        let book = Book::new(&path);
        let output = shared.output();
        match self.command {
            Command::Key {} => match book.public()? {
                Some(key) if output.json => output.document(&json!({ "public_key": key.to_string() })),
                Some(key) => output.line(&key.to_string()),
                None => {
                    Err(Failure::new(Exit::NotFound, format!("`{}` has no checkpoint key", path.display()))
                        .hint("the first start of a server makes it"))
                }
            },
            Command::Ls {} => {
                for checkpoint in book.read()?.0 {
                    output.line(&checkpoint.to_string())?;
                }
                Ok(())
            }
        }
    }
}
