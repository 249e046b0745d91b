//! What comes home through the worker: whole and by its name, or visibly not; a few at once; and never by way of the pages' turns.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::browser::{Answer, Browser, Stream, connect, read_bytes};
use crate::fake::{LARGE_BYTES, Page, SESSION, VIEWER};

/// Begins a download and reads nothing of it.
fn begin(page: &Page, path: &str, session: &str) -> Stream {
    let mut stream = connect(page.address);
    let head = format!(
        "GET /datasets/office/download?path={path} HTTP/1.1\r\nHost: localhost\r\nCookie: __Host-narrowboat={session}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a page that listens");
    stream
}

/// An answer, and whether it was ended in order.
fn take(page: &Page, path: &str, session: &str) -> (Answer, bool) {
    let bytes = read_bytes(&mut begin(page, path, session));
    let text = String::from_utf8_lossy(&bytes);
    let answer = Answer::of(&text);
    let whole = match answer.header("content-length").parse::<usize>() {
        Ok(length) => answer.body.len() == length,
        Err(_) => answer.body.ends_with("0\r\n\r\n"),
    };
    (answer, whole)
}

#[test]
fn a_file_comes_by_its_name_and_is_nothing_that_a_browser_runs() {
    let page = Page::claimed();
    let (answer, whole) = take(&page, "page.html", SESSION);
    assert!(answer.status == 200 && whole && answer.body == "<script>alert(1)</script>", "{}", answer.body);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "25"),
        (
            "content-disposition",
            "attachment; filename=\"Zo____script_.html\"; filename*=UTF-8''Zo%C3%AB___script_.html",
        ),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), value);
    }
}

#[test]
fn what_breaks_off_is_seen_to_be_broken_off() {
    let page = Page::claimed();
    for path in ["broken", "short", "long", "wrong", "broken-folder"] {
        let (answer, whole) = take(&page, path, SESSION);
        assert!(answer.status == 200 && !whole, "{path}: {} bytes", answer.body.len());
    }
    assert!(take(&page, "sound", SESSION).1, "and no place is lost by it");
}

#[test]
fn only_who_may_and_is_signed_in_takes_anything_home() {
    let page = Page::claimed();
    let (viewer, _) = take(&page, "sound", VIEWER);
    assert!(viewer.status == 403 && viewer.body.contains("needs the role operator"), "{}", viewer.body);
    let (nobody, _) = take(&page, "sound", "made-up");
    assert_eq!((nobody.status, nobody.header("location")), (303, "/sign-in"));
    assert!(!Browser::signed_in(page.address, VIEWER).get("/datasets/office").body.contains("/files"));
}

#[test]
fn a_few_come_at_once_and_pages_do_not_wait_for_them() {
    let page = Page::claimed();
    let mut four: Vec<Stream> = (0..4).map(|_| begin(&page, "endless", SESSION)).collect();
    for stream in &mut four {
        stream.read_exact(&mut [0; 100]).expect("it has begun");
    }
    let (fifth, _) = take(&page, "sound", SESSION);
    assert!(fifth.status == 503 && fifth.body.contains("4 downloads are under way"), "{}", fifth.body);
    let begun = Instant::now();
    let mut browser = Browser::signed_in(page.address, SESSION);
    (0..5).for_each(|_| assert_eq!(browser.get("/datasets/office/files").status, 200));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // Whoever goes away leaves his place.
    four.pop();
    let deadline = Instant::now() + Duration::from_secs(20);
    while take(&page, "sound", SESSION).0.status != 200 {
        assert!(Instant::now() < deadline, "the place is not free again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_stops_reading_is_given_up_and_costs_little_meanwhile() {
    let page = Page::claimed();
    let mut stuck: Vec<Stream> = (0..4).map(|_| begin(&page, "endless", SESSION)).collect();
    for stream in &mut stuck {
        stream.read_exact(&mut [0; 100]).expect("it has begun");
    }
    std::thread::sleep(Duration::from_secs(2));
    let sent = page.memory().sent;
    assert!(sent < 64 << 20, "what nobody takes is not read: {sent} bytes");
    let begun = Instant::now();
    while take(&page, "sound", SESSION).0.status == 503 {
        assert!(begun.elapsed() < Duration::from_secs(100), "they still have their places");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(begun.elapsed() > Duration::from_secs(40), "a slow line has its time");
    for mut stream in stuck {
        assert!(!read_bytes(&mut stream).ends_with(b"0\r\n\r\n"), "its connection is cut");
    }
}

#[test]
fn a_worker_is_no_larger_for_what_it_hands_on() {
    let page = Page::claimed();
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", page.worker.id())).expect("a worker");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    assert!(take(&page, "sound", SESSION).1);
    let (before, begun) = (peak(), Instant::now());
    let mut stream = begin(&page, "large", SESSION);
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        bytes += count as u64;
    }
    let grown = peak() - before;
    println!("{bytes} bytes in {:?}; the worker's peak grew by {grown} KiB from {before} KiB", begun.elapsed());
    assert!((LARGE_BYTES..LARGE_BYTES + 2000).contains(&bytes), "{bytes}");
    assert!(grown < 8 << 10, "{grown} KiB");
}
