//! The release workflow: what it signs, a command of the book verifies; it has no more permissions than it needs; and the
//! pages about versions know the version that is released.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{fences, files, root};

const WORKFLOW: &str = ".github/workflows/release.yml";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn workflow() -> Value {
    serde_saphyr::from_str(&read(WORKFLOW)).unwrap()
}

/// The commands of the page about verifying a release.
fn commands() -> String {
    let blocks = fences(&read("docs/verify-a-release.md")).into_iter().filter(|(info, _)| info == "sh release");
    blocks.map(|(_, text)| text).collect()
}

#[test]
fn every_signature_has_a_command_that_verifies_it() {
    let (workflow, commands) = (read(WORKFLOW), commands());
    for (made, verified) in [
        (
            r#"cosign sign --yes --recursive "$IMAGE@$IMAGE_DIGEST""#,
            r#"cosign verify "ghcr.io/$OWNER/session-checker:$VERSION""#,
        ),
        (
            r#"for chart in $PUSHED; do cosign sign --yes "$chart""#,
            r#"cosign verify "ghcr.io/$OWNER/charts/$chart:$VERSION""#,
        ),
        (
            "for chart in session-checker session-checker-crds; do",
            "for chart in session-checker session-checker-crds; do",
        ),
        (
            "cosign sign-blob --yes --new-bundle-format --bundle SHA256SUMS.sigstore.json SHA256SUMS",
            "cosign verify-blob SHA256SUMS --bundle SHA256SUMS.sigstore.json",
        ),
        ("sha256sum -- *.tar.gz *.cdx.json *.tgz >SHA256SUMS", "sha256sum --check --ignore-missing SHA256SUMS"),
        ("subject-digest: ${{ steps.index.outputs.digest }}", "gh attestation verify \"oci://ghcr.io/$OWNER/"),
        ("subject-path: dist/*.tar.gz", r#"gh attestation verify "session-checker-$VERSION-$SYSTEM.tar.gz""#),
        ("sbom: true", "{{ json .SBOM }}"),
        ("dist/session-checker-${GITHUB_REF_NAME#v}.cdx.json", "--pattern '*.cdx.json'"),
        ("tags: [\"v*.*.*\"]", "/.github/workflows/release.yml@refs/tags/v$VERSION"),
        ("IMAGE: ghcr.io/${{ github.repository }}", "ghcr.io/$OWNER/session-checker"),
        ("CHARTS: oci://ghcr.io/${{ github.repository_owner }}/charts", "ghcr.io/$OWNER/charts/"),
    ] {
        assert!(workflow.contains(made), "the workflow has no longer {made}: change the page too");
        assert!(commands.contains(verified), "the page has no longer {verified}");
    }
    let signs = workflow.matches("cosign sign").count() + workflow.matches("/attest-build-provenance@").count();
    assert_eq!(signs, 5, "a new signature needs a command in docs/verify-a-release.md");
    assert!(commands.contains(&format!("VERSION={VERSION}\n")), "the page is for {VERSION}");
}

#[test]
fn every_system_of_the_workflow_is_in_the_page_and_for_krew() {
    let workflow = workflow();
    let systems = workflow["jobs"]["program"]["strategy"]["matrix"]["include"].as_array().unwrap();
    assert_eq!(systems.len(), 4);
    for system in systems.iter().map(|entry| entry["system"].as_str().unwrap()) {
        assert!(read("docs/verify-a-release.md").contains(&format!("`{system}`")), "{system}");
        assert!(read(".ci/release/krew").contains(system), "{system}");
    }
}

#[test]
fn workflows_pin_actions_and_have_few_permissions() {
    for file in files(".github/workflows") {
        let text = read(file.to_str().unwrap());
        let uses = text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: "));
        for action in uses {
            let (_, pin) = action.split_once('@').unwrap();
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{action} names no version"));
            let is_commit = commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{action}");
        }
        let workflow: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(workflow["permissions"], json!({ "contents": "read" }), "{}", file.display());
    }
    let jobs = workflow()["jobs"].as_object().unwrap().clone();
    let may_write = |permission: &str| {
        let jobs = jobs.iter().filter(|(_, job)| job["permissions"][permission] == "write");
        jobs.map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>()
    };
    assert_eq!(may_write("contents"), BTreeSet::from(["publish"]));
    assert_eq!(may_write("packages"), BTreeSet::from(["image", "publish"]));
    assert_eq!(may_write("id-token"), BTreeSet::from(["program", "publish"]));
    assert_eq!(may_write("attestations"), BTreeSet::from(["program", "publish"]));
}

#[test]
fn every_version_of_the_changelog_has_its_notes() {
    let changelog = read("CHANGELOG.md");
    let versions: Vec<(&str, &str)> =
        changelog.lines().filter_map(|line| line.strip_prefix("## [")?.split_once("] - ")).collect();
    assert!(changelog.lines().any(|line| line == "## [Unreleased]"), "what comes next goes under Unreleased");
    match versions.first() {
        Some((version, _)) => assert_eq!(*version, VERSION),
        // Nothing is released: no heading and no link names a tag that does not exist.
        None => {
            assert!(changelog.contains(&format!("\nThis becomes {VERSION}, the first release.")));
            assert!(!changelog.contains("/releases/tag/") && !changelog.contains("/compare/"));
            assert!(read("docs/upgrade.md").lines().any(|line| line == format!("## {VERSION}")));
        }
    }
    for (version, date) in versions {
        assert!(date.parse::<jiff::civil::Date>().is_ok(), "{version}: {date}");
        assert!(read("docs/upgrade.md").lines().any(|line| line == format!("## {version}")), "{version}");
        let (minor, _) = version.rsplit_once('.').unwrap();
        assert!(read("docs/versions.md").contains(&format!("\n| {minor} | ")), "docs/versions.md: {minor}");
        assert!(changelog.contains(&format!("\n[{version}]: ")), "{version} has no link");
    }
}

/// A fork changes one value, and a script writes it everywhere.
#[test]
fn repository_is_written_in_one_place_and_copied_by_a_script() {
    let copy = tempfile::tempdir().unwrap();
    let folders = ["charts", "docs", "examples", "schemas", "src", "tests", ".github", ".ci", ".devcontainer"];
    let top = ["Cargo.toml", "CHANGELOG.md", "README.md", "Dockerfile", "book.toml", "artifacthub-repo.yml"];
    let mut copied = Vec::new();
    let all = folders.into_iter().flat_map(files).chain(top.map(Into::into));
    for path in all.filter(|path| !path.components().any(|part| part.as_os_str() == "node_modules")) {
        let to = copy.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join(&path), &to).unwrap();
        copied.push((path, std::fs::read(to).unwrap()));
    }
    let manifest = copy.path().join("Cargo.toml");
    let written = std::fs::read_to_string(&manifest).unwrap();
    let run = |repository: &str| {
        let own = format!("repository = \"{}\"", env!("CARGO_PKG_REPOSITORY"));
        std::fs::write(&manifest, written.replace(&own, &format!("repository = \"{repository}\""))).unwrap();
        assert!(Command::new(copy.path().join(".ci/coordinates")).output().unwrap().status.success());
    };
    // In two parts: the script changes this file, too.
    run(&["https://github.com", "Acme-Co/limits"].join("/"));
    let own = env!("CARGO_PKG_REPOSITORY").strip_prefix("https://github.com/").unwrap();
    let registry = format!("ghcr.io/{}", own.split('/').next().unwrap().to_lowercase());
    let mut links = 0;
    for (path, _) in copied.iter().filter(|(path, _)| !path.ends_with("Cargo.toml")) {
        let Ok(text) = std::fs::read_to_string(copy.path().join(path)) else { continue };
        for left in [format!("github.com/{own}"), format!("githubusercontent.com/{own}"), format!("{registry}/")] {
            assert!(!text.contains(&left), "{}: {left}", path.display());
        }
        links += text.matches("github.com/Acme-Co/limits").count() + text.matches("ghcr.io/acme-co/").count();
    }
    assert!(links > 100, "{links}");
    run(env!("CARGO_PKG_REPOSITORY"));
    for (path, before) in &copied {
        let after = std::fs::read(copy.path().join(path)).unwrap();
        assert!(after == *before, "{}: `make coordinates` changes it", path.display());
    }
}
