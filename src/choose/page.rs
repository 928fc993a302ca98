//! The pages: a choice of sessions, and messages. All work without scripts.
//!
//! A folder may replace the templates and the style sheet. Every value is escaped as HTML, whatever a template says: a template is
//! the operator's, a value may be a stranger's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use minijinja::{AutoEscape, Environment, HtmlEscape, context};

use super::device::Device;
use super::texts::Language;
use super::ticket::OpenTicket;
use crate::policy::Offer;

/// The files of the pages, which a folder may replace.
const FILES: [(&str, &str); 4] = [
    ("base.html", include_str!("page/base.html")),
    ("choose.html", include_str!("page/choose.html")),
    ("message.html", include_str!("page/message.html")),
    (STYLE, include_str!("page/style.css")),
];
const STYLE: &str = "style.css";
/// The largest file that is read. A style sheet with a logo in it has some tens of kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The templates and the style sheet in use.
pub struct Pages {
    environment: Environment<'static>,
    style: String,
    files: BTreeMap<&'static str, String>,
}

/// Why the pages of a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A template has an error.
    #[error("{0}")]
    Template(minijinja::Error),
}

/// A message in place of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The login goes on by itself.
    Continue,
    /// The address is no valid one.
    Invalid,
    /// The ticket has expired.
    Expired,
    /// The ticket belongs to another browser.
    Elsewhere,
    /// The ticket was used.
    Done,
    /// The ticket was used too often.
    WornOut,
    /// No choice is enough.
    Impossible,
    /// The sessions cannot be listed.
    Unavailable,
}

/// What is wrong with a choice that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not what is needed.
    Unfit,
    /// A session could not be ended.
    Failed,
}

/// A browser on its way through the page.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    /// The ticket as the browser has it.
    pub ticket: &'a str,
    /// The state of its login at Auth0.
    pub state: &'a str,
    /// The value of the browser's cookie.
    pub browser: &'a str,
}

/// Where the links of a message lead.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Back to the login.
    pub continue_url: Option<String>,
    /// To the same page, for messages that may pass.
    pub retry_url: Option<String>,
}

impl Pages {
    /// The built-in pages.
    ///
    /// # Panics
    /// Never: a test renders them.
    pub fn built_in() -> Self {
        Self::new(BTreeMap::new()).expect("the built-in templates are valid")
    }

    /// The pages of a folder; a file that it lacks is the built-in one.
    ///
    /// # Errors
    /// When a file cannot be read, or is no valid template.
    pub fn read(folder: &Path) -> Result<Self, PageError> {
        Self::new(read_files(folder)?).map_err(PageError::Template)
    }

