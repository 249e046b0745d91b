use std::cell::RefCell;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::files::Files;
use super::super::runner::{Hands, Runner};
use super::*;

const LASTS: Duration = Duration::from_secs(60);

fn at(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn fixed(address: &str) -> Wanted {
    Wanted { ipv4: "fixed".into(), address4: Some(format!("{address}/24")), ipv6: "off".into(), ..Wanted::default() }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A trial that is in force since second 2.
fn running(kept: Option<Wanted>, wanted: Wanted) -> Machine {
    let state = State { interface: "eth0".into(), kept, ..State::default() };
    let machine = Machine::new(state, LASTS).after(secs(0), Event::Started).expect("begun");
    let machine = machine.after(secs(0), Event::Begin("eth0".into(), wanted)).expect("sound");
    assert!(!machine.is_running() && machine.layout().trial.is_empty(), "the answer leaves first");
    let machine = machine.after(secs(2), Event::Passed).expect("time passes");
    assert!(machine.is_running());
    machine
}

fn came(address: &str, present: &[(&str, bool)]) -> From {
    let present = present.iter().map(|(address, asked)| Present { address: at(address), asked: *asked }).collect();
    From::Address(at(address), present)
}

#[test]
fn what_is_confirmed_at_the_new_address_is_kept() {
    let machine = running(Some(fixed("10.0.0.2")), fixed("10.0.7.2"));
    let old = came("10.0.0.2", &[("10.0.0.2", false), ("10.0.7.2", false)]);
    let refused = machine.after(secs(9), Event::Confirm(Some(1), old)).expect_err("the old address");
    assert!(refused.message.contains("10.0.0.2"), "{refused}");
    let kept = machine.after(secs(61), Event::Confirm(Some(1), came("::ffff:10.0.7.2", &[]))).expect("the new one");
    assert_eq!(kept.state().kept, Some(fixed("10.0.7.2")));
    assert!(kept.trial().is_none() && kept.layout().trial.is_empty());
    assert_eq!(kept.ended().map(|ended| &ended.how), Some(&How::Kept));
    // Who stands at the box sees what he does.
    assert!(machine.after(secs(9), Event::Confirm(None, From::Console)).is_ok());
}

#[test]
fn what_nobody_confirms_goes_back() {
    let machine = running(Some(fixed("10.0.0.2")), fixed("10.0.7.2"));
    assert!(machine.after(secs(61), Event::Passed).expect("time passes").is_running());
    let late = machine.after(secs(62), Event::Confirm(Some(1), came("10.0.7.2", &[]))).expect_err("too late");
    assert!(late.message.contains("too late"), "{late}");
    let back = machine.after(secs(62), Event::Passed).expect("time passes");
    assert_eq!(back.state().kept, Some(fixed("10.0.0.2")));
    assert_eq!(back.ended().map(|ended| &ended.how), Some(&How::TooLate));
    let later = back.after(secs(63), Event::Confirm(Some(1), From::Console)).expect_err("nothing is tried");
    assert!(later.message.contains("nobody confirmed it"), "{later}");
}

#[test]
fn two_administrators_do_not_get_into_each_others_way() {
    let machine = running(None, fixed("10.0.7.2"));
    let second = machine.after(secs(5), Event::Begin("eth0".into(), fixed("10.0.8.2"))).expect_err("one at a time");
    assert!(second.message.contains("58 s more"), "{second}");
    let back = machine.after(secs(6), Event::GoBack(Some(1))).expect("taken back");
    let next = back.after(secs(6), Event::Begin("eth0".into(), fixed("10.0.8.2"))).expect("now");
    let next = next.after(secs(8), Event::Passed).expect("time passes");
    // Who still looks at the first one says nothing about the second.
    for event in [Event::Confirm(Some(1), came("10.0.8.2", &[])), Event::GoBack(Some(1))] {
        assert!(next.after(secs(9), event).expect_err("another one").message.contains("another change"));
    }
    assert!(next.after(secs(9), Event::Confirm(Some(2), came("10.0.8.2", &[]))).is_ok());
    let same = next.after(secs(9), Event::Confirm(Some(2), From::Console)).expect("kept");
    assert!(same.after(secs(9), Event::Begin("eth0".into(), fixed("10.0.8.2"))).is_err(), "it is like that already");
}

#[test]
fn what_the_network_gave_is_told_from_what_was_there() {
    let dhcp = Wanted { ipv6: "off".into(), ..Wanted::default() };
    let machine = running(Some(fixed("10.0.0.2")), dhcp.clone());
    let came_by = |address: &str, present: &[(&str, bool)]| {
        machine.after(secs(9), Event::Confirm(None, came(address, present))).is_ok()
    };
    assert!(!came_by("10.0.0.2", &[("10.0.0.2", false)]), "it has not gone yet");
    assert!(!came_by("10.0.5.20", &[]), "nobody gave it");
    assert!(came_by("10.0.5.20", &[("10.0.5.20", true)]));
    assert!(came_by("10.0.0.2", &[("10.0.0.2", true)]), "the network gave the one that it had");
    // Only what changed shows anything, unless nothing did.
    let both = Wanted { ipv4: "fixed".into(), address4: Some("10.0.7.2/24".into()), ..Wanted::default() };
    let machine = running(Some(Wanted { ipv6: "auto".into(), ..fixed("10.0.0.2") }), both.clone());
    let six = [("2001:db8::5", true)];
    assert!(machine.after(secs(9), Event::Confirm(None, came("2001:db8::5", &six))).is_err());
    let servers = Wanted { dns: vec!["10.0.7.1".into()], ..both.clone() };
    let machine = running(Some(both), servers);
    assert!(machine.after(secs(9), Event::Confirm(None, came("2001:db8::5", &six))).is_ok());
    assert!(machine.after(secs(9), Event::Confirm(None, came("10.0.7.2", &[]))).is_ok());
    let moved = Wanted { vlan: Some("30".into()), ..dhcp.clone() };
    let machine = running(Some(dhcp), moved);
    assert!(machine.after(secs(9), Event::Confirm(None, came("10.0.5.20", &[("10.0.5.20", true)]))).is_ok());
}

/// The machine's disk and its kernel, as far as they matter here.
#[derive(Default)]
struct World {
    disk: State,
    etc: Files,
    run: Files,
    /// What networkd goes by: what comes first by name.
    in_force: Files,
    /// After so many steps the box is gone.
    steps_left: Option<u32>,
    told: Vec<How>,
}

impl World {
    fn step(&mut self) -> Result<(), String> {
        match &mut self.steps_left {
            Some(0) => Err("gone".into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn reload(&mut self) {
        self.in_force = if self.run.is_empty() { self.etc.clone() } else { self.run.clone() };
    }

    /// What lies in `/run` is gone, and the machine starts.
    fn power_cut(&mut self) {
        self.run.clear();
        self.reload();
    }
}

impl Hands for Rc<RefCell<World>> {
    fn keep(&mut self, state: &State) -> Result<(), String> {
        let mut world = self.borrow_mut();
        world.step()?;
        world.disk = state.clone();
        Ok(())
    }

    fn lay(&mut self, _: &str, layout: &Layout) -> Result<(), String> {
        let mut world = self.borrow_mut();
        if world.etc != layout.kept {
            world.step()?;
            world.etc = layout.kept.clone();
        }
        if world.run != layout.trial {
            world.step()?;
            world.run = layout.trial.clone();
        }
        world.step()?;
        world.reload();
        Ok(())
    }

    fn tell(&mut self, ended: &Ended) {
        self.borrow_mut().told.push(ended.how.clone());
    }
}

fn files_of(wanted: Option<&Wanted>) -> Files {
    let sound = wanted.map(|wanted| wanted.sound().expect("sound"));
    Layout::of("eth0", sound.as_ref(), None).kept
}

/// A box that starts on what lies there.
fn start(world: &Rc<RefCell<World>>, now: Duration) -> Runner<Rc<RefCell<World>>> {
    world.borrow_mut().steps_left = None;
    let machine = Machine::new(world.borrow().disk.clone(), LASTS);
    let mut runner = Runner::new(machine, world.clone());
    runner.take(now, Event::Started).expect("nothing fails");
    runner
}

/// One world from a seed: changes, confirmations right and wrong, time, and the end of the box or of the power at any step.
fn world(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let world = Rc::new(RefCell::new(World::default()));
    let mut now = Duration::ZERO;
    let mut runner = start(&world, now);
    // What somebody has confirmed; where the box was gone in the middle of that, either counts.
    let mut confirmed: Vec<Option<Wanted>> = vec![None];
    for _ in 0..60 {
        now += Duration::from_millis(random.random_range(0..20_000));
        if random.random_range(0..4) == 0 {
            world.borrow_mut().steps_left = Some(random.random_range(0..4));
        }
        let before = runner.machine().clone();
        let wanted = fixed(&format!("10.0.{}.2", random.random_range(1..6)));
        let number = [None, Some(before.state().trials), Some(before.state().trials.saturating_sub(1))]
            [random.random_range(0..3)];
        let new = before.trial().and_then(|trial| trial.wanted.sound().ok()).map(|sound| sound.fixed()[0]);
        let event = match random.random_range(0..7) {
            0 | 1 => Event::Begin("eth0".into(), wanted.clone()),
            2 => Event::Confirm(number, From::Address(new.unwrap_or(at("10.0.1.2")), Vec::new())),
            3 => Event::Confirm(number, From::Address(at("10.9.9.9"), Vec::new())),
            4 => Event::GoBack(number),
            _ => Event::Passed,
        };
        let trial = before.trial().map(|trial| trial.wanted.clone());
        let lied = matches!(event, Event::Confirm(_, From::Address(from, _)) if from == at("10.9.9.9"));
        let outcome = runner.take(now, event.clone());
        let gone = world.borrow().steps_left == Some(0);
        if runner.machine().state().kept != before.state().kept
            || (gone && world.borrow().disk.kept != before.state().kept)
        {
            assert!(matches!(event, Event::Confirm(..)) && !lied && before.is_running(), "seed {seed}: {event:?}");
            assert!(before.left(now) > Some(Duration::ZERO), "seed {seed}: too late");
            confirmed = vec![trial];
        }
        if gone || random.random_range(0..12) == 0 {
            if random.random_bool(0.5) {
                world.borrow_mut().power_cut();
                let (seen, world) = (confirmed.iter().map(|kept| files_of(kept.as_ref())), world.borrow());
                // The order of writing: the state first, so at most one confirmation is not in the files yet.
                let earlier = files_of(before.state().kept.as_ref());
                assert!(
                    seen.chain([earlier]).any(|files| files == world.in_force),
                    "seed {seed}: {:?}",
                    world.in_force
                );
            }
            drop(runner);
            runner = start(&world, now);
            let world = world.borrow();
            let kept = confirmed.iter().find(|kept| **kept == world.disk.kept);
            assert_eq!(Some(&world.in_force), kept.map(|kept| files_of(kept.as_ref())).as_ref(), "seed {seed}");
            assert!(world.run.is_empty() && world.disk.trial.is_none(), "seed {seed}: a trial outlived the box");
            continue;
        }
        world.borrow_mut().steps_left = None;
        if outcome.is_err() {
            assert_eq!(runner.machine().state().kept, before.state().kept, "seed {seed}");
        }
        // Time always passes, too: whatever is over is over.
        runner.take(now, Event::Passed).expect("nothing fails");
        let (machine, world) = (runner.machine(), world.borrow());
        assert_eq!(world.disk, *machine.state(), "seed {seed}");
        assert!(machine.left(now).is_none_or(|left| left > Duration::ZERO), "seed {seed}: it lasts too long");
        let expected = machine.trial().filter(|_| machine.is_running()).map_or_else(
            || files_of(machine.state().kept.as_ref()),
            |trial| Layout::of("eth0", None, trial.wanted.sound().ok().as_ref()).trial,
        );
        assert_eq!(world.in_force, expected, "seed {seed}: after {event:?}");
    }
}

#[test]
fn no_end_at_any_step_leaves_what_nobody_confirmed() {
    let seeds = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    (0..seeds).for_each(world);
}

#[test]
fn what_can_not_be_put_in_force_goes_back_and_says_why() {
    let world = Rc::new(RefCell::new(World::default()));
    let mut runner = start(&world, secs(0));
    runner.take(secs(0), Event::Begin("eth0".into(), fixed("10.0.7.2"))).expect("sound");
    // The file is written; networkd does not answer, and takes the way back.
    world.borrow_mut().steps_left = Some(1);
    let outcome = runner.take(secs(2), Event::Passed);
    assert!(outcome.is_err() && runner.owed().is_none() == runner.machine().is_running(), "{outcome:?}");
    world.borrow_mut().steps_left = None;
    runner.take(secs(3), Event::Passed).expect("it goes on");
    // The disk took nothing either, so the trial was still one; time ends it.
    runner.take(secs(99), Event::Passed).expect("it goes on");
    let world = world.borrow();
    assert!(world.run.is_empty() && world.in_force.is_empty() && !world.told.is_empty(), "{:?}", world.told);
}
