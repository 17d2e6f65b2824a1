//! Which events are about which grants.

use crate::evidence::model::EventRow;
use std::collections::HashSet;
use taskfence_core::uses::batch::GrantInfo;

/// What some grants are called.
#[derive(Debug, Default)]
pub struct Subjects {
    /// Tokens, each with its issuer.
    pub tokens: HashSet<(String, String)>,
    /// Tasks, each with its issuer.
    pub tasks: HashSet<(String, String)>,
    /// Sessions, each with its issuer.
    pub sessions: HashSet<(String, String)>,
    /// Users, each with their issuer.
    pub subjects: HashSet<(String, String)>,
    /// Clients, each with its issuer.
    pub clients: HashSet<(String, String)>,
    /// Issuers, users and clients that belong together.
    pairs: HashSet<(String, String, String)>,
}

impl Subjects {
    /// Adds a grant.
    pub fn add(&mut self, grant: &GrantInfo) {
        let of = |name: &str| (grant.issuer.clone(), name.to_owned());
        self.tokens.insert(of(&grant.token));
        self.tasks.extend(grant.task.as_deref().map(of));
        self.sessions.extend(grant.session.as_deref().map(of));
        self.subjects.insert(of(&grant.subject));
        if let Some(client) = &grant.client {
            self.clients.insert(of(client));
            self.pairs.insert((grant.issuer.clone(), grant.subject.clone(), client.clone()));
        }
    }

    /// Whether the event is about one of them: see `EvidenceStore::find`.
    pub fn include(&self, event: &EventRow) -> bool {
        let of = |name: &String| (event.issuer.clone(), name.clone());
        match event {
            EventRow { token: Some(token), .. } => self.tokens.contains(&of(token)),
            EventRow { task: Some(task), .. } => self.tasks.contains(&of(task)),
            EventRow { session: Some(session), .. } => self.sessions.contains(&of(session)),
            EventRow { subject: Some(subject), client: Some(client), .. } => {
                self.pairs.contains(&(event.issuer.clone(), subject.clone(), client.clone()))
            }
            EventRow { subject: Some(subject), .. } => self.subjects.contains(&of(subject)),
            EventRow { client: Some(client), .. } => self.clients.contains(&of(client)),
            _ => false,
        }
    }
}
