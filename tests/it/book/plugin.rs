//! `kubectl sessionpolicy`: kubectl finds the program in the archive of a release and as krew installs it, and the commands of
//! the book run as written.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{fences, root};
use crate::control_plane::binaries::binaries;
use crate::process::exit_and_output;

const PROGRAM: &str = env!("CARGO_BIN_EXE_session-checker");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs commands of a shell with these folders before those of the system in `PATH`.
fn shell(commands: &str, home: &Path, folders: &[&Path]) -> (i32, String) {
    let path = folders.iter().map(|folder| folder.to_str().unwrap()).collect::<Vec<_>>().join(":");
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", commands]).current_dir(root()).env("HOME", home);
    shell.env("PATH", format!("{path}:/usr/local/bin:/usr/bin:/bin")).env_remove("KUBECONFIG");
    exit_and_output(shell.output().unwrap())
}

/// An archive as the release workflow makes it, unpacked. The program in it is a script that starts the one of this build,
/// whose size would take seconds to pack.
fn archive(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("program");
    std::fs::write(&program, format!("#!/bin/sh\nexec '{PROGRAM}' \"$@\"\n")).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let name = format!("session-checker-{VERSION}-linux-amd64");
    let commands = format!(
        ".ci/release/archive '{}' {VERSION} linux-amd64 '{}' && tar -C '{1}' -xzf '{1}/{name}.tar.gz'",
        program.display(),
        folder.display()
    );
    let (code, text) = shell(&commands, folder, &[]);
    assert_eq!(code, 0, "{text}");
    folder.join(name)
}

#[test]
fn kubectl_finds_the_program_in_the_archive_and_as_krew_installs_it() {
    let Some(kubectl) = binaries() else { return };
    let folder = tempfile::tempdir().unwrap();
    let unpacked = archive(folder.path());
    for file in ["LICENSE", "README.md", "CHANGELOG.md", "man1/session-checker.1", "completion/session-checker.zsh"] {
        assert!(unpacked.join(file).exists(), "{file}");
    }
    // krew keeps the files of a plugin elsewhere, and links the program under the plugin's name.
    let krew = folder.path().join("bin");
    std::fs::create_dir(&krew).unwrap();
    symlink(unpacked.join("session-checker"), krew.join("kubectl-sessionpolicy")).unwrap();
    for place in [&unpacked, &krew] {
        let (code, text) = shell("kubectl sessionpolicy --version", folder.path(), &[place, &kubectl]);
        assert_eq!((code, &*text), (0, &*format!("session-checker {VERSION}\n")));
    }
}

#[test]
fn commands_about_kubectl_run_as_written() {
    let Some(kubectl) = binaries() else { return };
    let home = tempfile::tempdir().unwrap();
    let (bin, local) = (home.path().join("bin"), home.path().join(".local/bin"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&local).unwrap();
    symlink(PROGRAM, bin.join("session-checker")).unwrap();
    let page = std::fs::read_to_string(root().join("docs/kubectl.md")).unwrap();
    let blocks = fences(&page).into_iter().filter(|(info, _)| info == "sh plugin").map(|(_, text)| text);
    let (code, text) = shell(&blocks.collect::<String>(), home.path(), &[&bin, &local, &kubectl]);
    assert_eq!(code, 0, "{text}");
    for part in ["/.local/bin/kubectl-sessionpolicy", "SessionPolicy default/seats-by-plan is valid", "--admin-url"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn manifest_for_krew_names_the_archives_of_a_release() {
    let folder = tempfile::tempdir().unwrap();
    let systems = ["linux-amd64", "linux-arm64", "darwin-amd64", "darwin-arm64"];
    let sum = |system: &str| format!("{:0<64}", system.len());
    let sums: String =
        systems.iter().map(|system| format!("{}  session-checker-1.2.3-{system}.tar.gz\n", sum(system))).collect();
    let file = folder.path().join("SHA256SUMS");
    std::fs::write(&file, &sums).unwrap();
    let krew = |file: &Path| {
        let command = format!(".ci/release/krew https://example.com/fork 1.2.3 '{}'", file.display());
        shell(&command, folder.path(), &[])
    };
    let (code, text) = krew(&file);
    assert_eq!(code, 0, "{text}");
    let manifest: Value = serde_saphyr::from_str(&text).unwrap();
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    for (platform, system) in platforms.iter().zip(systems) {
        let labels = &platform["selector"]["matchLabels"];
        assert_eq!(format!("{}-{}", labels["os"].as_str().unwrap(), labels["arch"].as_str().unwrap()), system);
        let archive = format!("session-checker-1.2.3-{system}");
        assert_eq!(platform["uri"], format!("https://example.com/fork/releases/download/v1.2.3/{archive}.tar.gz"));
        assert_eq!(platform["sha256"], sum(system));
        assert_eq!(platform["files"][0]["from"], format!("{archive}/session-checker"));
        assert_eq!(platform["bin"], "session-checker");
    }
    assert_eq!((platforms.len(), &manifest["spec"]["version"]), (4, &Value::from("v1.2.3")));
    std::fs::write(&file, sums.replace("darwin-arm64", "plan9")).unwrap();
    assert_ne!(krew(&file).0, 0, "an archive is missing");
}
