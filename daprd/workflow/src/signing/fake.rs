//! A signer for tests: certificates are text, and a signature is a digest with a secret that the certificate stands for.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Error, Holder, Key, Signer, digest, invalid};

/// Signs as the holder of its certificate, which can be replaced.
pub struct Fake {
    certificate: Mutex<Holder>,
    /// Certificates of these apps lead to no anchor.
    pub distrusted: Mutex<Vec<String>>,
    /// How often it was asked whether one does.
    pub asked: Mutex<usize>,
}

impl Fake {
    /// One whose certificate is valid between two times, in seconds.
    pub fn new(app_id: &str, from: i64, to: i64) -> Arc<Self> {
        Arc::new(Self {
            certificate: Mutex::new(holder(app_id, from, to)),
            distrusted: Mutex::default(),
            asked: Mutex::default(),
        })
    }

    pub fn rotate(&self, app_id: &str, from: i64, to: i64) {
        *self.certificate.lock() = holder(app_id, from, to);
    }
}

fn holder(app_id: &str, from: i64, to: i64) -> Holder {
    let second = |second| Timestamp::from_second(second).expect("a time");
    Holder {
        namespace: "ns".to_owned(),
        app_id: app_id.to_owned(),
        not_before: second(from),
        not_after: second(to),
    }
}

fn signature(chain: &[u8], message: &[u8]) -> Bytes {
    digest::of_exchange(chain, message).to_vec().into()
}

impl Signer for Fake {
    fn key(&self) -> Result<Box<dyn Key>, Error> {
        let Holder {
            namespace,
            app_id,
            not_before,
            not_after,
        } = self.certificate.lock().clone();
        let text = format!(
            "{namespace}/{app_id}/{}/{}",
            not_before.as_second(),
            not_after.as_second()
        );
        Ok(Box::new(Text(text.into())))
    }

    fn holder(&self, chain: &[u8]) -> Result<Holder, Error> {
        let text = String::from_utf8_lossy(chain);
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [_, app_id, from, to] => {
                let number = |text: &str| text.parse().expect("a number");
                Ok(holder(app_id, number(from), number(to)))
            }
            _ => invalid("no certificate"),
        }
    }

    fn verify(&self, chain: &[u8], message: &[u8], given: &[u8]) -> Result<(), Error> {
        match signature(chain, message) == given {
            true => Ok(()),
            false => invalid("the signature does not match"),
        }
    }

    fn trust(&self, chain: &[u8], at: Timestamp) -> Result<(), Error> {
        *self.asked.lock() += 1;
        let holder = self.holder(chain)?;
        match holder.holds_at(at) && !self.distrusted.lock().contains(&holder.app_id) {
            true => Ok(()),
            false => invalid("the certificate is not trusted"),
        }
    }
}

struct Text(Bytes);

impl Key for Text {
    fn chain(&self) -> &Bytes {
        &self.0
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, Error> {
        Ok(signature(&self.0, message))
    }
}
