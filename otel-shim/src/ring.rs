//! What the inference thread touches: a ring of bytes per thread, and the count of what did not fit.
//!
//! [`push`] takes no lock, allocates nothing and makes no system call, but for the first record of a thread (which gets
//! its ring) and for waking the drain thread once when a quarter of a ring is full. A full ring loses spans and histogram
//! samples, which are counted; additions to counters are kept and added later, so that sums stay exact.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::abi::{Attr, Entry, EventRecord, Link, MetricRecord, SpanRecord};
use crate::registry::{Instrument, METRICS};

/// Bytes of one thread's ring: at 40,000 decodes per second and 1,200 bytes each, 21 ms. The drain thread, woken when a
/// quarter is full, has 16 of them to get a core.
const RING_BYTES: usize = 1 << 20;
const MIN_RING_BYTES: usize = 16 << 10;
/// Bytes of all rings together. A thread that comes when this is used up gets no ring and its records are counted as dropped.
const ALL_RINGS_BYTES: usize = 8 << 20;
/// Counters that one thread keeps while its ring is full.
const MAX_KEPT: usize = 64;
/// After this part of its ring a thread asks how full it is.
const UNSEEN_SHARE: usize = 16;

/// What an entry of a ring is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Span = 1,
    Metric = 2,
    /// An event of a span or a record of the log; as dropped, it counts for logs.
    Event = 3,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        [Kind::Span, Kind::Metric, Kind::Event].into_iter().find(|kind| *kind as u32 == number)
    }
}

const HEAD_BYTES: usize = size_of::<Entry>();

/// Why something was not exported.
#[derive(Clone, Copy)]
pub enum Reason {
    /// The thread's ring was full.
    RingFull,
    /// More threads than there is memory for rings.
    ThreadLimit,
    /// The queue before the exporter was full: the receiver is too slow or gone.
    QueueFull,
    /// The receiver refused it, could not be reached, or did not answer in time.
    ExportFailed,
    /// It waited when telemetry was shut down.
    Shutdown,
}

impl Reason {
    const ALL: [Reason; 5] =
        [Reason::RingFull, Reason::ThreadLimit, Reason::QueueFull, Reason::ExportFailed, Reason::Shutdown];

    fn name(self) -> &'static str {
        match self {
            Reason::RingFull => "ring_full",
            Reason::ThreadLimit => "thread_limit",
            Reason::QueueFull => "queue_full",
            Reason::ExportFailed => "export_failed",
            Reason::Shutdown => "shutdown",
        }
    }
}

static DROPPED: [[AtomicU64; Reason::ALL.len()]; 3] = [const { [const { AtomicU64::new(0) }; Reason::ALL.len()] }; 3];

pub fn count_dropped(kind: Kind, reason: Reason, n: u64) {
    DROPPED[kind as usize - 1][reason as usize].fetch_add(n, Ordering::Relaxed);
}

/// (signal, reason, count since the process started), only what is not zero.
pub fn dropped() -> Vec<(&'static str, &'static str, u64)> {
    let mut all = Vec::new();
    for (signal, reasons) in ["traces", "metrics", "logs"].into_iter().zip(&DROPPED) {
        for reason in Reason::ALL {
            let n = reasons[reason as usize].load(Ordering::Relaxed);
            if n > 0 {
                all.push((signal, reason.name(), n));
            }
        }
    }
    all
}

/// What the drain thread has of each ring.
struct Outlet {
    consumer: Consumer<u8>,
    kept: Arc<Mutex<Vec<Kept>>>,
}

static OUTLETS: Mutex<Vec<Outlet>> = Mutex::new(Vec::new());
static RING_BYTES_USED: AtomicUsize = AtomicUsize::new(0);

static DRAIN_ASLEEP: AtomicBool = AtomicBool::new(false);
static DRAIN_THREAD: Mutex<Option<Thread>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An addition to a counter that found the ring full: a metric record, whose first eight bytes are the value, and its strings.
struct Kept {
    record: Box<[u8]>,
    strings: Box<[u8]>,
    value: f64,
}

