//! Ports for programs: handed out once per test binary, below the range from which the kernel picks ports
//! for port 0 and for outgoing connections, and held until the program is about to bind them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody else has while this value lives.
pub struct Reserved {
    listener: TcpListener,
    port: u16,
}

impl Reserved {
    /// The port number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port with its listener, for what listens in this process.
    ///
    /// # Panics
    /// Where the system does not let it be without blocking.
    pub fn listener(self) -> TcpListener {
        let set = self.listener.set_nonblocking(true);
        set.expect("a listener can be without blocking");
        self.listener
    }

    /// Frees the port for a program that binds it at once.
    pub fn release(self) -> u16 {
        drop(self.listener);
        self.port
    }
}

/// Reserves a port on the loopback address.
pub fn reserve() -> Reserved {
    // Test binaries that run side by side start far from each other.
    let start =
        u16::try_from(std::process::id() % u32::from(COUNT)).expect("smaller than the count");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Reserved { listener, port };
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Reserves several ports.
pub fn several<const N: usize>() -> [Reserved; N] {
    std::array::from_fn(|_| reserve())
}
