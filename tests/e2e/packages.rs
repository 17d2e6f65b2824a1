//! The image of the module goes into a registry and comes out again, and Envoy loads what came.

use std::{fs, io::Write, process::Command};

/// What is made has the version of the workspace for a tag.
const VERSION: &str = env!("CARGO_PKG_VERSION");

use serde_json::json;
use taskfence_tests::{
    artefacts,
    bootstrap::{self, Settings},
    client::{Http, Request},
    mint::{self, unique},
    orders,
    refusal::{assert_allowed, assert_refused},
    registry::{Registry, sum},
    release,
    sidecar::Sidecar,
};

#[tokio::test]
async fn envoy_loads_the_module_that_a_registry_gives_back() {
    let folder = artefacts::target().join("tests").join(unique("pulled-files"));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("binary");
    fs::write(&binary, b"of another test").unwrap();
    let made = release::make("pushed", &artefacts::wasm().unwrap(), &binary, None).unwrap();
    let registry = Registry::start().await.unwrap();
    registry.push(&made.join("module"), "mesh/taskfence").await.unwrap();

    // As Istio's agent and Envoy Gateway do: the manifest by its digest, the only layer, plugin.wasm in it.
    let index: serde_json::Value = serde_json::from_slice(&fs::read(made.join("module/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = registry.manifest("mesh/taskfence", digest).await.unwrap();
    assert_eq!(registry.manifest("mesh/taskfence", VERSION).await.unwrap(), manifest, "by its tag too");
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let packed = registry.blob("mesh/taskfence", layer).await.unwrap();
    fs::File::create(folder.join("layer.tar.gz")).unwrap().write_all(&packed).unwrap();
    let unpacked = Command::new("tar")
        .args(["--extract", "--gzip", "--file", "layer.tar.gz"])
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(unpacked.success());
    let module = folder.join("plugin.wasm");
    assert_eq!(sum(&fs::read(&module).unwrap()), sum(&fs::read(artefacts::wasm().unwrap()).unwrap()));

    let settings = Settings::new("pulled", orders::config()).workers(1).patch(move |bootstrap| {
        let pointer = format!("{}/http_filters/0/typed_config/config/vm_config/code/local", bootstrap::APP);
        *bootstrap.pointer_mut(&pointer).unwrap() = json!({"filename": module});
    });
    let sidecar = Sidecar::start(settings).await.unwrap();
    let read = Request::get(orders::ORDER_PATH);
    assert_refused(&sidecar, &sidecar.send(Http::One, &read).await.unwrap(), "token_missing");
    let read = read.bearer(&mint::token().sign());
    assert_allowed(&sidecar, &sidecar.send(Http::One, &read).await.unwrap());
}

/// A client that others wrote pushes the layouts to the registry and gets the same back, where it is there: skopeo, which
/// operators use.
#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_and_pulls_what_is_packed() {
    let skopeo = std::env::var_os("TASKFENCE_SKOPEO_BIN").unwrap_or_else(|| "skopeo".into());
    if Command::new(&skopeo).arg("--version").output().is_err() {
        eprintln!("skipped: packages::skopeo_pushes_and_pulls_what_is_packed: skopeo is not installed");
        return;
    }
    let folder = artefacts::target().join("tests").join(unique("skopeo"));
    fs::create_dir_all(&folder).unwrap();
    let binary = folder.join("binary");
    fs::write(&binary, b"of another test").unwrap();
    let made = release::make("skopeo-pushed", &artefacts::wasm().unwrap(), &binary, None).unwrap();
    let registry = Registry::start().await.unwrap();
    let copy = |from: &str, to: &str| {
        let mut command = Command::new(&skopeo);
        command.args(["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]);
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        assert!(output.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&output.stderr));
    };
    for name in ["module", "module-artifact", "hub"] {
        let at = format!("docker://{}/mesh/{name}:{VERSION}", registry.address());
        copy(&format!("oci:{}:{VERSION}", made.join(name).display()), &at);
        let back = folder.join(name);
        copy(&at, &format!("oci:{}:{VERSION}", back.display()));
        let digest = |layout: &std::path::Path| {
            let index = fs::read(layout.join("index.json")).unwrap();
            let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
            index["manifests"][0]["digest"].clone()
        };
        assert_eq!(digest(&back), digest(&made.join(name)), "{name}");
        let manifest = registry.manifest(&format!("mesh/{name}"), digest(&back).as_str().unwrap()).await.unwrap();
        assert!(!manifest["layers"].as_array().unwrap().is_empty(), "{manifest}");
    }
}
