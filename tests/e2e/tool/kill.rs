//! Kills a service without a word, as the kernel does when memory runs out. A Pod's own process cannot be killed from inside of
//! the Pod; this is one that sees the node's processes, as the same user.

use std::error::Error;
use std::fs;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

#[derive(Args)]
pub struct KillArgs {
    /// The uid of the Pod.
    #[arg(long)]
    pod_uid: String,
    /// The name of its process.
    #[arg(long, default_value = "session-checker")]
    process: String,
}

/// Kills the one process of that name in that Pod.
pub fn run(args: &KillArgs) -> Result<(), Box<dyn Error>> {
    // With systemd's driver the kubelet writes underscores.
    let uids = [args.pod_uid.clone(), args.pod_uid.replace('-', "_")];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?.path();
        let Some(pid) = entry.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that ends meanwhile is none that is looked for.
        let read = |file| fs::read_to_string(entry.join(file)).unwrap_or_default();
        if read("comm").trim_end() == args.process && uids.iter().any(|uid| read("cgroup").contains(uid)) {
            found.push(pid);
        }
    }
    let [pid] = found[..] else { return Err(format!("{} processes are it", found.len()).into()) };
    kill_process(pid, Signal::KILL)?;
    println!("killed");
    Ok(())
}