struct ThreadRing {
    producer: Option<Producer<u8>>,
    /// Bytes pushed since it was last asked how full the ring is.
    unseen: usize,
    /// Locked only while the ring is full, by this thread and the drain thread.
    kept: Arc<Mutex<Vec<Kept>>>,
}

thread_local! {
    static RING: RefCell<Option<ThreadRing>> = const { RefCell::new(None) };
}

/// Copies a record (head and attributes) and its strings into this thread's ring where that is all there is to do: it has
/// one, with room in one piece, and nobody is due to be woken. Otherwise does nothing and returns false; [`push`] does the
/// rest. Nothing in it can panic.
#[inline(always)] // the calls would take longer than what is in them
pub fn push_quickly(kind: Kind, record: &[u8], strings: &[u8]) -> bool {
    quickly(HEAD_BYTES + record.len() + strings.len(), |to| {
        // SAFETY: there is room for the three parts; `Entry` is plain data.
        unsafe {
            to.cast::<Entry>().write_unaligned(head(kind, record, strings));
            let to = to.add(HEAD_BYTES);
            copy_words(record, to);
            copy_words(strings, to.add(record.len()));
        }
    })
}

/// As [`push_quickly`], for several records, each with its head.
#[inline(always)]
pub fn push_entries_quickly(entries: &[u8]) -> bool {
    quickly(entries.len(), |to| {
        // SAFETY: there is room for them, in other memory.
        unsafe { copy_words(entries, to) }
    })
}

#[inline(always)]
fn quickly(bytes: usize, write: impl FnOnce(*mut u8)) -> bool {
    let pushed = RING.try_with(|ring| {
        let mut ring = ring.try_borrow_mut().ok()?;
        let ThreadRing { producer: Some(producer), unseen, .. } = ring.as_mut()? else { return None };
        let seen = *unseen + bytes;
        if seen >= producer.buffer().capacity() / UNSEEN_SHARE {
            return None;
        }
        let mut chunk = producer.write_chunk_uninit(bytes).ok()?;
        let (first, second) = chunk.as_mut_slices();
        if !second.is_empty() {
            return None;
        }
        write(first.as_mut_ptr().cast());
        // SAFETY: it is written.
        unsafe { chunk.commit_all() };
        *unseen = seen;
        Some(())
    });
    matches!(pushed, Ok(Some(())))
}

/// Copies a record (head and attributes) and its strings into this thread's ring.
pub fn push(kind: Kind, record: &[u8], strings: &[u8]) {
    with_ring(|ring| ring.push(kind, record, strings));
}

/// Copies several records, each with its head, as [`push`] does one.
pub fn push_entries(entries: &[u8]) {
    with_ring(|ring| ring.push_entries(entries));
}

/// With this thread's ring. A thread that is being torn down, or a signal handler that interrupts us, records nothing.
fn with_ring(push: impl FnOnce(&mut ThreadRing)) {
    let _ = RING.try_with(|ring| {
        if let Ok(mut ring) = ring.try_borrow_mut() {
            push(ring.get_or_insert_with(ThreadRing::new));
        }
    });
}

impl ThreadRing {
    #[cold]
    fn new() -> Self {
        let left = ALL_RINGS_BYTES.saturating_sub(RING_BYTES_USED.load(Ordering::Relaxed));
        let bytes = (left / 4).min(RING_BYTES);
        let kept = Arc::default();
        if bytes < MIN_RING_BYTES {
            return ThreadRing { producer: None, unseen: 0, kept };
        }
        RING_BYTES_USED.fetch_add(bytes, Ordering::Relaxed);
        let (producer, consumer) = RingBuffer::new(bytes);
        lock(&OUTLETS).push(Outlet { consumer, kept: Arc::clone(&kept) });
        ThreadRing { producer: Some(producer), unseen: 0, kept }
    }

