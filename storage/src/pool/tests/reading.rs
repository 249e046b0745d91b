//! What reading costs, and checks by several threads.

use super::*;
use crate::media::Tally;

#[test]
fn what_lies_near_is_read_at_once_and_what_lies_apart_is_asked_for_at_once() {
    let disk = SimDisk::new(1);
    let (pool, _) = open(&disk);
    let chunks: Vec<_> = (0..30).map(|nth| content(nth, 2000)).collect();
    // By turns into the containers of two streams.
    let put = |(nth, chunk): (usize, &Vec<u8>)| pool.put(StreamId(nth as u64 % 2), Kind::Chunk, chunk).unwrap().name;
    let names: Vec<Name> = chunks.iter().enumerate().map(put).collect();
    pool.close().unwrap();
    drop(pool);
    let tally = Tally::new(Arc::new(disk.clone()));
    let (pool, _) = Pool::open(Arc::new(tally.clone()), STORE, Realm::published(), options()).unwrap();
    assert_eq!(pool.contains_batch(Kind::Chunk, &names).unwrap(), [true; 30]);
    let cost = |names: &[Name], contents: &[&Vec<u8>]| {
        let before = tally.folder(CONTAINERS_DIR);
        assert_eq!(pool.read_run(Kind::Chunk, names).unwrap(), contents);
        let spent = tally.folder(CONTAINERS_DIR) - before;
        (spent.reads, spent.hints)
    };
    let mut contents: Vec<_> = chunks.iter().collect();
    assert_eq!(cost(&names, &contents), (2, 1), "two containers");
    // The last one is in memory. Backwards, with gaps between them:
    contents.reverse();
    let backwards: Vec<Name> = names.iter().rev().copied().collect();
    let some = |nth: &usize| nth % 5 < 2;
    let names: Vec<Name> = (0..30).filter(some).map(|nth| backwards[nth]).collect();
    let contents: Vec<_> = (0..30).filter(some).map(|nth| contents[nth]).collect();
    assert_eq!(cost(&names, &contents), (2, 1), "two containers, a third of them");
    assert_eq!(cost(&names[2..4], &contents[2..4]), (2, 1));
}

#[test]
fn threads_that_check_together_find_what_one_finds_while_others_put() {
    let disk = SimDisk::new(1);
    let (pool, _) = open(&disk);
    fill(&pool, 1, 40);
    pool.close().unwrap();
    drop(pool);
    let containers: Vec<String> = disk.paths().into_iter().filter(|file| file.starts_with(CONTAINERS_DIR)).collect();
    // Objects in some, and the end of others, so that only the index knows what lies there.
    for (nth, file) in containers.iter().enumerate().filter(|(nth, _)| nth.is_multiple_of(2)) {
        let len = disk.contents(file).unwrap().len() as u64;
        disk.rot(file, if nth.is_multiple_of(4) { 5000 % len } else { len - 3 }, 1).unwrap();
    }
    let (pool, _) = open(&disk);
    let sorted = |mut report: CheckReport| {
        report.damage.sort_by_key(|damage| (damage.file.clone(), damage.offset));
        report
    };
    let alone = sorted(pool.check(true, |_| true).unwrap());
    assert!(alone.damage.len() > 3 && alone.progress.containers > 5, "{alone:?}");
    let verifying = pool.verify(true).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| while verifying.step().unwrap() {});
        }
        scope.spawn(|| fill(&pool, 2, 20));
    });
    assert_eq!(verifying.progress().containers, alone.progress.containers);
    assert_eq!(sorted(verifying.end().unwrap()), alone);
}
