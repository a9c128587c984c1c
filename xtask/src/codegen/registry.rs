//! The registry, understood: definitions and uses are joined, groups are sorted. What the names
//! may be is not decided here but in `lint`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_norway::Value;

use super::schema::{
    Annotations, Area, AttributeEntry, AttributeType, Detail, File, Group, GroupType, Instrument, Manifest, Member,
    RequirementLevel, ScalarType, Status, ValueType,
};

/// The file that pins the conventions; all others hold groups.
pub const MANIFEST: &str = "registry_manifest.yaml";

/// The text of one file of the registry.
pub struct Source {
    pub file: String,
    pub text: String,
}

/// Where something stands: the file, and the id of the group or attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub file: String,
    pub id: String,
}

/// Something wrong in the registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

impl Problem {
    pub fn new(origin: &Origin, message: impl Into<String>) -> Self {
        Self { origin: origin.clone(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.origin.id.is_empty() {
            write!(f, "{}: {}", self.origin.file, self.message)
        } else {
            write!(f, "{}: `{}`: {}", self.origin.file, self.origin.id, self.message)
        }
    }
}

/// All that is exported, by name.
#[derive(Debug, Default)]
pub struct Registry {
    /// Version and schema URL of the OpenTelemetry conventions that the names follow.
    pub semconv_version: String,
    pub schema_url: String,
    pub attributes: BTreeMap<String, Attribute>,
    pub metrics: BTreeMap<String, Metric>,
    pub spans: BTreeMap<String, Span>,
    /// Events of spans; those with a severity are records of the log as well.
    pub events: BTreeMap<String, Event>,
    /// Attributes of the process as a whole.
    pub resource: Vec<Use>,
}

#[derive(Debug)]
pub struct Attribute {
    pub origin: Origin,
    /// Brief of the group that defines it: the heading in the reference page.
    pub section: String,
    pub kind: ScalarType,
    /// The closed set of values; empty if the attribute is open.
    pub members: Vec<Member>,
    /// Whether it was written as a set, so that an empty one can be told from an open attribute.
    pub closed: bool,
    pub brief: String,
    pub examples: Vec<String>,
    pub plan: Option<String>,
    pub bounded_by: Option<String>,
    /// Why no test can see it exported, by anything.
    pub unseen: Option<String>,
}

/// An attribute's use by a span, a metric or the resource.
#[derive(Debug, Clone)]
pub struct Use {
    pub key: String,
    pub level: RequirementLevel,
    /// Why no test can see it exported here.
    pub unseen: Option<String>,
}

#[derive(Debug)]
pub struct Metric {
    pub origin: Origin,
    pub area: Area,
    pub instrument: Instrument,
    pub unit: String,
    pub value: ValueType,
    pub brief: String,
    pub buckets: Vec<f64>,
    pub detail: Detail,
    pub plan: Option<String>,
    pub status: Status,
    pub unseen: Option<String>,
    pub attributes: Vec<Use>,
}

#[derive(Debug)]
pub struct Event {
    pub origin: Origin,
    pub brief: String,
    pub status: Status,
    pub unseen: Option<String>,
    pub attributes: Vec<Use>,
}

#[derive(Debug)]
pub struct Span {
    pub origin: Origin,
    pub area: Area,
    pub brief: String,
    pub detail: Detail,
    pub plan: Option<String>,
    pub status: Status,
    pub unseen: Option<String>,
    pub attributes: Vec<Use>,
}

impl Registry {
    /// Whether the attribute is exported only if its own switch asks for it.
    pub fn is_opt_in(&self, key: &str) -> bool {
        self.uses().any(|u| u.key == key && u.level == RequirementLevel::OptIn)
    }

    /// Every use of an attribute.
    pub fn uses(&self) -> impl Iterator<Item = &Use> {
        let metrics = self.metrics.values().flat_map(|m| &m.attributes);
        let spans = self.spans.values().flat_map(|s| &s.attributes);
        let events = self.events.values().flat_map(|e| &e.attributes);
        metrics.chain(spans).chain(events).chain(&self.resource)
    }
}

/// Reads the files. The registry is complete only if there are no problems.
pub fn load(sources: &[Source]) -> (Registry, Vec<Problem>) {
    let mut loader = Loader::default();
    let mut groups = Vec::new();
    let mut has_manifest = false;
    for source in sources {
        if source.file == MANIFEST {
            has_manifest = true;
            loader.read_manifest(source);
        } else {
            groups.extend(loader.read_groups(source));
        }
    }
    if !has_manifest {
        loader.problem(&origin(MANIFEST, ""), "missing; it pins the conventions' version");
    }
    loader.reject_duplicate_groups(&groups);
    for group in &mut groups {
        loader.define_attributes(group);
    }
    loader.add_groups(&groups);
    (loader.registry, loader.problems)
}

fn origin(file: &str, id: &str) -> Origin {
    Origin { file: file.into(), id: id.into() }
}

/// A group with its attributes read.
struct Parsed {
    origin: Origin,
    group: Group,
    uses: Vec<Use>,
    definitions: Vec<AttributeEntry>,
}

#[derive(Default)]
struct Loader {
    registry: Registry,
    problems: Vec<Problem>,
}

impl Loader {
    fn problem(&mut self, origin: &Origin, message: impl Into<String>) {
        self.problems.push(Problem::new(origin, message));
    }

    fn read_manifest(&mut self, source: &Source) {
        let at = origin(&source.file, "");
        match serde_norway::from_str::<Manifest>(&source.text) {
            Ok(manifest) => match manifest.dependencies.into_iter().find(|d| d.name == "otel") {
                Some(otel) => {
                    self.registry.semconv_version = otel.version;
                    self.registry.schema_url = otel.schema_url;
                }
                None => self.problem(&at, "no dependency named `otel`"),
            },
            Err(e) => self.problem(&at, e.to_string()),
        }
    }

    fn read_groups(&mut self, source: &Source) -> Vec<Parsed> {
        let file = match serde_norway::from_str::<File>(&source.text) {
            Ok(file) => file,
            Err(e) => {
                self.problem(&origin(&source.file, ""), e.to_string());
                return Vec::new();
            }
        };
        let mut parsed = Vec::new();
        for (index, value) in file.groups.into_iter().enumerate() {
            let id = name_of(&value, &["id"]).unwrap_or_else(|| format!("groups[{index}]"));
            let at = origin(&source.file, &id);
            match serde_norway::from_value::<Group>(value) {
                Ok(group) => parsed.push(self.read_attributes(at, group)),
                Err(e) => self.problem(&at, e.to_string()),
            }
        }
        parsed
    }

    fn read_attributes(&mut self, at: Origin, mut group: Group) -> Parsed {
        let mut uses = Vec::new();
        let mut definitions = Vec::new();
        for (index, value) in std::mem::take(&mut group.attributes).into_iter().enumerate() {
            let name = name_of(&value, &["id", "ref"]).unwrap_or_else(|| format!("attributes[{index}]"));
            let entry = match serde_norway::from_value::<AttributeEntry>(value) {
                Ok(entry) => entry,
                Err(e) => {
                    self.problem(&at, format!("attribute `{name}`: {e}"));
                    continue;
                }
            };
            match (&entry.id, &entry.r#ref) {
                (Some(_), None) if group.r#type == GroupType::AttributeGroup => {
                    definitions.push(entry);
                }
                (Some(_), None) => {
                    self.problem(
                        &at,
                        format!("attribute `{name}`: define it in an attribute_group and use `ref` here"),
                    );
                }
                (None, Some(key)) => match entry.requirement_level {
                    Some(level) => {
                        let unseen = entry.annotations.llama_otel.unseen.clone();
                        uses.push(Use { key: key.clone(), level, unseen });
                    }
                    None => self.problem(&at, format!("attribute `{name}`: no requirement_level")),
                },
                _ => self.problem(&at, format!("attribute `{name}`: needs one of `id` and `ref`")),
            }
        }
        Parsed { origin: at, group, uses, definitions }
    }

    fn reject_duplicate_groups(&mut self, groups: &[Parsed]) {
        let mut seen = BTreeSet::new();
        for parsed in groups {
            if !seen.insert(&parsed.group.id) {
                self.problem(&parsed.origin, "this id is taken by another group");
            }
        }
    }

    fn define_attributes(&mut self, parsed: &mut Parsed) {
        for entry in std::mem::take(&mut parsed.definitions) {
            let Some(key) = entry.id else { continue };
            let at = origin(&parsed.origin.file, &key);
            let (Some(kind), Some(brief), Some(_)) = (entry.r#type, entry.brief, entry.stability) else {
                self.problem(&at, "needs `type`, `brief` and `stability`");
                continue;
            };
            let (kind, members, closed) = match kind {
                AttributeType::Scalar(kind) => (kind, Vec::new(), false),
                AttributeType::Members(members) => (ScalarType::String, members, true),
            };
            let attribute = Attribute {
                origin: at.clone(),
                section: parsed.group.brief.clone(),
                kind,
                members,
                closed,
                brief,
                examples: entry.examples.iter().map(show_value).collect(),
                plan: entry.annotations.llama_otel.plan,
                bounded_by: entry.annotations.llama_otel.bounded_by,
                unseen: entry.annotations.llama_otel.unseen,
            };
            if self.registry.attributes.insert(key, attribute).is_some() {
                self.problem(&at, "this attribute is defined twice");
            }
        }
    }

    fn add_groups(&mut self, groups: &[Parsed]) {
        let bases: BTreeMap<&str, &Parsed> = groups
            .iter()
            .filter(|p| p.group.r#type == GroupType::AttributeGroup)
            .map(|p| (p.group.id.as_str(), p))
            .collect();

        for parsed in groups {
            let mut attributes = Vec::new();
            if let Some(base) = &parsed.group.extends {
                match bases.get(base.as_str()) {
                    Some(base) if base.group.extends.is_none() => {
                        attributes.extend(base.uses.iter().cloned());
                    }
                    Some(_) => self.problem(
                        &parsed.origin,
                        format!("extends `{base}`, which itself extends a group; one step only"),
                    ),
                    None => self.problem(&parsed.origin, format!("extends `{base}`, which is no attribute_group")),
                }
            }
            attributes.extend(parsed.uses.iter().cloned());
            self.check_uses(&parsed.origin, &attributes);

            match parsed.group.r#type {
                GroupType::AttributeGroup => {}
                GroupType::Entity => self.registry.resource.extend(attributes),
                GroupType::Metric => self.add_metric(parsed, attributes),
                GroupType::Span => self.add_span(parsed, attributes),
                GroupType::Event => self.add_event(parsed, attributes),
            }
        }
    }

    fn check_uses(&mut self, at: &Origin, uses: &[Use]) {
        let mut seen = BTreeSet::new();
        for u in uses {
            if !self.registry.attributes.contains_key(&u.key) {
                self.problem(at, format!("refers to `{}`, which no file defines", u.key));
            }
            if !seen.insert(&u.key) {
                self.problem(at, format!("refers to `{}` twice", u.key));
            }
        }
    }

    fn add_metric(&mut self, parsed: &Parsed, attributes: Vec<Use>) {
        let Parsed { origin: at, group, .. } = parsed;
        let Annotations { code_generation, llama_otel } = &group.annotations;
        let (Some(name), Some(instrument), Some(unit), Some(_), Some(value), Some(area)) = (
            &group.metric_name,
            group.instrument,
            &group.unit,
            group.stability,
            code_generation.as_ref().map(|c| c.metric_value_type),
            llama_otel.area,
        ) else {
            self.problem(at, "a metric needs `metric_name`, `instrument`, `unit`, `stability`, and the annotations `code_generation.metric_value_type` and `llama_otel.area`");
            return;
        };
        if group.id != format!("metric.{name}") {
            self.problem(at, format!("the id must be `metric.{name}`"));
        }
        let metric = Metric {
            origin: at.clone(),
            area,
            instrument,
            unit: unit.clone(),
            value,
            brief: group.brief.clone(),
            buckets: llama_otel.buckets.clone(),
            detail: llama_otel.detail.unwrap_or(Detail::Metrics),
            plan: llama_otel.plan.clone(),
            status: llama_otel.status,
            unseen: llama_otel.unseen.clone(),
            attributes,
        };
        if self.registry.metrics.insert(name.clone(), metric).is_some() {
            self.problem(at, format!("the metric `{name}` is defined twice"));
        }
    }

    fn add_span(&mut self, parsed: &Parsed, attributes: Vec<Use>) {
        let Parsed { origin: at, group, .. } = parsed;
        let own = &group.annotations.llama_otel;
        let Some(name) = group.id.strip_prefix("span.") else {
            self.problem(at, "a span's id is `span.` and the span's name");
            return;
        };
        let (Some(_), Some(_), Some(detail), Some(area)) = (group.span_kind, group.stability, own.detail, own.area)
        else {
            self.problem(
                at,
                "a span needs `span_kind`, `stability`, and the annotations `llama_otel.detail` and `.area`",
            );
            return;
        };
        let span = Span {
            origin: at.clone(),
            area,
            brief: group.brief.clone(),
            detail,
            plan: own.plan.clone(),
            status: own.status,
            unseen: own.unseen.clone(),
            attributes,
        };
        self.registry.spans.insert(name.to_owned(), span);
    }

    fn add_event(&mut self, parsed: &Parsed, attributes: Vec<Use>) {
        let Parsed { origin: at, group, .. } = parsed;
        let (Some(name), Some(_)) = (group.id.strip_prefix("event."), group.stability) else {
            self.problem(at, "an event's id is `event.` and the event's name, and it needs `stability`");
            return;
        };
        let own = &group.annotations.llama_otel;
        let event = Event {
            origin: at.clone(),
            brief: group.brief.clone(),
            status: own.status,
            unseen: own.unseen.clone(),
            attributes,
        };
        self.registry.events.insert(name.to_owned(), event);
    }
}

/// The first of `keys` that the mapping has as a string.
fn name_of(value: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| value.get(*key)?.as_str().map(str::to_owned))
}

fn show_value(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Sequence(items) => {
            format!("[{}]", items.iter().map(show_value).collect::<Vec<_>>().join(", "))
        }
        other => serde_norway::to_string(other).unwrap_or_default().trim().to_owned(),
    }
}
