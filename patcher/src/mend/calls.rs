//! Who calls a function: one that was renamed and rewritten is still called where the old one was.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Candidate, Corpus, Memory, last_name};

/// How many callers are looked up in the new tree.
const CALLERS: usize = 6;
/// How like a caller must be to what it is taken for.
const KNOWN_AGAIN: f64 = 0.35;
/// What a call is worth that the caller made before too, of something else than the lost function.
const OLD_CALL: f64 = 0.25;
/// How much of the lost function's text a part of it must have.
const PART: f64 = 0.35;
/// What words before a parenthesis are no calls.
const NO_CALLS: [&str; 9] = ["if", "for", "while", "switch", "return", "sizeof", "catch", "decltype", "alignof"];

/// Names in front of a parenthesis, with and without template arguments.
pub(super) fn called(tokens: &[String]) -> BTreeSet<String> {
    let pairs = tokens.windows(2).filter(|pair| pair[1] == "(").map(|pair| &pair[0]);
    let templates = tokens.windows(3).filter(|three| three[1] == ">" && three[2] == "(").map(|three| &three[0]);
    let is_name = |name: &&String| super::is_word(name) && !NO_CALLS.contains(&name.as_str());
    pairs.chain(templates).filter(is_name).cloned().collect()
}

/// What calls say of the functions of the new tree, by the candidate's number.
#[derive(Default)]
pub(super) struct CallEvidence {
    /// From 0 to 1, and the callers that call it.
    called: HashMap<usize, (f64, BTreeSet<String>)>,
}

impl CallEvidence {
    /// Looks at what is called now where the lost function was called.
    pub(super) fn of(memory: &Memory, old: &Corpus, new: &Corpus) -> Self {
        let Some(lost) = &memory.function else { return CallEvidence::default() };
        let lost_name = last_name(&lost.name);
        // A name that many functions have says little about which of them is called.
        let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for candidate in &new.candidates {
            if let Some(function) = new.function(candidate) {
                named.entry(last_name(&function.name)).or_default().insert(&function.name);
            }
        }
        let is_caller = |caller: &&Candidate| {
            caller.text.calls.contains(lost_name) && old.function(caller).is_some_and(|f| f.name != lost.name)
        };
        let mut callers = 0.0;
        let mut evidence = CallEvidence::default();
        for caller in old.candidates.iter().filter(is_caller).take(CALLERS) {
            let Some(function) = old.function(caller) else { continue };
            let signature = super::Signature::of(function);
            let likest = new.compare(&caller.text, Some(&signature), &old.file(caller).path).into_iter().next();
            let Some(now) = likest.filter(|likest| likest.score >= KNOWN_AGAIN) else { continue };
            callers += 1.0;
            let (before, after) = (&caller.text.calls, &now.candidate.text.calls);
            let is_fresh = |name: &str| name == lost_name || !before.contains(name);
            let fresh = named.keys().filter(|name| after.contains(**name) && is_fresh(name)).count();
            for (number, candidate) in new.candidates.iter().enumerate() {
                let Some(function) = new.function(candidate) else { continue };
                let name = last_name(&function.name);
                if !after.contains(name) || number == now.number {
                    continue;
                }
                let worth = if is_fresh(name) { 1.0 / (1.0 + (fresh.max(1) as f64).ln()) } else { OLD_CALL };
                let (sum, by) = evidence.called.entry(number).or_default();
                *sum += worth / named.get(name).map_or(1, BTreeSet::len) as f64;
                by.extend(new.function(now.candidate).map(|f| f.name.clone()));
            }
        }
        for (sum, _) in evidence.called.values_mut() {
            *sum = (*sum / f64::max(callers, 1.0)).min(1.0);
        }
        evidence
    }

    /// How much it is called where the lost function was called.
    pub(super) fn worth(&self, number: usize) -> f64 {
        self.called.get(&number).map_or(0.0, |(worth, _)| *worth)
    }

    /// The functions that call it there.
    pub(super) fn callers(&self, number: usize) -> Option<String> {
        let (_, by) = self.called.get(&number)?;
        Some(by.iter().take(2).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and "))
    }
}

/// A lost function whose text is in several functions now: which they are, by their numbers, and what calls them all where
/// the lost one was called. A point that stands once belongs there, and in none of the parts.
pub(super) struct Split {
    pub(super) parts: Vec<usize>,
    pub(super) whole: Vec<usize>,
}

impl Split {
    /// `held` says for each candidate how much of the lost text it has.
    pub(super) fn of(memory: &Memory, new: &Corpus, calls: &CallEvidence, held: &[f64]) -> Option<Split> {
        let lost = memory.function.as_ref()?;
        let name = |number: usize| new.function(&new.candidates[number]).map(|f| f.name.as_str());
        let likest = held.iter().copied().fold(0.0, f64::max);
        let parts: Vec<_> =
            (0..held.len()).filter(|number| held[*number] >= PART && held[*number] >= 0.6 * likest).collect();
        let names: BTreeSet<_> = parts.iter().filter_map(|part| name(*part)).collect();
        if names.len() < 2 || (0..held.len()).any(|number| name(number) == Some(&lost.name)) {
            return None;
        }
        let called: BTreeSet<_> = names.iter().map(|name| last_name(name)).collect();
        let is_whole = |number: &usize| {
            let text = &new.candidates[*number].text;
            let has = called.iter().filter(|name| text.calls.contains(**name)).count();
            calls.worth(*number) > 0.0 && !parts.contains(number) && has >= 2
        };
        let whole: Vec<_> = (0..held.len()).filter(is_whole).collect();
        (!whole.is_empty()).then_some(Split { parts, whole })
    }
}
