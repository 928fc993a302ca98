//! The processes of a run. Each ends with the benchmark. CPU time, memory and context switches come from `/proc`.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Clock ticks per second in `/proc/PID/stat` (`getconf CLK_TCK`). Linux uses 100 on x86-64 and arm64.
const TICKS_PER_SECOND: u64 = 100;

/// The path of the service: that of `BENCH_PROGRAM`, or else this build's.
pub fn service() -> String {
    std::env::var("BENCH_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_session-checker").to_owned())
}

/// A command for `program`. The kernel sends SIGTERM to the program when the benchmark is killed.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// A running program, which ends when this value is dropped.
pub struct Process {
    child: Child,
    /// The file of its output; `None` when the output goes to a pipe.
    log: Option<PathBuf>,
}

impl Process {
    /// Starts a command of [`command`], with its output in the file `log`. The output goes through a pipe, as in a container.
    pub fn start(command: &mut Command, log: PathBuf) -> Result<Self> {
        let mut file = File::create(&log)?;
        let (mut output, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = spawn(command)?;
        // Only the child writes: its end is the end of the output.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        thread::spawn(move || io::copy(&mut output, &mut file));
        Ok(Self { child, log: Some(log) })
    }

    /// Starts a command of [`command`]. Returns its standard input and output as well.
    pub fn start_piped(command: &mut Command) -> Result<(Self, ChildStdin, ChildStdout)> {
        let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or("the child has no pipes for its standard input and output")?;
        Ok((Self { child, log: None }, input, output))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time up to now, user and system, of the process and its children. The children of nginx do its work.
    pub fn cpu_time(&self) -> Result<Duration> {
        let ticks = self.family()?.into_iter().map(ticks).sum::<Result<u64>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Peak resident memory in bytes (`VmHWM`) of the process and its children.
    pub fn peak_memory(&self) -> Result<u64> {
        self.family()?.into_iter().map(|process| status_bytes(process, "VmHWM:")).sum()
    }

    /// Resident memory in bytes (`VmRSS`) of the process and its children.
    pub fn memory(&self) -> Result<u64> {
        self.family()?.into_iter().map(|process| status_bytes(process, "VmRSS:")).sum()
    }

    /// Anonymous resident memory in bytes (`RssAnon`) of the process and its children: what they allocated, without the pages of
    /// the program.
    pub fn anonymous_memory(&self) -> Result<u64> {
        self.family()?.into_iter().map(|process| status_bytes(process, "RssAnon:")).sum()
    }

    /// Context switches up to now of all threads of the process and its children.
    pub fn context_switches(&self) -> Result<u64> {
        let mut switches = 0;
        for process in self.family()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let status = fs::read_to_string(thread?.path().join("status"))?;
                let counts = status.lines().filter_map(|line| line.split_once("_ctxt_switches:"));
                switches +=
                    counts.map(|(_, count)| count.trim().parse::<u64>()).sum::<std::result::Result<u64, _>>()?;
            }
        }
        Ok(switches)
    }

    /// Requests `path` from `address` until the status is 200, for at most two minutes: with valgrind a start takes many seconds.
    pub fn wait_until_ready(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let problem = match (self.child.try_wait()?, get(address, path)) {
                (None, Ok(answer)) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
                (Some(status), _) => format!("the process ended: {status}"),
                (None, _) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                (None, Ok(answer)) => format!("{path} is not ready after two minutes: {answer}"),
                (None, Err(error)) => format!("{path} does not answer after two minutes: {error}"),
            };
            let log = self.log.as_ref().map(fs::read_to_string).transpose()?.unwrap_or_default();
            let end = log.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev();
            return Err(format!("{problem}\n{}", end.collect::<Vec<_>>().join("\n")).into());
        }
    }

    fn family(&self) -> Result<Vec<u32>> {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let mut family = vec![id];
        for child in children.split_whitespace() {
            family.push(child.parse()?);
        }
        Ok(family)
    }
}

impl Drop for Process {
    /// Sends SIGTERM first, because nginx's workers outlive a killed master.
    fn drop(&mut self) {
        let asked =
            Command::new("sh").args(["-c", &format!("kill -TERM {}", self.id())]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while asked.is_ok() && Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("process {} did not end within 5 s of SIGTERM; killing it", self.id());
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("process {} cannot be killed: {error}", self.id());
        }
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| format!("{command:?}: {error}").into())
}

/// The sum of `utime` and `stime`, fields 14 and 15 of proc_pid_stat(5). Field 2, the name, may contain any character, so this
/// counts fields from its end.
fn ticks(process: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(times.sum::<std::result::Result<_, _>>()?)
}

/// A size in `/proc/PID/status`, in bytes.
fn status_bytes(process: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.ok_or_else(|| format!("no {name} in /proc/PID/status"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// A loopback address with a free port. Another process may take the port before its use; the start then fails.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Gets a path by plain HTTP on a new connection. Returns the whole answer, with the status line first.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