    fn push(&mut self, kind: Kind, record: &[u8], strings: &[u8]) {
        let Some(producer) = &mut self.producer else {
            return count_dropped(kind, Reason::ThreadLimit, 1);
        };
        let head = head(kind, record, strings);
        // SAFETY: `Entry` is plain data without padding.
        let head = unsafe { std::slice::from_raw_parts((&raw const head).cast::<u8>(), HEAD_BYTES) };
        if !try_push(producer, &[head, record, strings]) {
            return self.overflow(kind, record, strings);
        }
        self.pushed(HEAD_BYTES + record.len() + strings.len());
    }

    fn push_entries(&mut self, entries: &[u8]) {
        match self.producer.as_mut().is_some_and(|producer| try_push(producer, &[entries])) {
            true => self.pushed(entries.len()),
            false => self.push_one_by_one(entries),
        }
    }

    /// As many as there is room for; the others are counted.
    #[cold]
    fn push_one_by_one(&mut self, mut entries: &[u8]) {
        while let Some((head, rest)) = entries.split_at_checked(HEAD_BYTES) {
            // SAFETY: it is that long; `Entry` is plain data.
            let head = unsafe { head.as_ptr().cast::<Entry>().read_unaligned() };
            let parts = rest.split_at_checked(head.record as usize);
            let parts = parts.and_then(|(record, rest)| Some((record, rest.split_at_checked(head.strings as usize)?)));
            let (Some((record, (strings, rest))), Some(kind)) = (parts, Kind::of(head.kind)) else { return };
            self.push(kind, record, strings);
            entries = rest;
        }
    }

    fn pushed(&mut self, bytes: usize) {
        let Some(producer) = &mut self.producer else { return };
        // How full it is, the other thread knows: asking at every record would move its word between the cores.
        self.unseen += bytes;
        if self.unseen >= producer.buffer().capacity() / UNSEEN_SHARE {
            self.unseen = 0;
            if producer.slots() < producer.buffer().capacity() / 4 * 3 {
                wake_drain();
            }
        }
    }

    #[cold]
    fn overflow(&mut self, kind: Kind, record: &[u8], strings: &[u8]) {
        wake_drain();
        if kind == Kind::Metric && is_counter(record) {
            let value = record_value(record);
            let mut kept = lock(&self.kept);
            if let Some(same) = kept.iter_mut().find(|k| k.record[8..] == record[8..] && *k.strings == *strings) {
                same.value += value;
                return;
            }
            if kept.len() < MAX_KEPT {
                kept.push(Kept { record: record.into(), strings: strings.into(), value });
                return;
            }
        }
        count_dropped(kind, Reason::RingFull, 1);
    }
}

fn record_value(record: &[u8]) -> f64 {
    record.first_chunk().map_or(0.0, |bytes| f64::from_ne_bytes(*bytes))
}

fn is_counter(record: &[u8]) -> bool {
    let Some(metric) = record.get(8..10) else { return false };
    let metric = u16::from_ne_bytes([metric[0], metric[1]]);
    METRICS
        .get(metric as usize)
        .is_some_and(|m| matches!(m.instrument, Instrument::Counter | Instrument::UpDownCounter))
}

/// Whether there is room for these parts, one after another; then they are there.
fn try_push(producer: &mut Producer<u8>, parts: &[&[u8]]) -> bool {
    let Ok(mut chunk) = producer.write_chunk_uninit(parts.iter().map(|part| part.len()).sum()) else { return false };
    // it may begin at the end of the ring's memory and go on at its start
    let (mut first, mut second) = chunk.as_mut_slices();
    for part in parts {
        let (a, b) = part.split_at(part.len().min(first.len()));
        first = copy(a, first);
        second = copy(b, second);
    }
    // SAFETY: the parts fill the chunk.
    unsafe { chunk.commit_all() };
    true
}

#[inline(always)] // its fields go to their places from registers
fn head(kind: Kind, record: &[u8], strings: &[u8]) -> Entry {
    Entry { kind: kind as u32, record: record.len() as u32, strings: strings.len() as u32, reserved: 0 }
}

