//! The strict parsers of the W3C headers, by the C functions: the recommendation's own cases.

use std::ffi::{CString, c_char};

use otel_shim::{Headers, ParentError};

unsafe extern "C" {
    fn llama_otel_set_traceparent(traceparent: *const c_char, tracestate: *const c_char, baggage: *const c_char)
    -> u32;
}

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn set(traceparent: &str, tracestate: &str, baggage: &str) -> u32 {
    let [a, b, c] = [traceparent, tracestate, baggage].map(|text| CString::new(text).unwrap());
    // SAFETY: three C strings.
    unsafe { llama_otel_set_traceparent(a.as_ptr(), b.as_ptr(), c.as_ptr()) }
}

#[test]
fn traceparent() {
    let good = [
        GOOD,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be-like",
        "",
    ];
    for text in good {
        assert_eq!(set(text, "", ""), 0, "{text}");
    }
    let bad = [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "0X-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00",
        "-",
    ];
    for text in bad {
        assert_eq!(set(text, "", ""), 1, "{text}");
    }
}

#[test]
fn tracestate() {
    let long = format!("k={}", "x".repeat(256));
    for text in ["", "a=1", "a=1, b=2 ,,c=3", "tenant@vendor=1", "0a=x", "a= x", "foo-_*/bar=1", &long] {
        assert_eq!(set(GOOD, text, ""), 0, "{text}");
    }
    let too_long = format!("k={}", "x".repeat(257));
    let many: Vec<String> = (0..33).map(|i| format!("k{i}=1")).collect();
    for text in
        ["a", "a=", "=1", "A=1", "a=1,a=2", "a=1=2", "a@b@c=1", "@b=1", "a@1b=1", "a=\u{1}", &too_long, &many.join(",")]
    {
        assert_eq!(set(GOOD, text, ""), 2, "{text}");
    }
}

#[test]
fn baggage() {
    for text in ["", "a=1", "a=1;p=2;q,b=2", " a = 1 , b=2", "a=%20x%C3%A4", "a="] {
        assert_eq!(set(GOOD, "", text), 0, "{text}");
    }
    let many: Vec<String> = (0..65).map(|i| format!("k{i}=1")).collect();
    for text in ["a", "a b=1", "=1", "a=1,,b=2", "a=%2", "a=%zz", "a=\"x\"", "a=x y", &many.join(",")] {
        assert_eq!(set(GOOD, "", text), 3, "{text}");
    }
}

#[test]
fn the_same_in_rust() {
    let with = |traceparent: &str, tracestate: &str| {
        otel_shim::set_traceparent(&Headers {
            traceparent: traceparent.into(),
            tracestate: tracestate.into(),
            baggage: String::new(),
        })
    };
    assert_eq!(with(GOOD, "a=1"), Ok(()));
    assert_eq!(with("00-x", ""), Err(ParentError::Traceparent));
    assert_eq!(with("00\0", ""), Err(ParentError::Traceparent));
    assert_eq!(with(GOOD, "A=1"), Err(ParentError::Tracestate));
    assert_eq!(with(GOOD, "a\0=1"), Err(ParentError::Tracestate));
    assert_eq!(with("", ""), Ok(()));
}
