//! Reading JSON the way its writers produce it. The Go writers of these objects print absent lists as
//! `null` and absent strings as `""`, so both have to mean "not given" here.

use serde::{Deserialize, Deserializer};

/// Reads `null` as the zero value of the field's type.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads an optional string; the empty string means "not given".
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}

/// Reads an optional count; zero means "not given", because Go leaves zero counts out.
pub(crate) fn count<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + PartialEq + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.filter(|count| *count != T::default()))
}

/// Tells serde to leave out a switch that is off.
#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
pub(crate) fn is_off(switch: &bool) -> bool {
    !*switch
}
