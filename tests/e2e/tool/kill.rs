//! Kills the service's process with SIGKILL, as the kernel does when memory runs out. No process inside a Pod can kill the first
//! process of that Pod, so this one runs in a Pod that sees the node's processes, as the same user.

use std::error::Error;
use std::fs;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

#[derive(Args)]
pub struct KillArgs {
    /// The uid of the Pod.
    #[arg(long)]
    pod_uid: String,
    /// The name of the process.
    #[arg(long, default_value = "session-checker")]
    process: String,
}

/// Kills the process of that name in that Pod. Fails unless there is exactly one.
pub fn run(args: &KillArgs) -> Result<(), Box<dyn Error>> {
    // With the systemd cgroup driver, the kubelet writes underscores in the uid.
    let uids = [args.pod_uid.clone(), args.pod_uid.replace('-', "_")];
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?.path();
        let Some(pid) = entry.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that has just ended has no readable files, so it does not match.
        let read = |file| fs::read_to_string(entry.join(file)).unwrap_or_default();
        if read("comm").trim_end() == args.process && uids.iter().any(|uid| read("cgroup").contains(uid)) {
            found.push(pid);
        }
    }
    let [pid] = found[..] else {
        return Err(format!("found {} processes {} in the Pod, expected one", found.len(), args.process).into());
    };
    kill_process(pid, Signal::KILL)?;
    println!("killed");
    Ok(())
}
