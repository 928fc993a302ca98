//! Where policies come from without Kubernetes: a folder of the same YAML, or the four variables of the Node demo. Both feed
//! the same [`Index`](crate::policy::Index) that Kubernetes feeds.

mod directory;
mod document;
mod dotenv;
mod environment;
mod follow;
mod setting;
mod tokens;
mod watched;

pub use directory::{Directory, FileReport, yaml_files};
pub use document::{Document, FileError, read_documents};
pub use dotenv::load_dotenv;
pub use environment::{Environment, EnvironmentError};
pub use follow::{follow_directory, follow_setting, read_directory};
pub use setting::{SettingFile, parse_switch};
pub use tokens::{TokenFile, parse_tokens};
