//! The package's bill of materials in CycloneDX's form: the package, llama.cpp with what it is descended from and what was
//! patched, what llama.cpp took from elsewhere, and every crate that a build may need.
//!
//! It depends on the package's content only: it carries no time, and its serial number is a digest of the rest.

use anyhow::{Context as _, Result, bail};
use cyclonedx_bom::{
    external_models::{spdx::SpdxExpression, uri::Uri},
    models::{
        code::{Diff, Issue, IssueClassification, Patch, PatchClassification, Patches},
        component::{Classification, Pedigree, Scope},
        dependency::{Dependencies, Dependency},
        external_reference::{ExternalReference, ExternalReferenceType, ExternalReferences},
        hash::{Hash, HashAlgorithm, HashValue, Hashes},
        license::{LicenseChoice, Licenses},
        property::{Properties, Property},
        tool::{Tool, Tools},
    },
    prelude::{Bom, Component, Components, Metadata, NormalizedString, Purl, SpecVersion, UrnUuid, Validate as _},
};
use sha2::{Digest as _, Sha256};

use super::{
    PATCHES,
    dependencies::Graph,
    manifest::Crates,
    parts::{self, Contained},
    tree::PatchedTree,
};
use crate::upstream::Source;

/// The file in the package.
pub const FILE: &str = "sbom.cdx.json";
/// The version of CycloneDX that it is written in.
const SPEC: SpecVersion = SpecVersion::V1_5;
/// Reference of llama.cpp in the document.
const LLAMA_CPP: &str = "llama.cpp";

/// What the document is about.
pub struct Contents<'a> {
    /// Version of the package.
    pub version: &'a str,
    /// SPDX expression of the package.
    pub license: &'a str,
    pub crates: &'a Crates,
    pub tree: &'a PatchedTree,
    pub parts: &'a [Contained],
    pub graph: &'a Graph,
}

/// The document.
///
/// # Errors
/// It is not valid CycloneDX, with what is wrong.
pub fn write(contents: &Contents<'_>) -> Result<Vec<u8>> {
    let bom = bom(contents)?;
    let text = output(bom.clone())?;
    let bom = Bom { serial_number: Some(serial_number(&text)?), ..bom };
    output(bom)
}

fn output(bom: Bom) -> Result<Vec<u8>> {
    let result = bom.validate_version(SPEC);
    if !result.passed() {
        bail!("the bill of materials is not valid: {result:#?}");
    }
    let mut text = Vec::new();
    bom.output_as_json(&mut text, SPEC).context("the bill of materials cannot be written")?;
    text.push(b'\n');
    Ok(text)
}

/// A UUID (version 8: of one's own making) that follows from the content.
fn serial_number(content: &[u8]) -> Result<UrnUuid> {
    let mut bytes: [u8; 16] = Sha256::digest(content)[..16].try_into()?;
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &hex[range]);
    UrnUuid::new(format!("urn:uuid:{}", groups.join("-"))).map_err(|error| anyhow::anyhow!("{error:?}"))
}

