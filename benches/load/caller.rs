//! A caller that keeps its connection, sends one request at a time and waits for the answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, service::CALLER_TOKEN, tenant, wrk};

/// A connection to a server.
pub struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// What a caller asks about a user, as `load.lua` does.
#[derive(Clone, Copy)]
pub enum Question {
    /// `POST /check` of a login that needs a list.
    Check,
    /// `POST /check` of a login that what is remembered allows, of the holder with the user's number modulo theirs.
    Recheck,
    /// `GET` of the session list.
    List,
    /// `GET /healthz`, about nobody.
    Probe,
}

impl Question {
    /// The bytes of the request about a user.
    fn about(self, user: u32) -> Vec<u8> {
        match self {
            Self::List => format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", wrk::list_path(user)).into_bytes(),
            Self::Probe => b"GET /healthz HTTP/1.1\r\nHost: bench\r\n\r\n".to_vec(),
            Self::Recheck => Self::Check.about(tenant::USERS + user % tenant::HOLDERS),
            Self::Check => {
                let body = format!(
                    r#"{{"user_id":"{}","client_id":"{}","sid":"{}","protocol":"oidc-basic-profile"}}"#,
                    tenant::user_id(user),
                    tenant::APPLICATION,
                    tenant::session_id(user, 0),
                );
                format!(
                    "POST /check HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
                     Authorization: Bearer {CALLER_TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
        }
    }
}

impl Caller {
    /// Connects.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Asks about a user. Returns the answer, with its header, and how long it took. Fails unless its status is 200.
    pub fn ask(&mut self, question: Question, user: u32) -> Result<(&[u8], Duration)> {
        let sent = self.send(question, user)?;
        let answer = self.answer()?;
        Ok((answer, sent.elapsed()))
    }

    /// Asks about a user, and returns when. The answer is for [`answer`](Self::answer).
    pub fn send(&mut self, question: Question, user: u32) -> Result<Instant> {
        let request = question.about(user);
        let sent = Instant::now();
        self.stream.write_all(&request)?;
        Ok(sent)
    }

    /// Waits for the answer to the question that was sent. Fails unless its status is 200.
    pub fn answer(&mut self) -> Result<&[u8]> {
        self.answer.clear();
        let mut buffer = [0; 16 * 1024];
        while !is_complete(&self.answer) {
            match self.stream.read(&mut buffer)? {
                0 => return Err("the connection ended before the answer".into()),
                read => self.answer.extend_from_slice(&buffer[..read]),
            }
        }
        match self.answer.starts_with(b"HTTP/1.1 200 ") {
            true => Ok(&self.answer),
            false => Err(format!("unexpected answer: {}", String::from_utf8_lossy(&self.answer)).into()),
        }
    }
}

/// Sleeps until this moment, if it is to come.
pub fn sleep_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}

/// Whether an answer has its header and as many bytes of a body as `Content-Length` says.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    length.is_none_or(|length| body.len() >= length)
}
