//! Effects as text for people: what there is, records instead of bytes, and no values, which are users' data.

use std::fmt::{Debug, Formatter, Result};

use super::{Effects, LocalJob, Outgoing, Write};
use crate::contract::{Change, Space};
use crate::record::{Record, read_value};

/// Only what there is to do is shown.
impl Debug for Effects {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self {
            retries,
            writes,
            forget,
            frames,
            acks,
            output,
            opened,
            closed,
            stopped,
            troubles,
            peer_troubles,
            long_journal,
            lacking,
            calls: _,
        } = self;
        let fields: [(&str, bool, &dyn Debug); 13] = [
            ("retries", !retries.is_empty(), retries),
            ("writes", !writes.is_empty(), writes),
            ("forget", forget.is_some(), forget),
            ("frames", !frames.is_empty(), frames),
            ("acks", !acks.is_empty(), acks),
            ("output", output.is_some(), output),
            ("opened", *opened, opened),
            ("closed", closed.is_some(), closed),
            ("stopped", stopped.is_some(), stopped),
            ("troubles", troubles.is_some(), troubles),
            ("peer_troubles", peer_troubles.is_some(), peer_troubles),
            ("long_journal", long_journal.is_some(), long_journal),
            ("lacking", !lacking.is_empty(), lacking),
        ];
        let mut shown = f.debug_struct("Effects");
        for (name, _, value) in fields.into_iter().filter(|(_, is_there, _)| *is_there) {
            shown.field(name, value);
        }
        shown.finish()
    }
}

impl Debug for Write {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { number, changes, local, urgent } = self;
        let changes: Vec<_> = changes.iter().map(ShownChange).collect();
        let mut shown = f.debug_struct("Write");
        shown.field("number", number).field("changes", &changes).field("urgent", urgent);
        if let Some(job) = local {
            shown.field("local", job);
        }
        shown.finish()
    }
}

/// A change, with the record that it writes in place of that record's bytes.
struct ShownChange<'a>(&'a Change);

impl Debug for ShownChange<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Change { space, key, value } = self.0;
        match value.as_ref().map(|value| (value.len(), read_value::<Record>(*space, value))) {
            Some((_, Ok(record))) if *space == Space::Journal => record.fmt(f),
            Some((bytes, _)) => write!(f, "{bytes} bytes in `{space}`"),
            None => write!(f, "removes a key of {} bytes in `{space}`", key.len()),
        }
    }
}

impl Debug for LocalJob {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { path, name, kind, input, order, compensates, .. } = self;
        let mut shown = f.debug_struct("LocalJob");
        shown.field("path", path).field("name", name).field("kind", kind).field("input", input).field("order", order);
        shown.field("compensates", compensates).finish_non_exhaustive()
    }
}

/// The header is long, and the same in all frames of a session.
impl Debug for Outgoing {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { key, node, frame } = self;
        let mut shown = f.debug_struct("Outgoing");
        shown.field("key", key).field("node", node).field("body", &frame.body);
        shown.field("with_header", &frame.header.is_some()).finish()
    }
}
