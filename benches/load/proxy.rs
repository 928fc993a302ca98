//! nginx as a bare TLS proxy to the tenant. The benchmark compares the service's cost with it.

use std::{fs, net::SocketAddr, path::Path};

use crate::{
    Result,
    process::{self, Process, free_address},
    tenant::Tenant,
    wrk,
};

/// A running nginx.
pub struct Proxy {
    /// Address of its plain HTTP port.
    pub address: SocketAddr,
    /// The master process.
    pub process: Process,
}

impl Proxy {
    /// Starts nginx with `workers` worker processes and waits until a list request succeeds.
    pub fn start(directory: &Path, tenant: &Tenant, workers: usize) -> Result<Self> {
        let address = free_address()?;
        let configuration = include_str!("nginx.conf")
            .replace("@CA@", &tenant.ca.display().to_string())
            .replace("@LISTEN@", &address.to_string())
            .replace("@TENANT@", tenant.url.trim_start_matches("https://"))
            .replace("@TOKEN@", &tenant.token)
            .replace("@WORKERS@", &workers.to_string());
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration)?;
        // Debian installs nginx in /usr/sbin, which only root has in its PATH.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = process::command(Path::new("nginx"));
        command.env("PATH", path).arg("-p").arg(directory).arg("-c").arg(&file).args(["-e", "stderr"]);
        let mut process = Process::start(&mut command, directory.join("nginx.log"))?;
        process.wait_until_ready(address, &wrk::list_path(0))?;
        Ok(Self { address, process })
    }
}
