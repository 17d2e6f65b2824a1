//! An OCI image layout (image-layout.md of the OCI image specification): one image under its tag, and its signature.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::signature::{self, Key};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Bytes, and what they are.
pub struct Blob {
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Blob {
    /// Bytes of this media type.
    pub fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self { media_type, bytes }
    }

    /// The descriptor of it (descriptor.md), with these annotations.
    fn descriptor(&self, annotations: Option<&Value>) -> Value {
        let mut descriptor =
            json!({"mediaType": self.media_type, "digest": digest(&self.bytes), "size": self.bytes.len()});
        if let (Some(annotations), Some(members)) = (annotations, descriptor.as_object_mut()) {
            members.insert("annotations".to_owned(), annotations.clone());
        }
        descriptor
    }
}

/// One image with its tag.
pub struct Layout {
    tag: String,
    blobs: Vec<Blob>,
    manifest: Blob,
}

impl Layout {
    /// An image of these parts.
    pub fn new(tag: &str, config: Blob, layers: Vec<Blob>, annotations: Value) -> Self {
        let descriptors: Vec<Value> = layers.iter().map(|layer| layer.descriptor(None)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(None),
            "layers": descriptors,
            "annotations": annotations
        });
        let mut blobs = layers;
        blobs.push(config);
        Self { tag: tag.to_owned(), blobs, manifest: Blob::new(MANIFEST, manifest.to_string().into_bytes()) }
    }

    /// The digest that the image is pulled by.
    pub fn digest(&self) -> String {
        digest(&self.manifest.bytes)
    }

    /// Writes the layout, with a signature by `key` under the tag where cosign looks for it.
    pub fn write(&self, folder: &Path, key: Option<&Key>) -> Result<(), Error> {
        let signed = key.map(|key| self.signature(key));
        let mut manifests = Vec::new();
        for image in [self].into_iter().chain(signed.as_ref()) {
            for blob in image.blobs.iter().chain([&image.manifest]) {
                write(folder, &format!("blobs/sha256/{}", hex(&blob.bytes)), &blob.bytes)?;
            }
            let name = json!({"org.opencontainers.image.ref.name": image.tag});
            manifests.push(image.manifest.descriptor(Some(&name)));
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests
        });
        write(folder, "index.json", index.to_string().as_bytes())?;
        write(folder, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    /// The signature as an image (cosign, SIGNATURE_SPEC.md): the payload names the digest, the annotation signs the payload.
    fn signature(&self, key: &Key) -> Layout {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": ""},
                "image": {"docker-manifest-digest": self.digest()},
                "type": "cosign container image signature"
            },
            "optional": null
        });
        let payload = Blob::new(signature::PAYLOAD, payload.to_string().into_bytes());
        let annotations = json!({signature::ANNOTATION: key.sign(&payload.bytes)});
        let config = json!({
            "architecture": "", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&payload.bytes)]}
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor(None), "layers": [payload.descriptor(Some(&annotations))]
        });
        let tag = format!("{}.sig", self.digest().replace(':', "-"));
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        Layout { tag, blobs: vec![payload, config], manifest }
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::at(parent))?;
    }
    fs::write(&path, bytes).map_err(Error::at(&path))
}

/// `sha256:` and the sum in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

/// The SHA-256 in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
