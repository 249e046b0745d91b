//! One host whose calls take long: others, and what needs no disk, are served as if nothing was.

use super::*;

const HOG: [u8; 4] = [127, 0, 0, 2];

#[test]
fn who_holds_workers_leaves_some_to_others_and_to_itself() {
    let rig = Rig::new(|config| config.workers_max = 16);
    let mut hogs: Vec<Wire> = (0..10).map(|_| rig.connect_from(HOG)).collect();
    for (number, hog) in (0..).zip(&mut hogs) {
        for call in 0..4 {
            hog.send(&[4 * number + call, WAIT], b"");
        }
    }
    (0..6).for_each(|_| assert!(rig.entered.recv_timeout(Duration::from_secs(20)).is_ok()));
    // What it asks beside that is answered, on each of its connections.
    hogs.iter_mut().for_each(Wire::works);
    // Another one's calls are carried out, long ones too: half of the places that are left.
    let mut other = rig.connect();
    other.works();
    for number in 100..103 {
        other.send(&[number, WAIT], b"");
    }
    let mut begun: Vec<u32> =
        (0..3).map(|_| rig.entered.recv_timeout(Duration::from_secs(20)).expect("it has places")).collect();
    begun.sort_unstable();
    assert_eq!(begun, [100, 101, 102], "six of twelve places are the first one's");
    assert!(rig.server.status().workers <= 16);
    // And none is forgotten.
    (0..43).for_each(|_| rig.release.send(()).unwrap());
    for (number, hog) in (0..).zip(&mut hogs) {
        let mut answered: Vec<u32> = (0..4).map(|_| hog.answered()).collect();
        answered.sort_unstable();
        assert_eq!(answered, (4 * number..4 * number + 4).collect::<Vec<_>>());
    }
    let mut answered: Vec<u32> = (0..3).map(|_| other.answered()).collect();
    answered.sort_unstable();
    assert_eq!(answered, [100, 101, 102]);
    rig.until("all is given back", |status| status.bytes_under_way == 0);
}

#[test]
fn who_holds_memory_leaves_some_to_others() {
    let rig = Rig::new(|config| config.memory_bytes = 8 << 20);
    let mut hogs: Vec<Wire> = (0..4).map(|_| rig.connect_from(HOG)).collect();
    for hog in &mut hogs {
        hog.0.set_nonblocking(true).unwrap();
    }
    // Calls of 256 KiB that hang, until no more of them are read.
    let call = record(&[1, WAIT], &[7; 256 << 10]);
    let mut sent = [0; 4];
    let (mut held, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        for (hog, sent) in hogs.iter_mut().zip(&mut sent) {
            if let Ok(more) = hog.0.write(&call[*sent..]) {
                *sent = (*sent + more) % call.len();
            }
        }
        let now = rig.server.status().bytes_under_way;
        if now != held {
            (held, since) = (now, Instant::now());
        }
    }
    assert!(held <= (4 << 20) + 4 * (512 << 10), "{held} bytes");
    // There is room for large calls of another one, at once.
    let mut other = rig.connect();
    for _ in 0..4 {
        other.send(&[5, ECHO], &[9; 1 << 20]);
        assert_eq!(other.receive().unwrap().len(), 4 + (1 << 20));
    }
    // How many calls there were depends on how much the kernel took for the hogs: each is let go when it is here.
    drop(hogs);
    rig.until("all is given back", |status| {
        rig.entered.try_iter().for_each(|_| rig.release.send(()).unwrap());
        status.connections == 1 && status.bytes_under_way == 0
    });
}

#[test]
fn a_call_whose_connection_is_closed_before_it_gets_a_place_is_dropped() {
    let rig = Rig::new(|config| config.workers_max = 4);
    let mut hog = rig.connect_from(HOG);
    hog.send(&[7, LINGER], b"");
    assert_eq!(rig.entered.recv_timeout(Duration::from_secs(20)), Ok(7), "it is asked whether it may wait");
    hog.0.write_all(&[0xff; 4]).unwrap();
    assert_eq!(hog.receive(), None);
    rig.until("it is gone", |status| status.connections == 0);
    rig.release.send(()).unwrap();
    rig.until("all is given back", |status| status.bytes_under_way == 0);
    assert!(rig.entered.try_recv().is_err(), "it is not carried out");
}

#[test]
fn calls_that_wait_for_a_place_go_with_their_connection() {
    let rig = Rig::new(|config| config.workers_max = 4);
    let mut hog = rig.connect_from(HOG);
    for number in 0..20 {
        hog.send(&[number, WAIT], b"");
    }
    // Which two, is a matter of which workers are quicker.
    assert_ne!(rig.entered.recv().unwrap(), rig.entered.recv().unwrap());
    // What it says next makes no sense.
    hog.0.write_all(&[0xff; 4]).unwrap();
    assert_eq!(hog.receive(), None);
    rig.until("it is gone", |status| status.connections == 0);
    let mut other = rig.connect();
    other.works();
    (0..2).for_each(|_| rig.release.send(()).unwrap());
    rig.until("all is given back", |status| status.bytes_under_way == 0);
    other.send(&[50, WAIT], b"");
    assert_eq!(rig.entered.recv_timeout(Duration::from_secs(20)), Ok(50), "none of those that waited is carried out");
    rig.release.send(()).unwrap();
    assert_eq!(other.answered(), 50);
}