fn bom(contents: &Contents<'_>) -> Result<Bom> {
    let Contents { version, license, crates, tree, parts, graph } = contents;
    let main_ref = purl("cargo", &crates.sys.name, version)?;
    let mut main = Component::new(Classification::Library, &crates.sys.name, version, Some(main_ref.to_string()));
    main.description = crates.sys.description.as_deref().map(NormalizedString::new);
    main.licenses = Some(licenses(Some(license)));
    main.purl = Some(main_ref.clone());
    // Crates of this project that are published nowhere else.
    let folded = [&crates.shim, &crates.build].map(|krate| {
        let mut component =
            Component::new(Classification::Library, &krate.name, &krate.version, Some(krate.name.clone()));
        component.description = krate.description.as_deref().map(NormalizedString::new);
        component.licenses = Some(licenses(krate.license.as_deref()));
        component
    });
    main.components = Some(Components(folded.into()));
    let tool = Tool { vendor: None, ..Tool::new("", "llama-otel xtask", env!("CARGO_PKG_VERSION")) };
    let metadata = Metadata { tools: Some(Tools::List(vec![tool])), component: Some(main), ..Metadata::default() };

    let mut components = vec![llama_cpp(tree, parts)?];
    let mut references = Vec::with_capacity(graph.crates.len());
    for dependency in &graph.crates {
        let purl = purl("cargo", &dependency.name, &dependency.version)?;
        references.push(purl.to_string());
        let mut component =
            Component::new(Classification::Library, &dependency.name, &dependency.version, Some(purl.to_string()));
        component.description = dependency.description.as_deref().map(NormalizedString::new);
        component.licenses = Some(licenses(dependency.license.as_deref()));
        component.purl = Some(purl);
        component.scope = Some(if dependency.is_linked { Scope::Required } else { Scope::Excluded });
        component.hashes = dependency.checksum.as_deref().map(sha256);
        component.external_references =
            dependency.repository.as_deref().and_then(|url| reference(ExternalReferenceType::Vcs, url));
        components.push(component);
    }

    let refs = |needs: &[usize]| needs.iter().filter_map(|&index| references.get(index).cloned()).collect::<Vec<_>>();
    let own = [LLAMA_CPP.to_owned(), crates.shim.name.clone(), crates.build.name.clone()];
    let mut dependencies = vec![
        Dependency {
            dependency_ref: main_ref.to_string(),
            dependencies: own.into_iter().chain(refs(&graph.direct)).collect(),
        },
        Dependency { dependency_ref: LLAMA_CPP.to_owned(), dependencies: parts.iter().map(part_ref).collect() },
    ];
    for (dependency, reference) in graph.crates.iter().zip(&references) {
        dependencies.push(Dependency { dependency_ref: reference.clone(), dependencies: refs(&dependency.needs) });
    }
    Ok(Bom {
        serial_number: None,
        metadata: Some(metadata),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        spec_version: SPEC,
        ..Bom::default()
    })
}

/// llama.cpp as it is in the package: changed, so that it is no longer what its name and version say.
fn llama_cpp(tree: &PatchedTree, parts: &[Contained]) -> Result<Component> {
    let vendored = &tree.vendored;
    let version = vendored.version();
    let mut component = Component::new(Classification::Library, LLAMA_CPP, &version, Some(LLAMA_CPP.to_owned()));
    component.description = Some(NormalizedString::new("Inference of large language models, with telemetry inserted"));
    component.licenses = Some(licenses(Some(parts::LLAMA_CPP)));
    component.modified = Some(true);
    let contained = parts.iter().map(|contained| {
        let part = contained.part;
        let version = contained.version.as_deref();
        let mut component = Component::new(Classification::Library, part.name, "", Some(part_ref(contained)));
        component.version = version.map(NormalizedString::new);
        component.author = Some(NormalizedString::new(part.authors));
        component.licenses = Some(match part.license {
            Some(license) => licenses(Some(license)),
            None => Licenses(vec![LicenseChoice::license("Public domain")]),
        });
        component.purl = Some(with_version(part.purl, version)?);
        component.properties = Some(properties([("llama-otel:folder", Some(&*format!("llama.cpp/{}", part.folder)))]));
        Ok(component)
    });
    component.components = Some(Components(contained.collect::<Result<_>>()?));
    component.pedigree = Some(pedigree(tree)?);
    component.properties = Some(properties([
        ("llama-otel:pin", Some(vendored.pin.as_str())),
        ("llama-otel:pristine-tree:sha256", Some(vendored.sha256.as_str())),
        ("llama-otel:points:sha256", Some(tree.points_sha256.as_str())),
        ("llama-otel:package-commit", vendored.origin.package_commit.as_deref()),
    ]));
    Ok(component)
}

