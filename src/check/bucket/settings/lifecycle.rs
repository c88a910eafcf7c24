//! The rules of a bucket's lifecycle, as far as they remove something.

use xml::reader::XmlEvent;

/// A rule that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule {
    pub(super) id: String,
    prefix: String,
    /// It has a condition on tags or sizes, which checkpoints may not meet.
    is_narrowed: bool,
    /// It removes objects, not only versions.
    pub(super) expires_current: bool,
    /// It removes what was replaced so many days ago.
    pub(super) noncurrent_days: Option<u32>,
}

impl Rule {
    /// Whether it holds for everything below this folder.
    pub(super) fn covers(&self, folder: &str) -> bool {
        folder.starts_with(&self.prefix) && !self.is_narrowed
    }
}

/// Those that are enabled.
///
/// # Errors
/// Why the document cannot be read.
pub(super) fn rules(document: &str) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut rule = Rule::default();
    let mut is_enabled = false;
    for event in xml::EventReader::from_str(document) {
        match event.map_err(|error| error.to_string())? {
            XmlEvent::StartElement { name, .. } => {
                path.push(name.local_name);
                match below_rule(&path).as_deref() {
                    Some("") => (rule, is_enabled) = (Rule::default(), false),
                    Some(
                        "Filter/Tag"
                        | "Filter/ObjectSizeGreaterThan"
                        | "Filter/ObjectSizeLessThan"
                        | "Filter/And/Tag"
                        | "Filter/And/ObjectSizeGreaterThan"
                        | "Filter/And/ObjectSizeLessThan",
                    ) => rule.is_narrowed = true,
                    _ => {}
                }
            }
            XmlEvent::Characters(text) => match below_rule(&path).as_deref() {
                Some("ID") => rule.id = text,
                Some("Status") => is_enabled = text == "Enabled",
                Some("Prefix" | "Filter/Prefix" | "Filter/And/Prefix") => rule.prefix = text,
                Some("Expiration/Days" | "Expiration/Date") => rule.expires_current = true,
                Some("NoncurrentVersionExpiration/NoncurrentDays") => {
                    rule.noncurrent_days = text.trim().parse().ok();
                }
                _ => {}
            },
            XmlEvent::EndElement { .. } => {
                if below_rule(&path).as_deref() == Some("") && is_enabled {
                    rules.push(std::mem::take(&mut rule));
                }
                path.pop();
            }
            _ => {}
        }
    }
    Ok(rules)
}

/// `LifecycleConfiguration/Rule/Filter/Prefix`: `Filter/Prefix`; `None`: outside of a rule.
fn below_rule(path: &[String]) -> Option<String> {
    match path {
        [root, rule, below @ ..] if root == "LifecycleConfiguration" && rule == "Rule" => {
            Some(below.join("/"))
        }
        _ => None,
    }
}
