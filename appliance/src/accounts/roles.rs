//! What who may do: one table, without a default, so that nothing new is allowed by being forgotten.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::control::Request;

/// What somebody may do. Each may do what those before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees everything but secrets, changes nothing.
    Viewer,
    /// Makes snapshots, restores, sends, pauses: what keeps an office going, and nothing that loses data.
    Operator,
    /// Everything that the box allows to anybody but its console.
    Administrator,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Administrator];

    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whoever has this role, or a higher one.
    Role(Role),
    /// Nobody through the page: root at the box itself.
    Console,
}

impl Right {
    /// True where somebody with a role may.
    pub fn allows(self, role: Role) -> bool {
        matches!(self, Right::Role(needed) if role >= needed)
    }
}

/// Who may ask for what.
pub fn right(request: &Request) -> Right {
    use Request as R;
    match request {
        R::Status
        | R::DatasetList
        | R::DatasetListDeleted
        | R::SnapshotList { .. }
        | R::SnapshotListDeleted { .. }
        | R::Freeable { again: false }
        | R::LockList
        | R::Window { seconds: None, bytes: None, off: false, .. }
        | R::Timeline { .. }
        | R::Diff { .. }
        | R::PeerList
        | R::PeerAddresses { change: None, .. }
        | R::PeerRefusals
        | R::ReplicationList
        | R::ReplicationShow { .. }
        | R::PlanList
        | R::RetentionShow { .. }
        | R::RetentionSet { dry_run: true, .. }
        | R::RetentionList
        | R::LimitExplain { .. }
        | R::ScrubShow
        | R::SettingList
        | R::NetworkShow
        | R::CertificateShow
        | R::Trends { .. }
        | R::CheckShow
        | R::ReclaimShow
        | R::Reclaim { dry_run: true } => Right::Role(Role::Viewer),
        R::Limit { rate: None, seconds: None, calendar: None, resume: false, as_configured: false, .. } => {
            Right::Role(Role::Viewer)
        }

        // What keeps an office going, and takes nothing away that was kept.
        R::SnapshotCreate { .. }
        | R::SnapshotHold { held: true, .. }
        | R::SnapshotUndelete { .. }
        | R::DatasetUndelete { .. }
        | R::Freeable { again: true }
        | R::FreeableBegin
        | R::Log { .. }
        | R::Mark { .. }
        | R::Thaw { .. }
        | R::Clone { .. }
        | R::Replicate { .. }
        | R::ReplicationCancel { .. }
        | R::PlanPause { .. }
        | R::Limit { .. }
        | R::Probe { .. }
        | R::ScrubStart
        | R::ScrubPause { .. }
        | R::ScrubHeal
        | R::Check { .. }
        | R::CheckBegin { .. }
        | R::LossAccept { .. } => Right::Role(Role::Operator),

        R::ShareCreate { .. }
        | R::VolumeCreate { .. }
        | R::VolumeResize { .. }
        | R::DatasetDelete { .. }
        | R::SnapshotDelete { .. }
        | R::SnapshotHold { held: false, .. }
        | R::SnapshotLock { .. }
        | R::LockSet { .. }
        | R::Window { .. }
        | R::Rewind { .. }
        | R::PeerInvite { .. }
        | R::PeerJoin { .. }
        | R::PeerAddresses { change: Some(_), .. }
        | R::PeerRemove { .. }
        | R::PlanSet { .. }
        | R::PlanRemove { .. }
        | R::RetentionSet { .. }
        | R::RetentionRemove { .. }
        | R::Reclaim { dry_run: false }
        | R::ReclaimBegin
        // What the audit log says is in it.
        | R::DiskList
        | R::NoticeList
        | R::NoticeTest { .. }
        | R::SettingSet { .. }
        | R::SetUpShow
        | R::SetUpType { .. }
        | R::SetUpApply { .. }
        | R::SetUpTest
        | R::CertificateOrder
        | R::NetworkSet { .. }
        | R::NetworkConfirm { .. }
        | R::NetworkRevert { .. }
        | R::AccountList
        | R::AccountAdd { .. }
        | R::AccountRemove { .. }
        | R::Audit { .. }
        | R::Restart
        | R::Stop => Right::Role(Role::Administrator),

        // What whoever has the box itself needs when nobody can sign in.
        R::AccountClaim | R::AccountReset { .. } => Right::Console,
        // It writes where it is told to on the box's own disks, with the box's rights.
        R::Restore { .. } => Right::Console,
        R::QuarantineEmpty { dry_run: true, .. } => Right::Role(Role::Viewer),
        R::QuarantineEmpty { dry_run: false, .. } => Right::Console,
    }
}

/// True where a request only looks: such are not in the audit log.
pub fn only_looks(request: &Request) -> bool {
    use Request as R;
    right(request) == Right::Role(Role::Viewer)
        || matches!(
            request,
            R::AccountList
                | R::Audit { .. }
                | R::Log { .. }
                | R::DiskList
                | R::NoticeList
                | R::SetUpShow
                | R::SetUpType { .. }
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_those_before_it_may() {
        let look = right(&Request::Status);
        let snapshot = right(&Request::SnapshotCreate { dataset: "a".into(), name: None });
        let delete = right(&Request::DatasetDelete { name: "a".into() });
        let table = [(look, [true, true, true]), (snapshot, [false, true, true]), (delete, [false, false, true])];
        for (right, allowed) in table {
            assert_eq!(Role::ALL.map(|role| right.allows(role)), allowed, "{right:?}");
        }
        for console in [
            Request::Restore { source: "a".into(), dest: "/etc".into() },
            Request::QuarantineEmpty { what: None, dry_run: false },
        ] {
            assert!(!right(&console).allows(Role::Administrator), "{console:?}");
        }
    }

    #[test]
    fn a_role_has_one_name() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
            assert_eq!(serde_json::to_value(role).expect("a role"), role.name());
            assert_eq!(role.to_possible_value().expect("no hidden one").get_name(), role.name());
        }
        assert_eq!(Role::named("Viewer"), None);
    }

    #[test]
    fn a_question_that_changes_something_is_no_look() {
        let window = |off| Request::Window { dataset: "a".into(), seconds: None, bytes: None, off };
        assert!(only_looks(&window(false)) && !only_looks(&window(true)));
        let limit = |rate: Option<&str>, resume| Request::Limit {
            peer: None,
            rate: rate.map(str::to_owned),
            seconds: None,
            calendar: None,
            resume,
            as_configured: false,
            receive: true,
        };
        assert!(
            only_looks(&limit(None, false))
                && !only_looks(&limit(None, true))
                && !only_looks(&limit(Some("1Mbit"), false))
        );
    }
}
