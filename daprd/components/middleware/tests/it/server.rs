//! A server of a few documents, for clients that bring their own connections.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use parking_lot::Mutex;

/// Ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    documents: Arc<Mutex<Vec<(String, String)>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let documents: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let end = Arc::new(AtomicBool::new(false));
        let (served, ended) = (Arc::clone(&documents), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.find(String::is_empty);
                let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                let documents = served.lock();
                let found = documents.iter().rfind(|(known, _)| *known == path);
                let (status, text) = match found {
                    Some((_, text)) => ("200 OK", text.as_str()),
                    None => ("404 Not Found", ""),
                };
                let length = text.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
                );
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self {
            address,
            documents,
            end,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn put(&self, path: &str, text: String) {
        self.documents.lock().push((path.to_owned(), text));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = std::net::TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