/// Copies to the front of `to` and returns what is left of it.
fn copy<'a>(from: &[u8], to: &'a mut [MaybeUninit<u8>]) -> &'a mut [MaybeUninit<u8>] {
    let (front, rest) = to.split_at_mut(from.len());
    // SAFETY: both are that long, and they are different memory.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), front.as_mut_ptr().cast(), from.len()) };
    rest
}

/// Copies what was written a moment ago, by words or more, by words: a wider load would have to wait until several of those
/// stores have left the processor.
///
/// # Safety
/// `to` has room for it.
#[inline(always)]
unsafe fn copy_words(from: &[u8], to: *mut u8) {
    /// More than this is longer in copying than in waiting.
    const MANY: usize = 64;
    let words = from.as_ptr().cast::<u64>();
    if !from.len().is_multiple_of(8) || from.len() > MANY || !words.is_aligned() {
        // SAFETY: the caller's promise; they are different memory.
        return unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }
    for i in 0..from.len() / 8 {
        // SAFETY: the caller's promise, and the words are aligned; volatile keeps them apart.
        unsafe { to.cast::<u64>().add(i).write_unaligned(words.add(i).read_volatile()) };
    }
}

#[inline]
fn wake_drain() {
    // a plain load first: while the drain thread works, nobody contends for this word
    let asleep = DRAIN_ASLEEP.load(Ordering::Relaxed) && DRAIN_ASLEEP.swap(false, Ordering::AcqRel);
    if let (true, Ok(Some(thread))) = (asleep, DRAIN_THREAD.try_lock().as_deref()) {
        thread.unpark();
    }
}

/// Whom to wake when a ring fills up.
pub fn set_drain_thread(thread: Thread) {
    *lock(&DRAIN_THREAD) = Some(thread);
}

/// The calling thread drains no more. Another one may have been started meanwhile.
pub fn drain_thread_ends() {
    lock(&DRAIN_THREAD).take_if(|thread| thread.id() == std::thread::current().id());
}

/// Sleeps until a quarter of a ring is full, somebody unparks the calling thread, or the time is over.
pub fn sleep(at_most: std::time::Duration) {
    DRAIN_ASLEEP.store(true, Ordering::Release);
    std::thread::park_timeout(at_most);
    DRAIN_ASLEEP.store(false, Ordering::Release);
}

