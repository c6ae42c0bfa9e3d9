//! The certificate extension that names the images of a pod's containers (contract 6.2).

use serde::Serialize;

/// 1.3.6.1.4.1.57683.100.1, under CNCF's enterprise number.
pub const OID: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 100, 1];

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub role: Role,
    pub container_name: String,
    pub image: String,
    /// Unknown before the container has started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// What the container is to Dapr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    App,
    Daprd,
}

/// A DER octet string of a JSON list; nothing for no images.
pub fn encode(images: &[Image]) -> Option<Vec<u8>> {
    if images.is_empty() {
        return None;
    }
    let json = serde_json::to_vec(images).expect("plain text fields");
    let mut der = vec![OCTET_STRING];
    match u8::try_from(json.len()) {
        Ok(length @ 0..=127) => der.push(length),
        _ => {
            let length = json.len().to_be_bytes();
            let digits = &length[length.iter().position(|byte| *byte != 0).unwrap_or(0)..];
            der.push(LONG_FORM | u8::try_from(digits.len()).unwrap_or(0));
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(&json);
    Some(der)
}

const OCTET_STRING: u8 = 0x04;
const LONG_FORM: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str, digest: &str) -> Image {
        Image {
            role: Role::Daprd,
            container_name: "daprd".into(),
            image: image.into(),
            digest: digest.into(),
        }
    }

    #[test]
    fn short_and_long_lists() {
        assert_eq!(encode(&[]), None);
        let short = encode(&[image("i", "")]).unwrap();
        let json = br#"[{"role":"daprd","containerName":"daprd","image":"i"}]"#;
        assert_eq!(short[..2], [4, u8::try_from(json.len()).unwrap()]);
        assert_eq!(&short[2..], json);
        let long = encode(&[image(&"i".repeat(300), "sha256:1")]).unwrap();
        assert_eq!(long[..2], [4, 0x82]);
        assert_eq!(
            usize::from(u16::from_be_bytes([long[2], long[3]])),
            long.len() - 4
        );
        assert!(long.ends_with(br#""digest":"sha256:1"}]"#));
    }
}
