//! The objects of CMake's file API, as far as they are read here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Deserialize)]
pub struct Index {
    pub reply: BTreeMap<String, BTreeMap<String, Query>>,
}

#[derive(Deserialize)]
pub struct Query {
    pub responses: Vec<Response>,
}

#[derive(Deserialize)]
pub struct Response {
    pub kind: Option<String>,
    #[serde(rename = "jsonFile")]
    pub json_file: Option<String>,
    pub error: Option<String>,
}

#[derive(Deserialize)]
pub struct Codemodel {
    pub configurations: Vec<ConfigurationObject>,
}

#[derive(Deserialize)]
pub struct ConfigurationObject {
    pub targets: Vec<TargetReference>,
}

#[derive(Deserialize)]
pub struct TargetReference {
    pub id: String,
    pub name: String,
    #[serde(rename = "jsonFile")]
    pub json_file: String,
}

#[derive(Deserialize)]
pub struct Target {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(rename = "nameOnDisk")]
    pub name_on_disk: Option<String>,
    #[serde(default)]
    pub artifacts: Vec<ArtifactPath>,
    pub link: Option<Link>,
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub id: String,
}

#[derive(Deserialize)]
pub struct ArtifactPath {
    pub path: PathBuf,
}

#[derive(Deserialize)]
pub struct Link {
    #[serde(rename = "commandFragments", default)]
    pub fragments: Vec<Fragment>,
}

#[derive(Deserialize)]
pub struct Fragment {
    pub fragment: String,
    pub role: String,
}

#[derive(Deserialize)]
pub struct Toolchains {
    pub toolchains: Vec<Toolchain>,
}

#[derive(Deserialize)]
pub struct Toolchain {
    pub language: String,
    pub compiler: ToolchainCompiler,
}

#[derive(Deserialize)]
pub struct ToolchainCompiler {
    pub path: Option<String>,
    pub id: Option<String>,
    pub version: Option<String>,
    #[serde(default)]
    pub implicit: Implicit,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Implicit {
    pub link_directories: Vec<PathBuf>,
    pub link_libraries: Vec<String>,
}
