//! What `scripts/package` makes: the same bytes in every run, sums and signatures that other tools check, images in the forms
//! that Istio and Envoy Gateway read, and an SBOM.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use taskfence_tests::{artefacts, mint::unique, registry, release};

/// A key, and a release that is signed with it, of a small binary.
struct Signed {
    folder: PathBuf,
    binary: PathBuf,
    key: PathBuf,
}

fn key_in(folder: &Path) -> PathBuf {
    let key = folder.join("key.pem");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    key
}

fn signed() -> Signed {
    let folder = artefacts::target().join("tests").join(unique("package"));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("binary");
    fs::write(&binary, b"#!/bin/sh\necho taskfence\n").unwrap();
    let key = key_in(&folder);
    let made = release::make("dist", &artefacts::wasm().unwrap(), &binary, Some(&key)).unwrap();
    Signed { folder: made, binary, key }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(one) = left.pop() {
        for entry in fs::read_dir(one).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => drop(all.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())),
            }
        }
    }
    all
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap();
    assert_eq!((registry::sum(&bytes).as_str(), descriptor["size"].as_u64()), (digest, Some(bytes.len() as u64)));
    bytes
}

/// The manifest of the image, and the one of its signature.
fn manifests(layout: &Path) -> Vec<(String, Value)> {
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(&layout.join("index.json"));
    let all = index["manifests"].as_array().unwrap().clone();
    let read = |one: Value| {
        let tag = one["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned();
        (tag, serde_json::from_slice(&blob(layout, &one)).unwrap())
    };
    all.into_iter().map(read).collect()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// By openssl, as `cosign verify-blob --key` would.
fn assert_signed(public: &Path, text: &[u8], signature: &str) {
    let folder = artefacts::target().join("tests").join(unique("verify"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("text"), text).unwrap();
    fs::write(folder.join("signature"), STANDARD.decode(signature).unwrap()).unwrap();
    let verify = |text: &str| {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-verify"]).arg(public).args(["-signature", "signature", text]);
        command.current_dir(&folder).output().unwrap().status.success()
    };
    assert!(verify("text"));
    assert!(!verify("signature"), "another text has another signature");
}

#[test]
fn two_runs_give_the_same_bytes() {
    let first = signed();
    let again = release::make("dist", &artefacts::wasm().unwrap(), &first.binary, Some(&first.key)).unwrap();
    let (first, again) = (files(&first.folder), files(&again));
    assert_eq!(first.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        assert!(again[name] == *bytes, "{} differs", name.display());
    }
    assert!(first.len() > 15, "{:?}", first.keys());
}

#[test]
fn sums_signatures_and_images_are_what_other_tools_read() {
    let signed = signed();
    let folder = &signed.folder;
    run(Command::new("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(folder));
    let public = folder.join("taskfence.pub");
    let signature = fs::read_to_string(folder.join("SHA256SUMS.sig")).unwrap();
    assert_signed(&public, &fs::read(folder.join("SHA256SUMS")).unwrap(), &signature);

    let wasm = fs::read(artefacts::wasm().unwrap()).unwrap();
    for name in ["module", "module-artifact", "hub"] {
        let layout = folder.join(name);
        let manifests = manifests(&layout);
        let [(tag, image), (signature_tag, signature)] = manifests.as_slice() else { panic!("{manifests:?}") };
        assert_eq!(tag, "0.1.0");
        let index = json(&layout.join("index.json"));
        let digest = index["manifests"][0]["digest"].as_str().unwrap();
        assert_eq!(*signature_tag, format!("{}.sig", digest.replace(':', "-")), "where cosign looks");
        let payload = blob(&layout, &signature["layers"][0]);
        let says: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(says["critical"]["image"]["docker-manifest-digest"], digest);
        let by = signature["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
        assert_signed(&public, &payload, by);

        let layers = image["layers"].as_array().unwrap();
        if name == "module-artifact" {
            // Istio wants two layers, one of this kind (pkg/wasm/imagefetcher.go).
            let of_wasm: Vec<&Value> = layers
                .iter()
                .filter(|one| one["mediaType"] == "application/vnd.module.wasm.content.layer.v1+wasm")
                .collect();
            assert_eq!((layers.len(), of_wasm.len()), (2, 1));
            assert!(blob(&layout, of_wasm[0]) == wasm);
            continue;
        }
        assert_eq!(layers.len(), 1);
        assert_eq!(layers[0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let packed = layout.join("blobs").join(layers[0]["digest"].as_str().unwrap().replace(':', "/"));
        let config: Value = serde_json::from_slice(&blob(&layout, &image["config"])).unwrap();
        let unpacked =
            run(Command::new("gzip").args(["--decompress", "--stdout"]).stdin(fs::File::open(&packed).unwrap()));
        assert_eq!(config["rootfs"]["diff_ids"][0], registry::sum(&unpacked.stdout), "{name}");
        let extract = |file: &str| {
            run(Command::new("tar").args(["--extract", "--gzip", "--to-stdout", "--file"]).arg(&packed).arg(file))
                .stdout
        };
        match name {
            "module" => assert!(extract("plugin.wasm") == wasm),
            _ => {
                assert!(extract("taskfence") == fs::read(&signed.binary).unwrap());
                assert_eq!(
                    (&config["config"]["User"], &config["config"]["Entrypoint"][0]),
                    (&"65532:65532".into(), &"/taskfence".into())
                );
            }
        }
    }
}

#[test]
fn without_a_key_nothing_is_signed_and_a_wrong_key_is_refused() {
    let folder = artefacts::target().join("tests").join(unique("package"));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("binary");
    fs::write(&binary, b"x").unwrap();
    let made = release::make("dist", &artefacts::wasm().unwrap(), &binary, None).unwrap();
    assert!(!made.join("SHA256SUMS.sig").exists() && !made.join("taskfence.pub").exists());
    assert_eq!(manifests(&made.join("module")).len(), 1);
    let error = release::make("dist", &artefacts::wasm().unwrap(), &binary, Some(&binary)).unwrap_err().to_string();
    assert!(error.contains("no private key on P-256") && error.contains("openssl genpkey"), "{error}");
}

/// The image of the hub has nothing beside the binary.
#[test]
fn a_binary_that_needs_a_loader_is_refused() {
    let own = std::env::current_exe().unwrap();
    let error = release::make("dist", &artefacts::wasm().unwrap(), &own, None).unwrap_err().to_string();
    assert!(error.contains("is not static") && error.contains("-unknown-linux-musl"), "{error}");
}

#[test]
fn the_sbom_has_what_the_module_and_the_binary_are_made_of() {
    let sbom = json(&signed().folder.join("taskfence.cdx.json"));
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = sbom["components"].as_array().unwrap();
    let has = |name: &str| components.iter().find(|one| one["name"] == name);
    for name in ["proxy-wasm", "rusqlite", "aws-lc-rs", "taskfence-core", "taskfence-filter", "taskfence-cli"] {
        assert!(has(name).is_some(), "{name}");
    }
    for name in ["insta", "criterion", "taskfence-tests", "rcgen"] {
        assert!(has(name).is_none(), "{name} is for tests");
    }
    for name in ["windows-sys", "jni", "js-sys", "security-framework"] {
        assert!(has(name).is_none(), "{name} is for other systems");
    }
    let wasm = has("proxy-wasm").unwrap();
    assert_eq!(wasm["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert_eq!(wasm["licenses"][0]["expression"], "Apache-2.0");
    let references: Vec<&Value> = components.iter().map(|one| &one["bom-ref"]).collect();
    let dependencies = sbom["dependencies"].as_array().unwrap();
    for on in dependencies.iter().flat_map(|one| one["dependsOn"].as_array().unwrap()) {
        assert!(references.contains(&on), "{on}");
    }
    let mut names: Vec<&str> = references.iter().map(|one| one.as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), references.len(), "each once");
}
