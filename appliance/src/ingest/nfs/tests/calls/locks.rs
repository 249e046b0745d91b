//! NLM, which refuses.

use super::super::harness::*;
use crate::ingest::nfs::wire::NLM_PROGRAM;

/// Calls NLM with a cookie and what may follow it, and returns what follows the cookie in the results.
fn ask(client: &Client, procedure: u32, cookie: &[u8]) -> Vec<u32> {
    let xid = client.next_xid();
    let record = client.encode(xid, NLM_PROGRAM, 4, procedure, |out| {
        out.opaque(cookie);
        (0..20).for_each(|word| out.u32(word));
    });
    let mut results = results(client.send(record).expect("an answer"), xid);
    assert_eq!(results.opaque(), cookie);
    let words = std::iter::from_fn(|| (!results.bytes.is_empty()).then(|| results.u32()));
    words.collect()
}

#[test]
fn a_lock_is_refused_at_once_and_nothing_waits() {
    let client = Client::new();
    for cookie in [&b""[..], b"1234", &[7; 1024]] {
        for (procedure, name) in [(1, "TEST"), (2, "LOCK"), (22, "NM_LOCK")] {
            assert_eq!(ask(&client, procedure, cookie), [2], "{name}: NLM4_DENIED_NOLOCKS");
        }
        assert_eq!(ask(&client, 3, cookie), [1], "CANCEL: nothing is waited for");
        assert_eq!(ask(&client, 4, cookie), [0], "UNLOCK: what nobody holds is free");
        assert_eq!(ask(&client, 20, cookie), [2, 0], "SHARE has a sequence number, too");
        assert_eq!(ask(&client, 21, cookie), [0, 0]);
    }
    for procedure in [0, 23] {
        let xid = client.next_xid();
        let record = client.encode(xid, NLM_PROGRAM, 4, procedure, |_| {});
        results(client.send(record).expect("an answer"), xid).end();
    }
}

#[test]
fn what_is_no_call_of_nlm_is_told_so() {
    let client = Client::new();
    let state = |version, procedure, cookie: &[u8]| {
        let record = client.encode(5, NLM_PROGRAM, version, procedure, |out| out.opaque(cookie));
        let reply = client.send(record).expect("an answer");
        reply.chunks(4).skip(5).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(state(1, 2, b""), [2, 4, 4], "version 1 is for NFSv2");
    assert_eq!(state(4, 7, b""), [3], "LOCK_MSG would be answered by a call");
    assert_eq!(state(4, 99, b""), [3]);
    assert_eq!(state(4, 2, &[7; 1025]), [4], "a cookie that is too long");
    assert_eq!(client.session.counts().refused, 4);
}
