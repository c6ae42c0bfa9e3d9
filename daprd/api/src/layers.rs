//! What stands around every call, for both servers alike: access rules, CORS, the API token, logging.

pub mod access;
pub mod cors;
pub mod log;
pub mod token;

pub use access::Access;
pub use cors::Cors;
pub use log::ApiLog;
pub use token::ApiToken;
