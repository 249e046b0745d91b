//! Numbers that can be repeated: the corpus that demo and benches share, the comparison that proves a restore, one
//! bench a stage.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod corpus;
mod pipeline;

/// Test data from the machine's own files, exact comparison of trees, and benches.
#[derive(Parser)]
#[command(name = "narrowboat-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and compare test data.
    #[command(subcommand)]
    Corpus(CorpusCommand),
    /// Measure a store's own pipeline beside cutting, hashing and compressing alone.
    Pipeline {
        /// The folder whose files are stored, such as a day of the corpus.
        dir: PathBuf,
        /// Where the store is made and removed again; memory by default.
        #[arg(long, default_value = "/dev/shm")]
        scratch: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

#[derive(Subcommand)]
enum CorpusCommand {
    /// Make a day of test data: DIR/day1 or DIR/day2, and beside it DIR/dayN.manifest.
    ///
    /// Day 1 holds a tree of files, the same tree as a tar, an SQLite database and a disk image with an ext4 in it.
    /// Day 2 is day 1 after a day of work: files edited, added, removed and renamed, a new tar, rows updated, the
    /// image's files changed.
    Make(MakeArgs),
    /// Compare two trees fully: types, contents, modes, owners, modification times, hard links, symlink targets.
    ///
    /// Each side is a folder, or a manifest that `corpus make` or `corpus scan` wrote. Exits 0 when they are equal, 1
    /// when they differ.
    Compare(CompareArgs),
    /// Write the manifest of a folder to standard output.
    Scan {
        /// The folder.
        dir: PathBuf,
    },
}

#[derive(Args)]
struct MakeArgs {
    /// Where to put it.
    dir: PathBuf,
    /// About how much, in megabytes, for one day.
    #[arg(long, default_value_t = 1200)]
    size_mb: u64,
    /// Chooses among the machine's files, and what changes on day 2.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which day: 2 is made from 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    day: u8,
    /// The tree to take files from.
    #[arg(long, default_value = "/usr")]
    from: PathBuf,
}

#[derive(Args)]
struct CompareArgs {
    /// What is expected.
    a: PathBuf,
    /// What is there.
    b: PathBuf,
    /// Leave something out of the comparison; may be repeated.
    #[arg(long, value_name = "WHAT")]
    ignore: Vec<corpus::Aspect>,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let outcome: Result<bool, String> = match Cli::parse().command {
        Command::Pipeline { dir, scratch, rounds } => pipeline::run(&dir, &scratch, rounds).map(|()| true),
        Command::Corpus(command) => corpus(command).map_err(|error| error.to_string()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("narrowboat-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns false where trees that were compared differ.
fn corpus(command: CorpusCommand) -> corpus::Result<bool> {
    match command {
        CorpusCommand::Make(args) => {
            let order =
                corpus::Order { dir: args.dir, from: args.from, size_bytes: args.size_mb * 1_000_000, seed: args.seed };
            if args.day == 1 { corpus::make_day1(&order) } else { corpus::make_day2(&order) }.map(|summary| {
                println!("{summary}");
                true
            })
        }
        CorpusCommand::Compare(args) => corpus::Manifest::of(&args.a).and_then(|a| {
            let difference = a.compare(&corpus::Manifest::of(&args.b)?, &args.ignore);
            println!("{}", if args.json { difference.json() } else { difference.to_string() });
            Ok(difference.is_equal())
        }),
        CorpusCommand::Scan { dir } => corpus::Manifest::scan(&dir).and_then(|manifest| {
            manifest.write(&mut std::io::stdout().lock())?;
            Ok(true)
        }),
    }
}
