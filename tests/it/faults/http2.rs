//! HTTP/2 of a tenant: answers through the `h2` crate, and frames by hand for what that crate would never send.

use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::JoinSet;

use super::tenant::{Act, Body, Cut, Tenant, operation, send_body};

/// The bytes that begin every connection of a client.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The stream of the first request of a connection.
pub const FIRST: u32 = 1;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A SETTINGS frame with one setting.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A header field in HPACK: a literal that is not indexed.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// Reads the preface and frames up to the header of the first request.
pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        if head[3] == HEADERS {
            return Ok(());
        }
    }
}

/// Serves one connection through `h2`.
pub async fn serve(tenant: &Arc<Tenant>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut bodies = JoinSet::new();
    let mut cuts = None;
    loop {
        let accepted = match cuts {
            // Everything that can be sent is sent before the connection ends.
            Some(0) => return,
            Some(_) => tokio::select! {
                accepted = connection.accept() => accepted,
                () = tokio::task::yield_now() => {
                    cuts = cuts.map(|turns: u32| turns - 1);
                    continue;
                }
            },
            None => connection.accept().await,
        };
        let Some(Ok((request, mut respond))) = accepted else { return };
        let operation = operation(request.uri().path());
        let Some((answer, is_last)) = tenant.answer(operation).await else {
            match tenant.act {
                Act::ResetStream(reason) => respond.send_reset(reason),
                Act::GoAway(reason) => connection.abrupt_shutdown(reason),
                _ => {}
            }
            continue;
        };
        if is_last {
            connection.graceful_shutdown();
        }
        if matches!(answer.body, Body::Part(_, Cut::Close | Cut::Reset)) {
            cuts = Some(50);
        }
        let mut response = axum::http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(*name, value);
        }
        match &answer.body {
            Body::Part(body, _) => response = response.header("content-length", body.len() + 1_000),
            Body::Announced(size) => response = response.header("content-length", *size),
            Body::Whole(_) | Body::Endless(..) => {}
        }
        let response = response.body(()).unwrap();
        bodies.spawn(respond_with(respond, response, answer.body));
    }
}

async fn respond_with(mut respond: SendResponse<Bytes>, response: axum::http::Response<()>, body: Body) {
    let is_empty = matches!(&body, Body::Whole(body) if body.is_empty()) || response.status() == 204;
    let Ok(stream) = respond.send_response(response, is_empty) else { return };
    if !is_empty {
        // The client may give up.
        let _ = send_body(stream, body).await;
    }
}
