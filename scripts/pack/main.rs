//! Makes what is released: the module and the binary as files and as OCI image layouts, their sums, an SBOM, and
//! signatures. The same input gives the same bytes: every time is the one that is given, and every order is fixed.

#![forbid(unsafe_code)]

mod archive;
mod error;
mod layout;
mod sbom;
mod signature;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::archive::{Entry, gzip, tar};
use crate::error::Error;
use crate::layout::{Blob, Layout};
use crate::signature::Key;

/// What Envoy Gateway and Istio look for in an image (solo-io/wasm, spec-compat.md): this file in the only layer.
const PLUGIN: &str = "plugin.wasm";
/// The form as an artifact (solo-io/wasm, spec.md): the module as it is, beside its settings.
const WASM_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const WASM_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
/// Nobody, as in distroless images.
const USER: &str = "65532:65532";

/// Make the files of a release.
#[derive(Debug, Parser)]
struct Pack {
    /// Where they go; it must be empty or missing
    #[arg(long)]
    out: PathBuf,
    /// taskfence.wasm
    #[arg(long)]
    module: PathBuf,
    /// The binary `taskfence` for Linux
    #[arg(long)]
    binary: PathBuf,
    /// The architecture of the binary, as OCI calls it
    #[arg(long, default_value = "amd64")]
    architecture: String,
    /// Certificates of authorities for the image of the hub, in PEM
    #[arg(long)]
    authorities: PathBuf,
    /// What `cargo metadata --format-version 1 --locked` prints
    #[arg(long)]
    metadata: PathBuf,
    /// Cargo.lock, which has the sums of the sources
    #[arg(long)]
    lock: PathBuf,
    /// The version, which is the tag of the images too
    #[arg(long)]
    version: String,
    /// The commit that it was built from
    #[arg(long)]
    revision: String,
    /// When that was committed, in seconds since 1970
    #[arg(long)]
    epoch: u64,
    /// A private key on P-256 (PKCS #8, PEM) to sign with; without it nothing is signed
    #[arg(long)]
    key: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Pack::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Pack {
    fn run(&self) -> Result<(), Error> {
        if fs::read_dir(&self.out).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::NotEmpty(self.out.clone()));
        }
        fs::create_dir_all(&self.out).map_err(Error::at(&self.out))?;
        let key = self.key.as_deref().map(Key::read).transpose()?;
        let (module, binary) = (read(&self.module)?, read(&self.binary)?);
        let sbom = sbom::of(&read(&self.metadata)?, &read(&self.lock)?, &self.version)?;
        self.write("taskfence.wasm", &module)?;
        self.write("taskfence", &binary)?;
        self.write("taskfence.cdx.json", &sbom)?;
        self.layout("module", &self.image_of_module(&module)?, key.as_ref())?;
        self.layout("module-artifact", &self.artifact_of_module(module), key.as_ref())?;
        self.layout("hub", &self.image_of_hub(binary)?, key.as_ref())?;
        let sums = self.sums()?;
        self.write("SHA256SUMS", sums.as_bytes())?;
        if let Some(key) = &key {
            self.write("SHA256SUMS.sig", key.sign(sums.as_bytes()).as_bytes())?;
            self.write("taskfence.pub", key.public()?.as_bytes())?;
        }
        Ok(())
    }

    /// One layer with `plugin.wasm`.
    fn image_of_module(&self, module: &[u8]) -> Result<Layout, Error> {
        let layer = tar(&[Entry::file(PLUGIN, module, 0o644)], self.epoch)?;
        // Whatever machine pulls it: the module runs on every one.
        Ok(self.image(&layer, "amd64", json!({}), "taskfence.wasm, the filter for Envoy"))
    }

    fn artifact_of_module(&self, module: Vec<u8>) -> Layout {
        let layers = vec![Blob::new(WASM_CONFIG, b"{}".to_vec()), Blob::new(WASM_LAYER, module)];
        let config = Blob::new(WASM_CONFIG, b"{}".to_vec());
        Layout::new(&self.version, config, layers, self.annotations("taskfence.wasm, the filter for Envoy"))
    }

    /// The binary, and the authorities that it trusts when it fetches keys.
    fn image_of_hub(&self, binary: Vec<u8>) -> Result<Layout, Error> {
        let authorities = read(&self.authorities)?;
        let layer = tar(
            &[
                Entry::folder("etc/", 0o755),
                Entry::folder("etc/ssl/", 0o755),
                Entry::folder("etc/ssl/certs/", 0o755),
                Entry::file("etc/ssl/certs/ca-certificates.crt", &authorities, 0o644),
                Entry::file("taskfence", &binary, 0o755),
                // For the volume of the store.
                Entry::folder("var/", 0o755),
                Entry::folder("var/lib/", 0o755),
                Entry::folder("var/lib/taskfence/", 0o755),
            ],
            self.epoch,
        )?;
        let config = json!({
            "Entrypoint": ["/taskfence"],
            "Cmd": ["hub", "--config", "/etc/taskfence/config/hub.yaml"],
            "User": USER,
            "WorkingDir": "/",
            "ExposedPorts": {"8500/tcp": {}}
        });
        Ok(self.image(&layer, &self.architecture, config, "The hub of Taskfence, and its command line"))
    }

    /// An image of one layer (OCI image specification, config.md).
    fn image(&self, layer: &[u8], architecture: &str, config: serde_json::Value, what: &str) -> Layout {
        let packed = gzip(layer);
        let config = json!({
            "created": archive::rfc3339(self.epoch),
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layout::digest(layer)]},
            "history": [{"created": archive::rfc3339(self.epoch), "created_by": "scripts/package"}]
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", packed);
        Layout::new(&self.version, config, vec![layer], self.annotations(what))
    }

    fn annotations(&self, what: &str) -> serde_json::Value {
        json!({
            "org.opencontainers.image.created": archive::rfc3339(self.epoch),
            "org.opencontainers.image.description": what,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.revision": self.revision,
            "org.opencontainers.image.title": "taskfence",
            "org.opencontainers.image.version": self.version
        })
    }

    fn layout(&self, name: &str, layout: &Layout, key: Option<&Key>) -> Result<(), Error> {
        let folder = self.out.join(name);
        layout.write(&folder, key)?;
        println!("{name}: {}", layout.digest());
        Ok(())
    }

    /// Lines as `sha256sum --check` reads them, of every file, in the order of their names.
    fn sums(&self) -> Result<String, Error> {
        let mut files = Vec::new();
        files_in(&self.out, &mut files)?;
        files.sort();
        let mut lines = String::new();
        for file in files {
            let sum = layout::hex(&read(&file)?);
            let name = file.strip_prefix(&self.out).unwrap_or(&file).display();
            lines.push_str(&format!("{sum}  {name}\n"));
        }
        Ok(lines)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.out.join(name);
        fs::write(&path, bytes).map_err(Error::at(&path))?;
        if name == "taskfence" {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::at(&path))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::at(path))
}

fn files_in(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(Error::at(folder))? {
        let path = entry.map_err(Error::at(folder))?.path();
        match path.is_dir() {
            true => files_in(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