/// A record that was taken out of a ring.
pub enum Record<'a> {
    Span(&'a SpanRecord, &'a [Link]),
    Metric(&'a MetricRecord),
    Event(&'a EventRecord),
}

/// Takes the entries that are there now out of every ring: calls `f` with the record, its attributes, and its strings. Returns
/// their number. Those that come meanwhile are for the next time: where threads record faster than they are drained, there would
/// be no end, and nobody to flush.
pub fn drain(mut f: impl FnMut(Record, &[Attr], &[u8])) -> usize {
    let mut n = 0;
    let mut scratch: Vec<u64> = Vec::new(); // eight-byte alignment for the records
    let mut outlets = std::mem::take(&mut *lock(&OUTLETS));
    outlets.retain_mut(|outlet| {
        let abandoned = outlet.consumer.is_abandoned(); // asked first: what was pushed before is then seen below
        let mut there = outlet.consumer.slots(); // whole entries
        while there > 0
            && let Some((kind, record, strings)) = next_entry(&mut outlet.consumer, &mut scratch)
        {
            there = there.saturating_sub(HEAD_BYTES + size_of_val(record) + strings.len());
            n += 1;
            visit(kind, record, strings, &mut f);
        }
        for kept in std::mem::take(&mut *lock(&outlet.kept)) {
            n += 1;
            let words = kept.record.chunks_exact(8).map(|word| u64::from_ne_bytes(std::array::from_fn(|i| word[i])));
            scratch.clear();
            scratch.extend(words);
            scratch[0] = kept.value.to_bits();
            visit(Kind::Metric as u32, &scratch, &kept.strings, &mut f);
        }
        if abandoned {
            RING_BYTES_USED.fetch_sub(outlet.consumer.buffer().capacity(), Ordering::Relaxed);
        }
        !abandoned
    });
    lock(&OUTLETS).append(&mut outlets);
    n
}

/// The next entry as (kind, record in words, strings).
fn next_entry<'a>(consumer: &mut Consumer<u8>, scratch: &'a mut Vec<u64>) -> Option<(u32, &'a [u64], &'a [u8])> {
    let head = consumer.read_chunk(HEAD_BYTES).ok()?;
    let mut words = [0u32; HEAD_BYTES / 4];
    let (a, b) = head.as_slices();
    // SAFETY: the two parts are as long as the words together.
    unsafe {
        let to = words.as_mut_ptr().cast::<u8>();
        std::ptr::copy_nonoverlapping(a.as_ptr(), to, a.len());
        std::ptr::copy_nonoverlapping(b.as_ptr(), to.add(a.len()), b.len());
    }
    head.commit_all();

    let [kind, record, strings, _] = words.map(|w| w as usize);
    let body = consumer.read_chunk(record + strings).ok()?;
    let (a, b) = body.as_slices();
    scratch.clear();
    scratch.resize((record + strings).div_ceil(8), 0);
    let to = scratch.as_mut_ptr().cast::<u8>();
    // SAFETY: `scratch` holds at least `a.len() + b.len()` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(a.as_ptr(), to, a.len());
        std::ptr::copy_nonoverlapping(b.as_ptr(), to.add(a.len()), b.len());
    }
    body.commit_all();
    // SAFETY: as above; records are whole words long, the strings follow.
    let strings = unsafe { std::slice::from_raw_parts(to.add(record), strings) };
    Some((kind as u32, &scratch[..record / 8], strings))
}

fn visit(kind: u32, record: &[u64], strings: &[u8], f: &mut impl FnMut(Record, &[Attr], &[u8])) {
    if kind == Kind::Span as u32 {
        let Some((head, tail)) = split::<SpanRecord>(record) else { return };
        let (attrs, tail) = array::<Attr>(tail, head.n_attrs.into());
        let (links, _) = array::<Link>(tail, head.n_links.into());
        f(Record::Span(head, links), attrs, strings);
    } else if kind == Kind::Event as u32 {
        let Some((head, tail)) = split::<EventRecord>(record) else { return };
        f(Record::Event(head), array::<Attr>(tail, head.n_attrs.into()).0, strings);
    } else {
        let Some((head, tail)) = split::<MetricRecord>(record) else { return };
        f(Record::Metric(head), array::<Attr>(tail, head.n_attrs.into()).0, strings);
    }
}

/// A record's head and the words behind it.
fn split<T>(record: &[u64]) -> Option<(&T, &[u64])> {
    let (head, tail) = record.split_at_checked(size_of::<T>() / 8)?;
    // SAFETY: the words hold a `T` as the runtime wrote it, which is plain data of whole words.
    Some((unsafe { &*head.as_ptr().cast::<T>() }, tail))
}

/// The first `n` of a record's attributes or links, fewer if it has not as many, and the words behind them.
fn array<T>(words: &[u64], n: usize) -> (&[T], &[u64]) {
    let n = n.min(words.len() / (size_of::<T>() / 8));
    let (front, rest) = words.split_at(n * size_of::<T>() / 8);
    // SAFETY: as for `split`; `front` is that long.
    (unsafe { std::slice::from_raw_parts(front.as_ptr().cast::<T>(), n) }, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As by threads that record faster than they are drained: without an end nothing would be exported, and no flush be answered.
    #[test]
    fn what_is_recorded_meanwhile_is_for_the_next_time() {
        let record = || push(Kind::Metric, &[0; size_of::<MetricRecord>()], &[]);
        (0..3).for_each(|_| record());
        for _ in 0..2 {
            assert_eq!(drain(|_, _, _| record()), 3);
        }
        assert_eq!(drain(|_, _, _| ()), 3);
        assert_eq!(drain(|_, _, _| ()), 0);
    }
}
