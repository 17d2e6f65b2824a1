//! Whether rules, headers and transmitters need a claim that an issuer declares absent.

use crate::config::model::Config;
use crate::config::problem::Problems;
use crate::rules::rule::Rule;
use crate::token::issuer::Issuer;

/// Reports what needs a claim that `issuers` have not.
pub(crate) fn check(_config: &Config, _rules: &[Rule], _issuers: &[Issuer], _problems: &mut Problems) {}
