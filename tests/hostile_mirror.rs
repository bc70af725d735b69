//! A web server on the loopback interface that does what mirrors should not.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the mirror answers to one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The file, as a good mirror sends it: ranges too.
    Whole,
    /// Other bytes, of the same length.
    Wrong,
    /// This status.
    Status(u16),
    /// Headers and these many bytes, then nothing, with the connection open.
    Stall(usize),
    /// Headers and these many bytes, then the connection is closed.
    Cut(usize),
    /// A `Content-Length` that is off by this much.
    Lie(i64),
    /// Bytes for ever, without a `Content-Length`.
    Endless,
    /// One byte at a time, with pauses that are shorter than the stall time-out.
    Trickle,
    /// The whole file from byte 0 on, although a range was asked for.
    IgnoreRange,
    /// A `Content-Range` that begins elsewhere.
    WrongRange,
}

/// A request that arrived: its path, and its `Range`.
pub(crate) type Request = (String, Option<String>);

/// A running mirror. It serves one file under every path.
pub(crate) struct Mirror {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Mirror {
    /// Starts a mirror that gives these answers one after the other, and the last one for ever.
    pub(crate) fn start(content: &[u8], answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let url = format!("http://{}/debian", listener.local_addr().expect("it is bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (content, answers, log) = (content.to_vec(), answers.to_vec(), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (content, answers, log) = (content.clone(), answers.clone(), Arc::clone(&log));
                thread::spawn(move || converse(stream, &content, &answers, &log));
            }
        });
        Self { url, requests }
    }

    /// The requests that have arrived.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("nobody panics with it").clone()
    }
}

/// Answers one request; before it, as a proxy does, one to be connected.
fn converse(mut stream: TcpStream, content: &[u8], answers: &[Answer], log: &Mutex<Vec<Request>>) {
    let Some((method, mut path, mut range)) = request(&stream) else {
        return;
    };
    if method == "CONNECT" {
        log.lock().expect("nobody panics with it").push((path, None));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let Some(inner) = request(&stream) else { return };
        (_, path, range) = inner;
    }
    let mut log = log.lock().expect("nobody panics with it");
    let answer = &answers[log.len().min(answers.len() - 1)];
    log.push((path, range.clone()));
    drop(log);
    let _ = reply(stream, answer, content, range.as_deref()); // the client may hang up
}

/// Method, path and range.
fn request(stream: &TcpStream) -> Option<(String, String, Option<String>)> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let line = lines.next()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("range").then(|| value.to_owned())
    });
    Some((method, path, range))
}

fn reply(mut stream: TcpStream, answer: &Answer, content: &[u8], range: Option<&str>) -> io::Result<()> {
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.filter(|_| !matches!(answer, Answer::IgnoreRange)).unwrap_or(0);
    let size = content.len() as u64;
    let said = match answer {
        Answer::Status(status) => {
            return write!(
                stream,
                "HTTP/1.1 {status} no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Answer::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                stream.write_all(content)?;
            }
        }
        Answer::Lie(by) => size.checked_add_signed(*by).expect("a file longer than the lie"),
        _ => size,
    };
    let start = from + usize::from(matches!(answer, Answer::WrongRange));
    let status = match start {
        0 => "200 OK".to_owned(),
        start => format!("206 Part\r\nContent-Range: bytes {start}-{}/{said}", size - 1),
    };
    let length = said - from as u64;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    send(stream, answer, &content[from..])
}

fn send(mut stream: TcpStream, answer: &Answer, body: &[u8]) -> io::Result<()> {
    match answer {
        Answer::Wrong => stream.write_all(&vec![b'!'; body.len()]),
        Answer::Cut(count) => stream.write_all(&body[..*count]),
        Answer::Stall(count) => {
            stream.write_all(&body[..*count])?;
            thread::sleep(Duration::from_secs(60));
            Ok(())
        }
        Answer::Trickle => body.iter().try_for_each(|byte| {
            thread::sleep(Duration::from_millis(50));
            stream.write_all(&[*byte])
        }),
        _ => stream.write_all(body),
    }
}
