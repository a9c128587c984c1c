//! Which spans share a line: the tree flattened into rows, siblings of one kind folded together.

use otlp_receiver::model::{Node, Span};
use serde_json::Value;

/// Siblings of one kind are folded from this many on.
const FOLD_FROM: usize = 4;

/// One line of the tree: one span, or many siblings of one kind.
#[derive(Debug, PartialEq)]
pub struct Row<'a> {
    /// 0 for a root.
    pub depth: usize,
    /// For each level above this row and for its own, whether a later sibling follows.
    pub continues: Vec<bool>,
    /// At least one; in order of start.
    pub spans: Vec<&'a Span>,
}

/// The figures of a folded row, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub p50: f64,
    pub p99: f64,
    pub total: f64,
}

impl<'a> Row<'a> {
    /// The first span, for what all of them share.
    pub fn first(&self) -> Option<&'a Span> {
        self.spans.first().copied()
    }

    /// Median, 99th percentile (nearest rank) and sum of the durations.
    pub fn spread(&self) -> Spread {
        spread(self.spans.iter().map(|span| span.seconds()).collect())
    }

    /// The value of an attribute where all spans of the row agree on it.
    pub fn shared(&self, name: &str) -> Option<&'a Value> {
        let value = self.first()?.attribute(name)?;
        self.spans.iter().all(|span| span.attribute(name) == Some(value)).then_some(value)
    }
}

/// The tree as rows, parents before children. With `all`, every span has a row of its own.
pub fn rows<'a>(tree: &[Node<'a>], all: bool) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    add(&mut rows, tree.iter().collect(), &[], all);
    rows
}

fn add<'a>(rows: &mut Vec<Row<'a>>, siblings: Vec<&Node<'a>>, above: &[bool], all: bool) {
    let groups = grouped(siblings, all);
    let last = groups.len().saturating_sub(1);
    for (index, group) in groups.into_iter().enumerate() {
        let mut continues = above.to_vec();
        continues.push(index < last);
        let spans = group.iter().map(|node| node.span).collect();
        rows.push(Row { depth: above.len(), continues: continues.clone(), spans });
        let children = group.iter().flat_map(|node| &node.children).collect();
        add(rows, children, &continues, all);
    }
}

/// Siblings by kind, in order of the first of each; kinds with few members stay apart.
fn grouped<'n, 'a>(siblings: Vec<&'n Node<'a>>, all: bool) -> Vec<Vec<&'n Node<'a>>> {
    if all {
        return siblings.into_iter().map(|node| vec![node]).collect();
    }
    let mut groups: Vec<Vec<&Node>> = Vec::new();
    for node in siblings {
        let group =
            groups.iter_mut().find(|group| group.first().is_some_and(|first| kind(first.span) == kind(node.span)));
        match group {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    let (folded, few): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.len() >= FOLD_FROM);
    let mut groups = folded;
    groups.extend(few.into_iter().flatten().map(|node| vec![node]));
    groups.sort_by_key(|group| group.first().map(|node| node.span.start_unix_nano));
    groups
}

/// A failed span is never of a kind with a good one, nor a prompt with single tokens.
fn kind(span: &Span) -> (&str, bool, Option<&Value>) {
    (&span.name, span.failed(), span.attribute("llama.decode.phase"))
}

/// Median, 99th percentile (nearest rank) and sum of some durations in seconds.
pub fn spread(mut durations: Vec<f64>) -> Spread {
    durations.sort_by(f64::total_cmp);
    let rank = |q: f64| {
        let index = (q * durations.len() as f64).ceil() as usize;
        durations.get(index.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    Spread { p50: rank(0.5), p99: rank(0.99), total: durations.iter().sum() }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn outline(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| format!("{}{} ×{}", "  ".repeat(row.depth), row.spans[0].name, row.spans.len())).collect()
    }

    #[test]
    fn a_run_folds_into_one_line_for_each_kind() {
        let telemetry = fixture::run("m");
        assert_eq!(
            outline(&rows(&telemetry.tree(), false)),
            [
                "llama_backend_init ×1",
                "llama_model_load ×1",
                "  llama_model_load.hparams ×1",
                "  llama_model_load.vocab ×1",
                "  llama_model_load.tensors ×1",
                "  llama_model_load.data ×1",
                "llama_init_from_model ×1",
                "  llama_kv_cache_init ×1",
                "llama_generation ×1",
                "llama_decode ×1",
                "llama_sample_token ×64",
                "llama_decode ×63",
                "llama_free ×1",
                "llama_model_free ×1",
            ]
        );
    }

    #[test]
    fn every_span_is_in_exactly_one_row_folded_or_not() {
        let telemetry = fixture::run("m");
        for all in [false, true] {
            let rows = rows(&telemetry.tree(), all);
            let count: usize = rows.iter().map(|row| row.spans.len()).sum();
            assert_eq!(count, telemetry.spans.len());
            assert!(!all || rows.len() == count);
        }
    }

    #[test]
    fn a_failed_span_keeps_its_own_row() {
        let telemetry = fixture::failed_decode("m");
        let rows = rows(&telemetry.tree(), false);
        let failed: Vec<_> = rows.iter().filter(|row| row.spans[0].failed()).collect();
        assert_eq!((failed.len(), failed[0].spans.len()), (1, 1));
    }

    #[test]
    fn spread_takes_the_nearest_rank() {
        let spread = spread((1..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { p50: 50.0, p99: 99.0, total: 5050.0 });
        assert_eq!(super::spread(vec![]), Spread { p50: 0.0, p99: 0.0, total: 0.0 });
    }
}
