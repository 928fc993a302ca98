//! The step `choose`: what a person does at the page for choosing sessions.

use std::fmt::{self, Display, Formatter};

use super::names::place;
use super::{OnDevice, Scenario};

const FORM: &str = "write PERSON on DEVICE ends DEVICE, or more devices with commas, or PERSON on DEVICE cancels; the second \
                    session of a device is DEVICE#2";

/// What a person does at the page for choosing sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageChoice {
    /// Whose login waits, and where.
    pub at: OnDevice,
    /// The sessions to end. None cancels the login.
    pub ended: Vec<DeviceSession>,
}

/// A session, by the device on which it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSession {
    /// The device's name.
    pub device: String,
    /// Which of the device's sessions, from 1 in the order in which they began.
    pub number: usize,
}

impl PageChoice {
    /// Reads a choice. Person and devices must be the scenario's.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn read(text: &str, scenario: &Scenario) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not understood: {FORM}");
        let words: Vec<&str> = text.split_whitespace().collect();
        let (person, device, ended) = match &words[..] {
            [person, "on", device, "cancels"] => (person, device, Vec::new()),
            [person, "on", device, "ends", ended @ ..] if !ended.is_empty() => (person, device, ended.to_vec()),
            _ => return Err(wrong()),
        };
        let at = place(person, device, scenario)?;
        let session = |written: &str| {
            let (device, number) = written.trim().split_once('#').unwrap_or((written.trim(), "1"));
            let number = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
            Ok(DeviceSession { device: place(person, device, scenario)?.device, number })
        };
        let ended = ended.join(" ");
        let ended = ended.split(',').filter(|_| !ended.is_empty()).map(session).collect::<Result<_, String>>()?;
        Ok(Self { at, ended })
    }

    /// The choice as a sentence.
    pub fn sentence(&self) -> String {
        let OnDevice { person, device } = &self.at;
        match &self.ended[..] {
            [] => format!("{person} cancels on {device}"),
            ended => format!("{person} chooses on {device} to end {}", list(ended)),
        }
    }
}

fn list(ended: &[DeviceSession]) -> String {
    ended.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Display for PageChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.ended[..] {
            [] => write!(f, "{} cancels", self.at),
            ended => write!(f, "{} ends {}", self.at, list(ended)),
        }
    }
}

impl Display for DeviceSession {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => f.write_str(&self.device),
            number => write!(f, "{}#{number}", self.device),
        }
    }
}
