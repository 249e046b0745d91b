//! More clients than there are connections for, and hosts that the program has nothing for.

use super::*;

#[test]
fn a_new_connection_takes_the_place_of_the_one_that_was_idle_longest() {
    let rig = Rig::new(|config| config.connections_max = 3);
    let mut clients: Vec<Wire> = (0..3).map(|_| rig.connect()).collect();
    for client in clients.iter_mut().rev() {
        client.works();
        rig.until("its worker is done with it", |status| status.bytes_under_way == 0);
    }
    clients[2].send(&[1, WAIT], b"");
    rig.entered.recv().unwrap();
    let mut newcomer = rig.connect();
    newcomer.works();
    assert_eq!(clients[1].receive(), None, "it was idle longest, but for the one at work");
    clients[0].works();
    for client in [&mut clients[0], &mut newcomer] {
        client.send(&[2, WAIT], b"");
        rig.entered.recv().unwrap();
    }
    assert_eq!(rig.connect().receive(), None, "all are at work");
    (0..3).for_each(|_| rig.release.send(()).unwrap());
    assert_eq!(clients[2].answered(), 1);
}

#[test]
fn one_host_that_takes_every_connection_keeps_nobody_out() {
    let rig = Rig::new(|config| config.connections_max = 40);
    let mut neighbour = rig.connect_from([127, 0, 0, 3]);
    neighbour.works();
    let mut crowd: Vec<Wire> = (0..39).map(|_| rig.connect_from([127, 0, 0, 2])).collect();
    for client in &mut crowd {
        client.0.write_all(&record(&[1, ECHO], &[0; 100])[..50]).unwrap();
    }
    rig.until("every slot is taken", |status| status.connections == 40);
    let mut mount: Vec<Wire> = (0..16).map(|_| rig.connect_from([127, 0, 0, 4])).collect();
    mount.iter_mut().for_each(Wire::works);
    for _ in 0..10 {
        crowd.push(rig.connect_from([127, 0, 0, 2]));
    }
    mount.iter_mut().for_each(Wire::works);
    neighbour.works();
}

#[test]
fn a_host_that_keeps_its_connections_at_work_loses_what_is_beyond_its_share() {
    let rig = Rig::new(|config| config.connections_max = 18);
    let mut crowd: Vec<Wire> = (0..18).map(|_| rig.connect_from([127, 0, 0, 2])).collect();
    for (number, client) in (0..).zip(&mut crowd) {
        client.send(&[number, WAIT], b"");
        rig.entered.recv().unwrap();
    }
    let (mut one, mut other) = (rig.connect_from([127, 0, 0, 3]), rig.connect_from([127, 0, 0, 4]));
    one.works();
    other.works();
    one.send(&[50, WAIT], b"");
    rig.entered.recv().unwrap();
    other.send(&[51, WAIT], b"");
    rig.entered.recv().unwrap();
    assert_eq!(rig.connect_from([127, 0, 0, 5]).receive(), None, "sixteen stay");
    (0..20).for_each(|_| rig.release.send(()).unwrap());
    let [mut first, mut second, rest @ ..] = <[Wire; 18]>::try_from(crowd).ok().unwrap();
    assert_eq!((first.receive(), second.receive()), (None, None), "the quietest of the greediest");
    let mut answered: Vec<u32> = rest.into_iter().map(|mut client| client.answered()).collect();
    answered.sort_unstable();
    assert_eq!(answered, (2..18).collect::<Vec<_>>());
    assert_eq!((one.answered(), other.answered()), (50, 51));
}

#[test]
fn strangers_have_few_connections_and_not_for_long() {
    let rig = Rig::new(|config| {
        config.connections_max = 8;
        config.strangers_max = 2;
        config.stranger_idle = Duration::from_secs(2);
    });
    let mut client = rig.connect();
    let mut strangers: Vec<Wire> = (1..=3).map(|host| rig.connect_from([127, 9, 0, host])).collect();
    strangers[2].works();
    assert_eq!(strangers[0].receive(), None, "made room");
    for stranger in &mut strangers {
        stranger.0.write_all(&[0x80]).unwrap_or_default();
    }
    rig.until("the others are let go", |status| status.connections == 1);
    client.works();
}

#[test]
fn strangers_cannot_hold_memory_that_clients_wait_for() {
    let rig = Rig::new(|config| config.memory_bytes = 2 << 20);
    let (long, fragmented) = (record(&[1, ECHO], &[0; 1 << 20]), 8u32.to_be_bytes());
    for begun in [&long[..100], &fragmented] {
        let mut half_sent: Vec<Wire> = (0..4).map(|_| rig.connect_from([127, 9, 0, 1])).collect();
        for stranger in &mut half_sent {
            stranger.0.write_all(begun).unwrap();
            assert_eq!(stranger.receive(), None, "let go at once");
        }
    }
    let mut asking = rig.connect_from([127, 9, 0, 1]);
    asking.send(&[5, ECHO], &[7; 4096]);
    assert_eq!(asking.answered(), 5, "short calls are heard");
    rig.until("all is given back", |status| status.bytes_under_way == 0);
}
