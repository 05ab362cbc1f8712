//! Every relative link leads to a file, and to a heading of it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{Page, documents, root};

/// The part of a link that names a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '-'));
    kept.map(|c| if c.is_whitespace() { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Where the page's links lead, and what its headings are called in links.
fn links_and_anchors(page: &Page) -> (Vec<String>, Vec<String>) {
    let (mut links, mut anchors, mut heading) = (Vec::new(), Vec::new(), None::<String>);
    for event in Parser::new_ext(&page.text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => links.push(dest_url.to_string()),
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => anchors.extend(heading.take().map(|text| anchor(&text))),
            Event::Text(text) | Event::Code(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
            _ => {}
        }
    }
    (links, anchors)
}

/// `docs/../core` as `core`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{} is outside of the workspace", path.display()),
            part => normal.push(part),
        }
    }
    normal
}

/// What is wrong with the links of these pages.
fn broken(pages: &[Page]) -> Vec<String> {
    let read: BTreeMap<PathBuf, _> = pages.iter().map(|page| (page.path.clone(), links_and_anchors(page))).collect();
    let mut broken = Vec::new();
    for page in pages {
        for link in read[&page.path].0.iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').map_or((&**link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { page.path.clone() } else { normal(&page.folder().join(file)) };
            let known =
                |heading| read.get(&target).is_none_or(|(_, anchors)| anchors.iter().any(|known| known == heading));
            if !(file.is_empty() || root().join(&target).exists()) || !heading.is_none_or(known) {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    broken
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = documents();
    let links: usize = pages.iter().map(|page| links_and_anchors(page).0.len()).sum();
    assert!(links > 100, "the links were not found");
    let broken = broken(&pages);
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn a_link_to_no_file_or_no_heading_is_found() {
    let text = "# A `b`, c!\n[1](#a-b-c) [2](#b) [3](README.md) [4](none.md) [5](https://a.example/none)\n```\n[6](none)\n```\n";
    let page = Page { path: "page.md".into(), text: text.into() };
    assert_eq!(broken(&[page]), ["page.md: #b", "page.md: none.md"]);
}
