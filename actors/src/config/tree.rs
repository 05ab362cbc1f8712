//! The tree as text, for `accompanist check-config`.

use std::fmt;

use super::policy::{Policy, PolicyChange, Supervision};

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [period, min, max, reset_after] =
            [self.period, self.delay_min, self.delay_max, self.reset_after].map(humantime::format_duration);
        let (strategy, restarts) = (self.strategy.name(), self.restarts_max);
        let percent = self.jitter * 100.0;
        write!(
            f,
            "{strategy}, {restarts} restarts in {period} after {min} to {max} (+{percent:.0} %), \
             reset after {reset_after}"
        )
    }
}

/// Returns the deviations in the form they have in a file.
fn changes(change: &PolicyChange) -> String {
    // Numbers, words and times can always be written.
    let text = toml::to_string(change).unwrap_or_default();
    if text.is_empty() { "as it says itself".into() } else { text.trim_end().replace('\n', ", ") }
}

/// Writes one line for each place in the tree, with the policy that holds there.
impl fmt::Display for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut instances = vec![("every instance".to_owned(), format!("{}; then quarantine", self.instances))];
        let roles = self.roles.keys().map(|role| (format!("of role `{role}`"), self.of_instance("", role)));
        let choreographies = self.choreographies.keys();
        let choreographies =
            choreographies.map(|name| (format!("of choreography `{name}`"), self.of_instance(name, "")));
        instances.extend(roles.chain(choreographies).map(|(who, policy)| (who, policy.to_string())));
        let mut lines = vec![
            ("node".to_owned(), format!("{}; then the node stops", self.tree)),
            ("|- writer".into(), "a thread; if it or the store fails, the node stops".into()),
            (
                format!("{} link and roles", if self.groups.is_empty() { "`-" } else { "|-" }),
                "restarted together".into(),
            ),
        ];
        let (bar, last) = (if self.groups.is_empty() { " " } else { "|" }, instances.len() - 1);
        let branch = |index: usize, last: usize| if index == last { "`-" } else { "|-" };
        for (index, (who, what)) in instances.into_iter().enumerate() {
            lines.push((format!("{bar}  {} {who}", branch(index, last)), what));
        }
        for (index, (group, change)) in self.groups.iter().enumerate() {
            lines.push((format!("{} group `{group}`", branch(index, self.groups.len() - 1)), changes(change)));
        }
        let width = lines.iter().map(|(who, _)| who.chars().count()).max().unwrap_or_default();
        lines.iter().try_for_each(|(who, what)| writeln!(f, "{who:width$}  {what}"))
    }
}
