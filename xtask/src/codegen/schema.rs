//! The YAML of the registry as it is written: OpenTelemetry's semantic-convention format, of
//! which only the parts in use are accepted. Meaning is given to it in `registry`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_norway::Value;
use serde_norway::with::singleton_map;

/// `registry_manifest.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "name")]
    pub _name: String,
    #[serde(rename = "description")]
    pub _description: String,
    #[serde(rename = "semconv_version")]
    pub _semconv_version: String,
    pub dependencies: Vec<Dependency>,
}

/// A registry that this one takes names from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub name: String,
    pub version: String,
    pub schema_url: String,
}

/// Any other file. Groups stay values, so that an error can name the group it is in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub groups: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupType {
    AttributeGroup,
    Span,
    Metric,
    Event,
    Entity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub id: String,
    pub r#type: GroupType,
    pub brief: String,
    pub stability: Option<Stability>,
    pub extends: Option<String>,
    pub span_kind: Option<SpanKind>,
    pub metric_name: Option<String>,
    pub instrument: Option<Instrument>,
    pub unit: Option<String>,
    #[serde(default)]
    pub annotations: Annotations,
    #[serde(default)]
    pub attributes: Vec<Value>,
}

/// An entry of `attributes`: a definition (`id`) or a use (`ref`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeEntry {
    pub id: Option<String>,
    pub r#ref: Option<String>,
    pub r#type: Option<AttributeType>,
    pub stability: Option<Stability>,
    pub brief: Option<String>,
    #[serde(default)]
    pub examples: Vec<Value>,
    #[serde(default, deserialize_with = "optional_level")]
    pub requirement_level: Option<RequirementLevel>,
    #[serde(default)]
    pub annotations: Annotations,
}

fn optional_level<'de, D: Deserializer<'de>>(d: D) -> Result<Option<RequirementLevel>, D::Error> {
    singleton_map::deserialize(d).map(Some)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stability {
    Development,
    Stable,
}

/// The spans of llama.cpp are all internal: it neither serves nor calls anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanKind {
    Internal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instrument {
    Counter,
    UpDownCounter,
    Histogram,
    Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequirementLevel {
    Required,
    ConditionallyRequired(String),
    Recommended,
    OptIn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ScalarType {
    #[serde(rename = "string")]
    String,
    #[serde(rename = "int")]
    Int,
    #[serde(rename = "double")]
    Double,
    #[serde(rename = "boolean")]
    Boolean,
    #[serde(rename = "string[]")]
    StringArray,
}

/// `type: int`, or `type: { members: […] }` for a closed set of strings.
#[derive(Debug)]
pub enum AttributeType {
    Scalar(ScalarType),
    Members(Vec<Member>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    pub id: String,
    pub value: String,
    pub brief: String,
    #[serde(rename = "stability")]
    pub _stability: Stability,
}

impl<'de> Deserialize<'de> for AttributeType {
    // An untagged enum would only say "did not match any variant".
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct TypeVisitor;

        impl<'de> Visitor<'de> for TypeVisitor {
            type Value = AttributeType;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a type name or a map with `members`")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<AttributeType, E> {
                ScalarType::deserialize(de::value::StrDeserializer::new(name)).map(AttributeType::Scalar)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AttributeType, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Members {
                    members: Vec<Member>,
                }
                Members::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|m| AttributeType::Members(m.members))
            }
        }

        d.deserialize_any(TypeVisitor)
    }
}

/// Extensions, which the format allows under `annotations`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    pub code_generation: Option<CodeGeneration>,
    #[serde(default)]
    pub llama_otel: LlamaOtel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeGeneration {
    pub metric_value_type: ValueType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    Int,
    Double,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaOtel {
    /// The section of the reference page.
    pub area: Option<Area>,
    /// The detail level from which a span or a metric is recorded.
    pub detail: Option<Detail>,
    /// The name in the original plan: an attribute key, a span or a macro.
    pub plan: Option<String>,
    /// Bucket boundaries of a histogram.
    #[serde(default)]
    pub buckets: Vec<f64>,
    /// What bounds the values of an open attribute that a metric uses.
    pub bounded_by: Option<String>,
    #[serde(default)]
    pub status: Status,
    /// Why no test of this project can see it exported: the hardware or the tree that it needs.
    pub unseen: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    Model,
    Context,
    Inference,
    State,
    Memory,
    Backend,
    Errors,
    #[serde(rename = "self")]
    SelfTelemetry,
}

/// Values of `LLAMA_OTEL_DETAIL` at which something is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    Metrics,
    Request,
    Decode,
    Op,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Exported today.
    #[default]
    Live,
    /// Named here, not exported yet.
    Planned,
}
