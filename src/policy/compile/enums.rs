//! The words of a spec as the policy's own types.

use crate::crd::{ActorsSpec, AllowDenySpec, AskSpec, ModeSpec, OtherwiseSpec, ReentrySpec, StrategySpec};
use crate::policy::model::{Actors, AllowDeny, AskTerms, Mode, Reentry, Strategy};

impl From<ModeSpec> for Mode {
    fn from(spec: ModeSpec) -> Self {
        match spec {
            ModeSpec::Enforce => Self::Enforce,
            ModeSpec::Audit => Self::Audit,
        }
    }
}

impl From<ActorsSpec> for Actors {
    fn from(spec: ActorsSpec) -> Self {
        match spec {
            ActorsSpec::Exempt => Self::Exempt,
            ActorsSpec::Count => Self::Count,
        }
    }
}

impl From<AllowDenySpec> for AllowDeny {
    fn from(spec: AllowDenySpec) -> Self {
        match spec {
            AllowDenySpec::Allow => Self::Allow,
            AllowDenySpec::Deny => Self::Deny,
        }
    }
}

impl From<ReentrySpec> for Reentry {
    fn from(spec: ReentrySpec) -> Self {
        match spec {
            ReentrySpec::KeepPlace => Self::KeepPlace,
            ReentrySpec::CountOthers => Self::CountOthers,
        }
    }
}

impl From<StrategySpec> for Strategy {
    fn from(spec: StrategySpec) -> Self {
        match spec {
            StrategySpec::Deny => Self::Deny,
            StrategySpec::RevokeOldest => Self::RevokeOldest,
            StrategySpec::RevokeLeastRecentlyUsed => Self::RevokeLeastRecentlyUsed,
            StrategySpec::RevokeNextToExpire => Self::RevokeNextToExpire,
            StrategySpec::Ask => Self::Ask,
        }
    }
}

impl From<OtherwiseSpec> for Strategy {
    fn from(spec: OtherwiseSpec) -> Self {
        match spec {
            OtherwiseSpec::Deny => Self::Deny,
            OtherwiseSpec::RevokeOldest => Self::RevokeOldest,
            OtherwiseSpec::RevokeLeastRecentlyUsed => Self::RevokeLeastRecentlyUsed,
            OtherwiseSpec::RevokeNextToExpire => Self::RevokeNextToExpire,
        }
    }
}

impl From<AskSpec> for AskTerms {
    fn from(spec: AskSpec) -> Self {
        Self { require_mfa: spec.require_mfa, otherwise: spec.otherwise.into() }
    }
}
