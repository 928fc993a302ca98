//! Forced audit: the emergency switch for a limit that blocks the wrong logins. It makes policies audit, whatever their mode says.

use std::collections::BTreeMap;

use crate::policy::ObjectName;

/// The switches for forced audit, and who set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForcedAudit {
    /// Whether an option or a file of the service forces every policy.
    pub by_service: bool,
    /// The switch at the API server for every policy of the service; `None` when there is none. It replaces `by_file`: the file is
    /// the same switch, and arrives up to two minutes later.
    pub release: Option<AuditSwitch>,
    /// Whether the followed file forces every policy.
    pub by_file: bool,
    /// The switches at the API server for the policies of a namespace.
    pub namespaces: BTreeMap<String, AuditSwitch>,
}

/// A switch at the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSwitch {
    /// Whether it is on.
    pub is_on: bool,
    /// Which object it is and who wrote it, for people.
    pub source: String,
}

impl ForcedAudit {
    /// What forces every policy to audit, for people; `None` when nothing does.
    pub fn of_all(&self) -> Option<&str> {
        match &self.release {
            _ if self.by_service => Some("--force-audit"),
            Some(switch) => switch.is_on.then_some(&*switch.source),
            None => self.by_file.then_some("--force-audit-file"),
        }
    }

    /// What forces a policy to audit, for people; `None` when nothing does.
    pub fn of(&self, policy: &ObjectName) -> Option<&str> {
        let of_namespace = || self.namespaces.get(policy.namespace()).filter(|switch| switch.is_on);
        self.of_all().or_else(|| of_namespace().map(|switch| &*switch.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(is_on: bool) -> AuditSwitch {
        AuditSwitch { is_on, source: "ConfigMap".to_owned() }
    }

    #[test]
    fn switch_of_the_release_replaces_the_file() {
        let policy = ObjectName::new("team", "seats");
        for (by_file, release, expected) in [
            (false, None, None),
            (true, None, Some("--force-audit-file")),
            (true, Some(switch(false)), None),
            (false, Some(switch(true)), Some("ConfigMap")),
        ] {
            let forced = ForcedAudit { by_file, release, ..ForcedAudit::default() };
            assert_eq!((forced.of_all(), forced.of(&policy)), (expected, expected), "{forced:?}");
            let always = ForcedAudit { by_service: true, ..forced };
            assert_eq!(always.of(&policy), Some("--force-audit"));
        }
    }

    #[test]
    fn switch_of_a_namespace_concerns_its_policies() {
        let namespaces = [("team".to_owned(), switch(true)), ("other".to_owned(), switch(false))].into();
        let forced = ForcedAudit { namespaces, ..ForcedAudit::default() };
        assert_eq!(forced.of(&ObjectName::new("team", "seats")), Some("ConfigMap"));
        assert_eq!(forced.of(&ObjectName::new("other", "seats")), None);
        assert_eq!(forced.of_all(), None);
    }
}
