//! What all services share: the platform, the module, and the configuration without their rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use taskfence_core::config::load;
use taskfence_core::config::problem::Problem;

use crate::input::document;
use crate::rendering::catalogue::Catalogue;

/// The base, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// What the resources are for.
    pub platform: Platform,
    /// Where the module comes from. Every platform but `plain` needs it.
    #[serde(default)]
    pub module: Option<Module>,
    /// The configuration of the filter that all services share, without `rules`. A text may contain `${service}`,
    /// `${namespace}` and the names in `vars`.
    pub configuration: Map<String, Value>,
    /// Rules that every service has.
    #[serde(default)]
    pub rules: SharedRules,
    /// What the issuers grant. Without it, rules are not compared with it.
    #[serde(default)]
    pub grants: Option<Catalogue>,
    /// Texts for `${NAME}`. A service may replace them.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Labels of every resource.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What resources are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Istio 1.30 and later: `TrafficExtension`.
    Istio,
    /// Istio before 1.30: `WasmPlugin`.
    IstioWasmPlugin,
    /// Envoy Gateway: `EnvoyExtensionPolicy`.
    EnvoyGateway,
    /// The text of the plugin's configuration alone.
    Plain,
}

/// An OCI image that has the module.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Such as `registry.example/taskfence:0.1.0`, without `oci://`.
    pub image: String,
    /// The SHA-256 of the image, 64 hexadecimal digits.
    pub sha256: String,
    /// The name of a secret with the credentials of the registry.
    #[serde(default)]
    pub pull_secret: Option<String>,
}

/// Rules around those of each service: the first rule that matches decides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedRules {
    /// Before those of the service.
    #[serde(default)]
    pub first: Vec<Value>,
    /// After those of the service.
    #[serde(default)]
    pub last: Vec<Value>,
}

impl Base {
    /// Reads the base, in YAML or JSON.
    pub fn read(text: &[u8]) -> Result<Base, Vec<Problem>> {
        let one = |problem| vec![problem];
        let json = document::to_json(text, "the base").map_err(one)?;
        let base: Base = load::parse(&json, "the base").map_err(one)?;
        let mut problems = Vec::new();
        if base.configuration.contains_key("rules") {
            let help = "move them to `rules.first` and `rules.last`: those of a service stand between them";
            problems.push(Problem::at("configuration.rules", "is not shared").help(help));
        }
        match (&base.module, base.platform) {
            (None, Platform::Plain) => {}
            (None, _) => {
                let help = "add `module: {image: registry.example/taskfence:VERSION, sha256: DIGEST}`";
                problems.push(Problem::at("module", "is missing").help(help));
            }
            (Some(module), _) => module.check(&mut problems),
        }
        if problems.is_empty() { Ok(base) } else { Err(problems) }
    }
}

impl Module {
    fn check(&self, problems: &mut Vec<Problem>) {
        let is_digest = self.sha256.len() == 64 && self.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_digest {
            let help =
                "write the 64 hexadecimal digits of the image's digest: a tag alone may be another module tomorrow";
            problems.push(Problem::at("module.sha256", "is no SHA-256").help(help));
        }
        if self.image.contains("://") || self.image.is_empty() {
            let help = "write host, path and tag alone, such as `registry.example/taskfence:0.1.0`";
            problems.push(Problem::at("module.image", "is no name of an image").help(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let read = |text: &str| Base::read(text.as_bytes()).map(drop).unwrap_err();
        let paths = |text| read(text).into_iter().map(|problem| problem.path).collect::<Vec<_>>();
        assert_eq!(paths("platform: plain\nconfiguration: {rules: []}\n"), ["configuration.rules"]);
        assert_eq!(paths("platform: istio\nconfiguration: {}\n"), ["module"]);
        let module = "platform: istio\nconfiguration: {}\nmodule: {image: 'oci://a/b', sha256: abc}\n";
        assert_eq!(paths(module), ["module.sha256", "module.image"]);
        assert_eq!(paths("platform: nomad\nconfiguration: {}\n"), ["platform"]);
        assert!(read("platform: plain\nconfiguration: {}\nrule: {}\n")[0].message.contains("rule"));
        assert!(Base::read(b"platform: plain\nconfiguration: {}\n").is_ok());
    }
}
