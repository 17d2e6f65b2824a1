//! What the audit log says about a call, beside who made it.

use serde_json::Value;
use std::sync::{Arc, Mutex};

/// What a handler says that it was asked for: no secrets. Handlers find it in the extensions of the request.
#[derive(Debug, Clone, Default)]
pub struct Note(Arc<Mutex<Option<Value>>>);

impl Note {
    /// Sets what the audit log says.
    pub fn set(&self, detail: Value) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(detail);
    }

    /// Adds the signal that the call is about: the line is kept for as long as that has an effect.
    pub fn signal(&self, signal: u64) {
        let mut note = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Value::Object(members)) = &mut *note {
            members.insert("signal".to_owned(), signal.into());
        }
    }

    /// What was said.
    pub fn take(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}