    /// The pages of a folder, when its files are not the ones of these pages.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_if_changed(&self, folder: &Path) -> Result<Option<Self>, PageError> {
        let files = read_files(folder)?;
        if files == self.files {
            return Ok(None);
        }
        Self::new(files).map(Some).map_err(PageError::Template)
    }

    fn new(files: BTreeMap<&'static str, String>) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        // Neither a filter nor a block of a template can switch this off.
        environment.set_formatter(|out, _, value| {
            if !value.is_undefined() && !value.is_none() {
                let text = value.to_string();
                out.write_str(&HtmlEscape(&text).to_string())?;
            }
            Ok(())
        });
        let text = |name: &str| FILES.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text);
        for (name, _) in FILES.iter().filter(|(name, _)| *name != STYLE) {
            let source = files.get(name).cloned().unwrap_or_else(|| text(name).to_owned());
            environment.add_template_owned(*name, source)?;
        }
        let style = files.get(STYLE).cloned().unwrap_or_else(|| text(STYLE).to_owned());
        let pages = Self { environment, style, files };
        // A template that names a value which does not exist shows nothing; one that cannot be rendered is found here.
        let language = Language::find(None, None);
        pages.render("message.html", pages.message_context(language, Message::Continue, &Links::default()))?;
        pages.render("choose.html", context! { lang => "en", needed => 1, sessions => [context! { code => "x" }] })?;
        Ok(pages)
    }

    /// The style sheet.
    pub fn style(&self) -> &str {
        &self.style
    }

    /// The page with the sessions to choose from.
    ///
    /// # Errors
    /// When the template fails.
    pub fn choice(
        &self,
        language: &Language,
        (ticket, visit): (&OpenTicket, Visit<'_>),
        (offer, device): (&Offer, impl Fn(&str) -> Device),
        problem: Option<Problem>,
        now: Timestamp,
    ) -> Result<String, minijinja::Error> {
        let sessions = offer.sessions.iter().map(|session| {
            let ago = |at: Timestamp| language.ago(at, now);
            context! {
                code => ticket.session_code(&session.id),
                device => device_name(language, device(&session.id)),
                mark => session.is_marked.then(|| language.text("mark")),
                last_used => session.last_used_at.map(|at| language.with("last-used", &[("ago", &ago(at))])),
                began => session.created_at.map(|at| language.with("began", &[("ago", &ago(at))])),
            }
        });
        let marked = offer.needed_marked;
        let context = context! {
            lang => language.tag,
            title => language.text("title"),
            problem => problem.map(|problem| match problem {
                Problem::Unfit => language.number("unfit", "needed", offer.needed),
                Problem::Failed => language.text("failed"),
            }),
            intro => language.number("intro", "needed", offer.needed),
            intro_marked => (marked > 0).then(|| language.number("intro-marked", "marked", marked)),
            legend => language.text("legend"),
            hidden => (offer.hidden > 0).then(|| language.number("hidden", "count", offer.hidden)),
            end => language.text("end"),
            cancel => language.text("cancel"),
            needed => offer.needed,
            sessions => sessions.collect::<Vec<_>>(),
            ticket => visit.ticket,
            state => visit.state,
            binding => ticket.browser_code(visit.browser, visit.state),
        };
        self.render("choose.html", context)
    }

    /// The page with a message.
    ///
    /// # Errors
    /// When the template fails.
    pub fn message(&self, language: &Language, message: Message, links: &Links) -> Result<String, minijinja::Error> {
        self.render("message.html", self.message_context(language, message, links))
    }

    fn message_context(&self, language: &Language, message: Message, links: &Links) -> minijinja::Value {
        let title = match message {
            Message::Continue => "continue-title",
            Message::Impossible => "title",
            _ => "stopped-title",
        };
        context! {
            lang => language.tag,
            title => language.text(title),
            text => language.text(message.key()),
            is_problem => message != Message::Continue,
            is_automatic => message == Message::Continue,
            continue => language.text("continue"),
            retry => language.text("retry"),
            continue_url => links.continue_url.as_deref(),
            retry_url => links.retry_url.as_deref().filter(|_| message.may_pass()),
        }
    }

    fn render(&self, name: &str, context: minijinja::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(name)?.render(context)
    }
}

impl Message {
    /// Whether the page may work when it is opened again.
    const fn may_pass(self) -> bool {
        matches!(self, Self::Impossible | Self::Unavailable)
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Continue => "continue-text",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Elsewhere => "elsewhere",
            Self::Done => "done",
            Self::WornOut => "worn-out",
            Self::Impossible => "impossible",
            Self::Unavailable => "unavailable",
        }
    }
}

fn read_files(folder: &Path) -> Result<BTreeMap<&'static str, String>, PageError> {
    fs::read_dir(folder).map_err(|error| PageError::File(folder.to_owned(), error))?;
    let mut files = BTreeMap::new();
    for (name, _) in FILES {
        let path = folder.join(name);
        let text = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(io::Error::other("it is larger than 1 MiB")),
            Ok(_) => fs::read_to_string(&path),
            Err(error) => Err(error),
        };
        files.insert(name, text.map_err(|error| PageError::File(path, error))?);
    }
    Ok(files)
}

fn device_name(language: &Language, device: Device) -> String {
    match (device.browser, device.system) {
        (Some(browser), Some(system)) => language.with("device", &[("browser", browser), ("system", system)]),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => {
            language.with("device", &[("browser", &language.text("unknown-browser")), ("system", system)])
        }
        (None, None) => language.text("unknown-device"),
    }
}
