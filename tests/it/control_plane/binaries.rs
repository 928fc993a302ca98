//! `etcd`, `kube-apiserver` and `kubectl`: taken from `KUBEBUILDER_ASSETS`, or built once from `tests/control-plane` with Go.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const GO_MOD: &str = include_str!("../../control-plane/go.mod");

/// The folder with the binaries. `None` after a message when they are missing and cannot be built.
///
/// # Panics
/// With `CI=true` when they are missing, because a skipped test is a failure there. Also when Go fails to build them.
pub fn binaries() -> Option<PathBuf> {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
        return Some(assets.into());
    }
    let go = Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if go.is_ok_and(|status| status.success()) {
        return Some(build());
    }
    let missing = "install Go, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl";
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{missing}");
    print(&format!("SKIPPED all tests on a real API server: {missing}"));
    None
}

/// Writes to standard error directly: the test harness captures `eprintln` of a test that passes.
fn print(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Builds the binaries unless they are up to date. A second process waits for the first.
fn build() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("control-plane");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let built = folder.join("built-from");
    if fs::read_to_string(&built).is_ok_and(|go_mod| go_mod == GO_MOD) {
        return folder;
    }
    print("Building etcd, kube-apiserver and kubectl for the tests. This takes a few minutes, once.");
    let version = GO_MOD.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v")).unwrap();
    let (major, rest) = version.split_once('.').unwrap();
    let (minor, _) = rest.split_once('.').unwrap();
    let variable = "-X k8s.io/component-base/version.git";
    let status = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(format!("-s -w {variable}Version=v{version} {variable}Major={major} {variable}Minor={minor}"))
        .arg("-o")
        .arg(&folder)
        .arg("./cmd/...")
        .env("CGO_ENABLED", "0")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control-plane"))
        .status()
        .unwrap();
    assert!(status.success(), "Go cannot build tests/control-plane");
    fs::write(&built, GO_MOD).unwrap();
    folder
}
