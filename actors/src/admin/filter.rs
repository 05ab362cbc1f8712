//! Which parts a [`SessionFilter`] fits: first by what the header of the session says, then by the part's state.

use accompanist_core::frame::Header;
use accompanist_core::id::InstanceId;

use super::reply::PartReply;
use super::request::SessionFilter;

impl SessionFilter {
    /// Whether a session with this header may fit, played here as `role`.
    pub(super) fn fits_header(&self, id: InstanceId, header: &Header, role: &str, unix_ms: u64) -> bool {
        let age_ms = unix_ms.saturating_sub(header.started_unix_ms);
        self.fits_id(id)
            && self.choreography.as_ref().is_none_or(|name| *name == header.choreography)
            && self.version.is_none_or(|version| version == header.version)
            && self.role.as_ref().is_none_or(|name| name == role)
            && self.cast.as_ref().is_none_or(|node| header.cast.iter().any(|cast| cast.as_str() == node))
            && (!self.initiator || header.initiator == id.role)
            && self.older_than_ms.is_none_or(|least| age_ms >= least)
    }

    /// Whether the beginning of the session's id fits.
    pub(super) fn fits_id(&self, id: InstanceId) -> bool {
        self.session.as_ref().is_none_or(|beginning| id.session.to_string().starts_with(&beginning.to_lowercase()))
    }

    /// Whether only the id is asked for, so that a part which cannot be read may fit.
    pub(super) fn fits_unreadable(&self, id: InstanceId) -> bool {
        let Self { choreography, version, role, cast, initiator, older_than_ms, .. } = self;
        let by_header = choreography.is_some() || version.is_some() || role.is_some() || cast.is_some() || *initiator;
        self.fits_id(id) && !by_header && older_than_ms.is_none()
    }

    /// Whether a part in this state fits.
    pub(super) fn fits_state(&self, part: &PartReply, unix_ms: u64) -> bool {
        let waited = |least: u64| {
            let since = part.waits.iter().filter_map(|wait| wait.since_unix_ms).min();
            since.is_some_and(|since| unix_ms.saturating_sub(since) >= least)
        };
        let troubled = |name: &String| part.steps.iter().any(|step| step.step == *name && step.last_error.is_some());
        (self.states.is_empty() || self.states.contains(&part.state))
            && (!self.in_trouble || part.state.needs_help())
            && self.waits_longer_than_ms.is_none_or(waited)
            && self.step.as_ref().is_none_or(troubled)
    }
}
