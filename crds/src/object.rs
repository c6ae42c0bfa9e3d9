//! What all objects inside a resource have in common, so that a field is only its documentation, its name and its type.

/// Derives for an object, and the serde attributes that follow from the types of its fields: names are in camel case,
/// everything may be left out or be `null`, and what is empty is not written. A field that differs says
/// `#[serde_with(skip_apply)]`, and what it wants instead.
macro_rules! object {
    ($($item:tt)*) => {
        #[serde_with_macros::apply(
            crate = "serde_with_macros",
            Option => #[serde(skip_serializing_if = "Option::is_none")],
            Option<String> => #[serde(deserialize_with = "crate::lenient::text")],
            Option<SecretKeyRef> => #[serde(deserialize_with = "crate::name_value::secret_key_ref")],
            Vec => #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::lenient::or_default")],
            BTreeMap => #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "crate::lenient::or_default")],
            bool => #[serde(skip_serializing_if = "crate::lenient::is_off", deserialize_with = "crate::lenient::or_default")],
        )]
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", default)]
        $($item)*
    };
}

pub(crate) use object;
