//! The tests' HTTP server: answers every request with its version, its host name and the request line. On SIGTERM it
//! finishes what it has accepted, closes kept connections with their next answer, and ends.
//!
//! `GET /exit?code=N` ends it at once; `GET /healthz` answers 200, or 500 after `GET /sick`.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const POLLIN: i16 = 1;
static STOPPING: AtomicBool = AtomicBool::new(false);
static SICK: AtomicBool = AtomicBool::new(false);
static OPEN: AtomicUsize = AtomicUsize::new(0);

#[repr(C)]
struct Poll {
    descriptor: i32,
    events: i16,
    found: i16,
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn poll(descriptors: *mut Poll, count: u64, milliseconds: i32) -> i32;
}

extern "C" fn stop(_: i32) {
    STOPPING.store(true, Ordering::SeqCst);
}

fn main() {
    // SAFETY: the handler only stores to an atomic.
    unsafe { signal(15, stop) };
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    let udp = UdpSocket::bind(format!("0.0.0.0:{port}")).expect("the UDP port is free");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let mut answer = format!("{} ", host()).into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            let _gone = udp.send_to(&answer, from);
        }
    });
    let listener = TcpListener::bind(format!("0.0.0.0:{port}")).expect("the TCP port is free");
    listener.set_nonblocking(true).expect("a socket can be so");
    println!("listening on {port}");
    loop {
        // What the kernel has accepted is served, also after the signal.
        while let Ok((connection, _)) = listener.accept() {
            OPEN.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                serve(connection);
                OPEN.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if STOPPING.load(Ordering::SeqCst) && OPEN.load(Ordering::SeqCst) == 0 {
            break;
        }
        let mut listening = Poll { descriptor: listener.as_raw_fd(), events: POLLIN, found: 0 };
        // SAFETY: one well-formed entry. It returns early for a connection and for the signal.
        unsafe { poll(&mut listening, 1, 20) };
    }
    println!("stopped");
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn serve(mut connection: TcpStream) {
    let Ok(reader) = connection.try_clone() else { return };
    let mut reader = BufReader::new(reader);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let status = match path.split('?').next() {
            Some("/exit") => process::exit(path.rsplit('=').next().and_then(|c| c.parse().ok()).unwrap_or(1)),
            Some("/sick") => {
                SICK.store(true, Ordering::SeqCst);
                200
            }
            Some("/healthz") if SICK.load(Ordering::SeqCst) => 500,
            _ => 200,
        };
        let closing = STOPPING.load(Ordering::SeqCst) || headers.get("connection").is_some_and(|c| c == "close");
        let body = format!("version={} host={} {}\n", env::var("VERSION").unwrap_or_default(), host(), request.trim_end());
        let kept = if closing { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 {status} OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {kept}\r\n\r\n{body}",
            body.len()
        );
        if connection.write_all(answer.as_bytes()).is_err() || closing {
            return;
        }
    }
}
