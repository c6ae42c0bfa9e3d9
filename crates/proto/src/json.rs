//! The JSON mapping of protobuf with the choices Go's `protojson` makes: lower camel case names (either
//! spelling is read), enum values by name, base64 bytes, 64-bit integers as strings.

use std::io;
use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions,
};
use serde::Serialize as _;
use serde_json::{Value, ser::Formatter};

/// Why a message could not be read from JSON, or written to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is not JSON, or does not fit the message.
    #[error("invalid JSON for {message}")]
    Read {
        /// Full name of the protobuf message.
        message: String,
        /// What the parser found, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The message holds something JSON has no form for, such as an `Any` of an unknown type.
    #[error("no JSON form for {message}")]
    Write {
        /// Full name of the protobuf message.
        message: String,
        /// What could not be written.
        #[source]
        source: serde_json::Error,
    },
    /// The message is not one of this crate.
    #[error("unknown message {0}")]
    Unknown(String),
    /// The bytes are no message of this descriptor; impossible for typed messages of this crate.
    #[error("mismatched descriptor of {message}")]
    Descriptor {
        /// Full name of the protobuf message.
        message: String,
        /// What did not decode.
        #[source]
        source: prost::DecodeError,
    },
}

/// Which fields are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emit {
    /// Only fields that are set, or differ from their default.
    #[default]
    Populated,
    /// Also default scalars, empty lists and maps, and `null` for absent messages; members of a oneof
    /// and `optional` fields still only if set.
    All,
}

/// The descriptors of every file of this crate, of the well-known types and of `google.rpc`, whose error
/// details travel as `Any`.
pub fn descriptors() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET)
            .expect("the build script wrote a valid descriptor set");
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .expect("google.rpc builds on the same well-known types");
        pool
    })
}

/// The JSON value of `message`, populated fields only.
pub fn to_value<M: Message + Name>(message: &M) -> Result<Value, Error> {
    to_value_with(message, Emit::Populated)
}

/// The JSON value of `message`.
pub fn to_value_with<M: Message + Name>(message: &M, emit: Emit) -> Result<Value, Error> {
    let dynamic = reflect(message)?;
    let options = SerializeOptions::new().skip_default_fields(emit == Emit::Populated);
    let mut value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| Error::Write {
            message: M::full_name(),
            source,
        })?;
    if emit == Emit::All {
        fill(&mut value, &descriptor::<M>()?);
    }
    Ok(value)
}

/// The JSON bytes of `message`, populated fields only, keys sorted.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Vec<u8>, Error> {
    Ok(text(&to_value(message)?))
}

/// The JSON bytes of `message`, keys sorted.
pub fn to_json_with<M: Message + Name>(message: &M, emit: Emit) -> Result<Vec<u8>, Error> {
    Ok(text(&to_value_with(message, emit)?))
}

/// The JSON text of a double: whole numbers have no fraction, as Go writes them, and readers that want an integer take them.
pub fn number(number: f64) -> String {
    match number.abs() {
        _ if !number.is_finite() => "null".to_owned(),
        0.0 => "0".to_owned(),
        1e-6..1e21 => number.to_string(),
        _ => format!("{number:e}"),
    }
}

struct Numbers;

impl Formatter for Numbers {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(number(value).as_bytes())
    }
}

fn text(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Numbers);
    value
        .serialize(&mut serializer)
        .expect("a JSON value has a text");
    bytes
}

/// The JSON value of an encoded message of the given full name, populated fields only: for messages
/// that are not of this crate, such as `google.rpc.Status`.
pub fn encoded_to_value(name: &str, encoded: &[u8]) -> Result<Value, Error> {
    let descriptor = descriptors()
        .get_message_by_name(name)
        .ok_or_else(|| Error::Unknown(name.to_owned()))?;
    DynamicMessage::decode(descriptor, encoded)
        .map_err(|source| Error::Descriptor {
            message: name.to_owned(),
            source,
        })?
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|source| Error::Write {
            message: name.to_owned(),
            source,
        })
}

/// Reads a message from JSON bytes; unknown fields are ignored, and so is whitespace around the value.
pub fn from_json<M: Message + Name + Default>(json: &[u8]) -> Result<M, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let dynamic = read::<M, _>(&mut deserializer)?;
    deserializer.end().map_err(|source| Error::Read {
        message: M::full_name(),
        source,
    })?;
    typed(&dynamic)
}

/// Reads a message from a JSON value; unknown fields are ignored.
pub fn from_value<M: Message + Name + Default>(value: Value) -> Result<M, Error> {
    typed(&read::<M, _>(value)?)
}

fn read<'de, M, D>(deserializer: D) -> Result<DynamicMessage, Error>
where
    M: Name,
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    DynamicMessage::deserialize_with_options(descriptor::<M>()?, deserializer, &options).map_err(
        |source| Error::Read {
            message: M::full_name(),
            source,
        },
    )
}

fn typed<M: Message + Name + Default>(dynamic: &DynamicMessage) -> Result<M, Error> {
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|source| Error::Descriptor {
        message: M::full_name(),
        source,
    })
}

fn reflect<M: Message + Name>(message: &M) -> Result<DynamicMessage, Error> {
    DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice()).map_err(
        |source| Error::Descriptor {
            message: M::full_name(),
            source,
        },
    )
}

fn descriptor<M: Name>() -> Result<MessageDescriptor, Error> {
    let name = M::full_name();
    descriptors()
        .get_message_by_name(&name)
        .ok_or(Error::Unknown(name))
}

/// Adds `null` for absent message fields, which the library leaves out.
fn fill(value: &mut Value, descriptor: &MessageDescriptor) {
    let Value::Object(object) = value else { return };
    if descriptor.full_name().starts_with("google.protobuf.") {
        return; // well-known types have forms of their own
    }
    for field in descriptor.fields() {
        let Kind::Message(kind) = field.kind() else {
            continue;
        };
        match object.get_mut(field.json_name()) {
            None if field.containing_oneof().is_none() && field.supports_presence() => {
                object.insert(field.json_name().to_owned(), Value::Null);
            }
            Some(Value::Array(items)) if field.is_list() => {
                items.iter_mut().for_each(|item| fill(item, &kind))
            }
            Some(Value::Object(entries)) if field.is_map() => {
                if let Kind::Message(kind) = kind.map_entry_value_field().kind() {
                    entries.values_mut().for_each(|entry| fill(entry, &kind));
                }
            }
            Some(nested) => fill(nested, &kind),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
