//! `serve` and `stop`.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use narrowboat_storage::Error;
use narrowboat_storage::error::Environment;
use narrowboat_storage::media::FileMedia;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::{Context, Outcome};
use crate::config::Config;
use crate::control::reports::Acknowledged;
use crate::control::{Failed, client};
use crate::node::{Node, Running};
use crate::recent;
use crate::setup::apply;

/// A large index has a thousand files, and each client a socket: as many are open as the system allows, not as many as it gives a shell.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // What is not allowed stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

pub(super) fn serve(context: &Context, config: Option<&Path>, create: bool, setup: Option<&Path>) -> Outcome {
    // Whatever this process makes is its owner's alone: backups hold other people's secrets.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    if context.data.join(crate::disks::NOT_OPEN).exists() {
        let sentence = "the array of this box is not open, and its data not here: `narrowboat disks open` first";
        return Err(Failed::refused(sentence));
    }
    open_many_files();
    let config = context.config(config)?;
    if !create {
        refuse_new(&context.data)?;
    }
    log_to_stderr(&config)?;
    let running = Node::start(&context.data, config)?;
    announce(&running);
    let node = running.node().clone();
    if let Some(file) = setup {
        take(&node, file);
    }
    node.block_on(wait_for_end(&node));
    tracing::info!("stopping: what was written is brought to its end");
    let restarts = node.is_restarting();
    drop(node);
    running.stop()?;
    if restarts {
        return Err(start_again());
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Takes a set-up file, where nobody has claimed the box. What is wrong with the file keeps no box from serving.
fn take(node: &Arc<Node>, file: &Path) {
    let outcome = super::setup::read(file).and_then(|set_up| apply::take(node, &set_up));
    if let Err(failed) = outcome {
        tracing::error!(file = %file.display(), %failed, "the set-up file was not taken");
    }
}

/// Becomes the program anew, as it lies on the disk by now, in the same process and with the same words. Returns why not.
fn start_again() -> Failed {
    tracing::info!("starting again");
    let program = std::env::current_exe().ok().filter(|program| program.exists());
    let program = program.unwrap_or_else(|| "/proc/self/exe".into());
    let error = Command::new(program).args(std::env::args_os().skip(1)).exec();
    Failed::environment(format!("the box has stopped, and could not be started again: {error}"))
}

/// Refuses a folder in which nothing says that a box is to be there: it may be the place of a disk that is not mounted.
fn refuse_new(data: &Path) -> Result<(), Failed> {
    // What can't be looked at is no such folder; opening the store says what is wrong with it.
    let lacks = |name: &str| data.join(name).symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if !["store.format", "store.format.copy", "journal", "narrowboat.toml"].into_iter().all(lacks) {
        return Ok(());
    }
    Err(Failed::refused(format!(
        "there is no box in {0}, and no narrowboat.toml: if its disk is not mounted, mount it; \
         `narrowboat serve --data {0} --create` begins a new box there",
        data.display()
    )))
}

fn log_to_stderr(config: &Config) -> Result<(), Failed> {
    let filter = EnvFilter::try_new(&config.log.level)
        .map_err(|error| Failed::refused(format!("log.level = {:?}: {error}", config.log.level)))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    tracing_subscriber::registry().with(lines).with(recent::layer()).init();
    Ok(())
}

fn announce(running: &Running) {
    let node = running.node();
    let opened = &node.opened;
    if let Some((lsn, why)) = &opened.catalogue.rebuilt {
        tracing::warn!(%lsn, why, "the catalogue was built again");
    }
    if let Some(why) = &opened.pool.index_rebuilt {
        tracing::warn!(why, containers = opened.pool.containers, "the index was built again from the containers");
    }
    for damage in &opened.pool.damage {
        tracing::error!(%damage, "run `narrowboat check --deep`");
    }
    for (dataset, damage) in &opened.set_aside {
        tracing::error!(dataset, %damage, "the dataset can't be served; its journal is kept, and all others are served");
    }
    let nfs = node.nfs_address.map_or("off".into(), |address| address.to_string());
    let link = node.link.as_ref().and_then(|link| link.local_address().ok());
    let wan = link.map_or("off".into(), |address| address.to_string());
    tracing::info!(name = node.name, nfs, wan, data = %node.data.display(), replayed = opened.replayed, "serving");
}

async fn wait_for_end(node: &Node) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("signals can't be caught");
    };
    let asked = async {
        while !node.is_stopping() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = asked => {}
    }
}

pub(super) fn stop(context: &Context) -> Outcome {
    let answer = client::stop(&context.data)?;
    // When this returns, the folder may be copied, or another box be started in it: the kernel lets go of the lock of a
    // process together with its connections, in no order. Who has it a second later is another box.
    let deadline = Instant::now() + Duration::from_secs(1);
    while let Err(Error::Environment(Environment::InUse(_))) = FileMedia::open(&context.data)
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    if context.answer::<Acknowledged>(answer)?.is_some() {
        say!("the box has stopped");
    }
    Ok(ExitCode::SUCCESS)
}
