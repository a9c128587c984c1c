//! Parsed files by content: what several trees share is parsed once. Memory is bounded, and what a plan comes to
//! does not depend on what is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::source::SourceFile;

/// Files that were parsed, the least recently used of which go first. It can be shared between threads.
#[derive(Default)]
pub struct Sources {
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    files: HashMap<String, Vec<Entry>>,
    /// Bytes of all files.
    size: usize,
    /// Counts uses, so that each entry knows its last one.
    clock: u64,
}

struct Entry {
    file: Arc<SourceFile>,
    has_functions: bool,
    used: u64,
}

impl Sources {
    /// Remembers files of up to `limit` bytes together. What is kept of a file takes about twenty times its size;
    /// 0 remembers nothing.
    pub fn new(limit: usize) -> Self {
        Sources { limit, known: Mutex::default() }
    }

    /// The file of that path and content, parsed if `functions` says so.
    pub(crate) fn get(&self, path: &str, bytes: &Arc<[u8]>, functions: bool) -> Arc<SourceFile> {
        if let Some(file) = self.lock().find(path, bytes, functions) {
            return file;
        }
        let parse = if functions { SourceFile::parse } else { SourceFile::scan };
        let file = Arc::new(parse(path, bytes.clone()));
        if bytes.len() <= self.limit {
            self.lock().add(path, file.clone(), functions, self.limit);
        }
        file
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find(&mut self, path: &str, bytes: &Arc<[u8]>, functions: bool) -> Option<Arc<SourceFile>> {
        self.clock += 1;
        let is_it = |entry: &&mut Entry| {
            let known = &entry.file.bytes;
            (entry.has_functions || !functions) && (Arc::ptr_eq(known, bytes) || known == bytes)
        };
        let entry = self.files.get_mut(path)?.iter_mut().find(is_it)?;
        entry.used = self.clock;
        Some(entry.file.clone())
    }

    fn add(&mut self, path: &str, file: Arc<SourceFile>, has_functions: bool, limit: usize) {
        self.size += file.bytes.len();
        let entry = Entry { file, has_functions, used: self.clock };
        self.files.entry(path.to_owned()).or_default().push(entry);
        while self.size > limit {
            let used = |entries: &Vec<Entry>| entries.iter().map(|entry| entry.used).min();
            let Some((path, oldest)) = self
                .files
                .iter()
                .filter_map(|(path, entries)| Some((path.clone(), used(entries)?)))
                .min_by_key(|e| e.1)
            else {
                return;
            };
            if let Some(entries) = self.files.get_mut(&path) {
                let gone = entries.iter().position(|entry| entry.used == oldest).map(|at| entries.swap_remove(at));
                self.size -= gone.map_or(0, |entry| entry.file.bytes.len());
                if entries.is_empty() {
                    self.files.remove(&path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_parsed_once_and_the_oldest_is_forgotten() {
        let sources = Sources::new(40);
        let bytes = |text: &str| -> Arc<[u8]> { Arc::from(text.as_bytes()) };
        let first = sources.get("a.cpp", &bytes("int f() { }"), true);
        assert!(Arc::ptr_eq(&first, &sources.get("a.cpp", &bytes("int f() { }"), true)));
        assert!(Arc::ptr_eq(&first, &sources.get("a.cpp", &bytes("int f() { }"), false)));
        assert!(!Arc::ptr_eq(&first, &sources.get("b.cpp", &bytes("int f() { }"), true)));
        assert_eq!(sources.get("a.cpp", &bytes("int g() { }"), true).functions().len(), 1);
        // Four of eleven bytes are more than 40.
        sources.get("a.cpp", &bytes("int h() { }"), true);
        assert_eq!(sources.lock().size, 33);
        assert!(!Arc::ptr_eq(&first, &sources.get("a.cpp", &bytes("int f() { }"), true)));
    }

    #[test]
    fn a_file_that_was_only_scanned_is_parsed_when_its_functions_are_asked_for() {
        let sources = Sources::new(100);
        let bytes: Arc<[u8]> = Arc::from(&b"int f() { }"[..]);
        assert!(sources.get("a.cpp", &bytes, false).functions().is_empty());
        assert_eq!(sources.get("a.cpp", &bytes, true).functions().len(), 1);
    }
}
