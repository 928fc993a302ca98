//! Builds the page on which people choose sessions to end, and follows its files.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};

use super::config::ChooseConfig;
use super::error::RunError;
use super::source::setting;
use super::ticker;
use crate::choose::{ChooseMetrics, Chooser, Pages, TicketKeys};
use crate::source::SettingFile;

/// The option that names the file of keys.
pub(super) const TICKET_KEYS: &str = "--ticket-key-file";
/// How often the templates are read again, so that a change takes effect within a second.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// The page at the address of its listener, and the file of its keys to be followed.
///
/// # Errors
/// A file or a template cannot be used, or several replicas have no common key.
pub(super) fn chooser(
    config: &ChooseConfig,
    address: SocketAddr,
    replicas: u32,
    metrics: ChooseMetrics,
) -> Result<(Arc<Chooser>, Option<SettingFile<TicketKeys>>), RunError> {
    let file = config.ticket_key_file.as_ref().map(|path| setting(TICKET_KEYS, path, TicketKeys::parse)).transpose()?;
    if file.is_none() && replicas > 1 {
        return Err(RunError::TicketKeys(replicas));
    }
    let keys = file.as_ref().map_or_else(TicketKeys::random, |file| file.value().clone());
    let pages = match &config.page_dir {
        Some(folder) => Pages::read(folder)?,
        None => Pages::built_in(),
    };
    let origin =
        config.url.as_ref().map_or_else(|| format!("http://{address}"), |url| url.origin().ascii_serialization());
    let chooser = Chooser::new(origin, keys, pages, metrics).with_login_origin(config.login_origin.clone());
    Ok((Arc::new(chooser), file))
}

/// Reads the templates whenever they change.
///
/// # Errors
/// When a task was cancelled or panicked.
pub(super) async fn follow_pages(config: ChooseConfig, chooser: Arc<Chooser>) -> Result<Infallible, JoinError> {
    let Some(folder) = config.page_dir else { return std::future::pending().await };
    let mut ticks = ticker(SCAN_INTERVAL);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let (path, pages) = (folder.clone(), chooser.pages());
        match spawn_blocking(move || pages.read_if_changed(&path)).await? {
            Ok(changed) => {
                failing = false;
                if let Some(pages) = changed {
                    tracing::info!(folder = %folder.display(), "templates of --choose-page-dir changed");
                    chooser.set_pages(pages);
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "templates of --choose-page-dir not usable; the last ones stay in use");
            }
            Err(_) => {}
        }
    }
}