/// Upstream's release or commit, the published package that the tree was taken from if it was, and each patch.
fn pedigree(tree: &PatchedTree) -> Result<Pedigree> {
    let vendored = &tree.vendored;
    let commit = vendored.origin.build_commit.as_deref().filter(|commit| !commit.ends_with("-dirty"));
    let mut upstream = Component::new(Classification::Library, LLAMA_CPP, &vendored.version(), None);
    upstream.author = Some(NormalizedString::new("The ggml authors"));
    upstream.licenses = Some(licenses(Some(parts::LLAMA_CPP)));
    upstream.purl = Some(with_version("pkg:github/ggml-org/llama.cpp", commit)?);
    let mut ancestors = vec![upstream];
    let package = match &vendored.source {
        Source::Crate { name, version, .. } => Some(("cargo", name, version)),
        Source::Pypi { name, version, .. } => Some(("pypi", name, version)),
        _ => None,
    };
    if let Some((kind, name, version)) = package {
        let mut package = Component::new(Classification::Library, name, version, None);
        package.purl = Some(purl(kind, name, version)?);
        package.description = Some(NormalizedString::new("The package that this llama.cpp was taken out of"));
        ancestors.push(package);
    }
    let patches = tree.patches.iter().map(|patch| Patch {
        patch_type: PatchClassification::Unofficial,
        diff: Some(Diff { text: None, url: Some(Uri::new(&format!("{PATCHES}/{}", patch.name))) }),
        resolves: Some(resolves(patch)),
    });
    let points = tree.patches.iter().map(|patch| patch.points.len()).sum::<usize>();
    Ok(Pedigree {
        ancestors: Some(Components(ancestors)),
        descendants: None,
        variants: None,
        commits: None,
        patches: Some(Patches(patches.collect())),
        notes: Some(format!(
            "Taken from {}. Whole lines of {points} instrumentation points were inserted and common/otel was added; without \
             them the files are upstream's, byte for byte. Files that a build of the library does not read were left out.",
            tree.source()
        )),
    })
}

/// What a patch is for: each of its points, or what its message says.
fn resolves(patch: &super::tree::Patch) -> Vec<Issue> {
    let issue = |name: &str, description: Option<&str>| Issue {
        issue_type: IssueClassification::Enhancement,
        id: None,
        name: Some(NormalizedString::new(name)),
        description: description.map(NormalizedString::new),
        source: None,
        references: None,
    };
    match patch.points.as_slice() {
        [] => vec![issue(&patch.subject, None)],
        points => points.iter().map(|(id, purpose)| issue(id, Some(purpose))).collect(),
    }
}

fn part_ref(contained: &Contained) -> String {
    format!("{LLAMA_CPP}/{}", contained.part.folder)
}

fn purl(kind: &str, name: &str, version: &str) -> Result<Purl> {
    Purl::new(kind, name, version).map_err(|error| anyhow::anyhow!("{kind} {name} {version}: {error}"))
}

fn with_version(purl: &str, version: Option<&str>) -> Result<Purl> {
    let text = version.map_or_else(|| purl.to_owned(), |version| format!("{purl}@{version}"));
    text.parse().map_err(|()| anyhow::anyhow!("`{text}` is no package URL"))
}

/// A licence as it is said, in SPDX's form where it has one.
fn licenses(license: Option<&str>) -> Licenses {
    let choice = |license: &str| match SpdxExpression::parse_lax(license.to_owned()) {
        Ok(expression) => LicenseChoice::Expression(expression),
        Err(_) => LicenseChoice::license(license),
    };
    Licenses(license.map(choice).into_iter().collect())
}

fn sha256(hex: &str) -> Hashes {
    Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(hex.to_owned()) }])
}

fn reference(kind: ExternalReferenceType, url: &str) -> Option<ExternalReferences> {
    let url = Uri::try_from(url.to_owned()).ok()?;
    Some(ExternalReferences(vec![ExternalReference::new(kind, url)]))
}

fn properties<const N: usize>(pairs: [(&str, Option<&str>); N]) -> Properties {
    Properties(pairs.into_iter().filter_map(|(name, value)| Some(Property::new(name, value?))).collect())
}
