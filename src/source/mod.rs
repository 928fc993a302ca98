//! Sources of policies other than Kubernetes: a folder of YAML files, or the variables of the Node demo.
//!
//! Every source feeds the same [`Index`](crate::policy::Index). The files of single settings (caller tokens, the
//! force-audit switch) are followed here too, because they are watched like the files of a folder.

mod document;
mod environment;
mod folder;
mod setting;
mod unread;
mod watched_file;

pub use document::{Document, FileError, Resource, parse_yaml, read_documents, resources};
pub use environment::{Environment, EnvironmentError, load_dotenv};
pub use folder::{PolicyFolder, follow_folder, read_folder, unread_policies, yaml_files};
pub use setting::{SettingFile, TokenFile, follow_setting, parse_switch, parse_tokens};
