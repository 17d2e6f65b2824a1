//! A filter that Envoy discovers from a file (ECDS), so that a test can replace its configuration while streams run.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::time;

use crate::{Error, Result, artefacts, bootstrap, mint::unique, sidecar::Sidecar};

/// The file that Envoy reads the filter of the app listener from.
#[derive(Clone)]
pub struct Discovered(PathBuf);

impl Discovered {
    /// A file in a folder of its own; nothing is in it until [`Discovered::discover`].
    pub fn new(name: &str) -> Result<Self> {
        let folder = artefacts::target().join("tests").join(unique(name));
        std::fs::create_dir_all(&folder).map_err(Error::doing(folder.display()))?;
        Ok(Self(folder.join("extension.json")))
    }

    /// Moves the first filter of the app listener of `bootstrap` into the file, and has Envoy discover it there.
    pub fn discover(&self, bootstrap: &mut Value) {
        bootstrap["node"] = json!({"id": "discovered", "cluster": "discovered"});
        let pointer = format!("{}/http_filters/0", bootstrap::APP);
        let filter = bootstrap.pointer_mut(&pointer).expect("the filter of the app listener");
        self.write(&filter["typed_config"]).expect("the file of the filter");
        *filter = json!({"name": "taskfence", "config_discovery": {
            "config_source": {"path_config_source": {"path": self.0}, "resource_api_version": "V3"},
            "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"]
        }});
    }

    /// Replaces `from` by `to` in the configuration of the filter, and waits until `sidecar` has taken it.
    pub async fn replace(&self, sidecar: &Sidecar, from: &str, to: &str) -> Result<()> {
        let text = std::fs::read_to_string(&self.0).map_err(Error::doing(self.0.display()))?;
        let extension: Value = serde_json::from_str(&text).map_err(Error::doing(self.0.display()))?;
        let mut filter = extension["resources"][0]["typed_config"].clone();
        let config = &mut filter["config"]["configuration"]["value"];
        *config = json!(config.as_str().unwrap_or_default().replace(from, to));
        let name = "extension_config_discovery.http_filter.taskfence.config_reload";
        let loaded = sidecar.envoy().stats().await?.value(name)?;
        self.write(&filter)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while sidecar.envoy().stats().await?.value(name)? == loaded {
            if Instant::now() > deadline {
                return Err(Error::new(format!("no new configuration:\n{}", sidecar.envoy().log())));
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// As one change: Envoy looks when a file is moved to its place.
    fn write(&self, filter: &Value) -> Result<()> {
        let text = json!({"version_info": unique("version"), "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "taskfence", "typed_config": filter
        }]});
        let aside: &Path = &self.0.with_extension("new");
        std::fs::write(aside, text.to_string()).map_err(Error::doing(aside.display()))?;
        std::fs::rename(aside, &self.0).map_err(Error::doing(self.0.display()))
    }
}
