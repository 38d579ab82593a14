use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn down() -> Fault {
    Fault::Unreachable("no route".into())
}

fn go(pace: &mut Pace, now: Duration) -> Ticket {
    match pace.enter(now) {
        Enter::Go(ticket) => ticket,
        other => panic!("at {now:?} it is {other:?}"),
    }
}

/// Closes the gate with one fault; returns when it can be passed again.
fn close(pace: &mut Pace, fault: &Fault, now: Duration) -> Duration {
    let ticket = go(pace, now);
    now + pace.leave(ticket, Left::Failed(fault), now, 0.0).expect("closed")
}

/// So many that go in and come out well, one after the other.
fn go_well(pace: &mut Pace, times: usize, now: Duration) {
    for _ in 0..times {
        let ticket = go(pace, now);
        assert_eq!(pace.leave(ticket, Left::Answered, now, 0.0), None);
    }
}

// E16
#[test]
fn while_dstor_is_down_one_asks_and_the_others_wait() {
    let mut pace = Pace::new(4);
    let (first, second) = (go(&mut pace, seconds(0)), go(&mut pace, seconds(0)));
    let wait = pace.leave(first, Left::Failed(&down()), seconds(0), 0.5).expect("closed");
    assert_eq!(pace.leave(second, Left::Failed(&down()), seconds(0), 1.0), Some(wait), "another one adds nothing");
    assert_eq!(pace.enter(seconds(0)), Enter::At(wait));
    let probe = go(&mut pace, wait);
    assert!(probe.is_probe());
    assert_eq!(pace.enter(seconds(3600)), Enter::WhenChanged, "and only one");
    pace.leave(probe, Left::Answered, wait, 0.0);
    assert!(!go(&mut pace, wait).is_probe());
}

#[test]
fn a_probe_that_had_nothing_to_ask_leaves_it_to_the_next() {
    for how in [Left::Unasked, Left::Failed(&Fault::Moved)] {
        let mut pace = Pace::new(4);
        let at = close(&mut pace, &down(), seconds(0));
        let probe = go(&mut pace, at);
        pace.leave(probe, how, at, 0.0);
        assert!(go(&mut pace, at).is_probe());
        assert_eq!(pace.facts().failures, 1);
    }
}

/// All requests in the first minute to a server that fails each of them after `takes`, with `workers` that never rest.
fn asked_in_a_minute(workers: usize, takes: Duration, fault: &Fault) -> usize {
    let mut pace = Pace::new(workers);
    let (mut now, mut asked) = (seconds(0), 0);
    let mut out: Vec<(Duration, Ticket)> = Vec::new();
    while now < seconds(60) {
        let mut next = seconds(60);
        while out.len() < workers {
            match pace.enter(now) {
                Enter::Go(ticket) => {
                    asked += 1;
                    out.push((now + takes, ticket));
                }
                Enter::At(at) => {
                    next = next.min(at);
                    break;
                }
                Enter::WhenChanged => break,
            }
        }
        next = out.iter().map(|(ends, _)| *ends).fold(next, Duration::min);
        now = next;
        let (ended, still) = out.into_iter().partition::<Vec<_>, _>(|(ends, _)| *ends <= now);
        out = still;
        for (_, ticket) in ended {
            // The least of chances makes the shortest waits.
            pace.leave(ticket, Left::Failed(fault), now, 0.0);
        }
    }
    asked
}

// P5, E16
#[test]
fn a_server_that_only_fails_is_asked_less_than_twelve_times_a_minute() {
    for fault in [
        down(),
        Fault::ServerError(500),
        Fault::Quota(402),
        Fault::Protocol("no hash".into()),
        Fault::Busy { status: 503, after: None },
        Fault::Busy { status: 429, after: Some(Duration::from_nanos(1)) },
    ] {
        for workers in [1, 4, 16, 1_000] {
            for takes in [Duration::ZERO, Duration::from_millis(300), seconds(5)] {
                let asked = asked_in_a_minute(workers, takes, &fault);
                assert!((1..12).contains(&asked), "{asked} requests with {workers} workers, {takes:?}, {fault:?}");
            }
        }
    }
}

// E15
#[test]
fn what_retry_after_asks_for_holds_for_everyone() {
    let mut pace = Pace::new(4);
    let slow = go(&mut pace, seconds(0));
    let busy = |after| Fault::Busy { status: 429, after: Some(seconds(after)) };
    assert_eq!(close(&mut pace, &busy(600), seconds(0)), seconds(600));
    assert_eq!(pace.enter(seconds(599)), Enter::At(seconds(600)));
    assert_eq!(pace.closed_for(seconds(590)), seconds(10));
    // One who was under way brings other word: the longer counts.
    assert_eq!(pace.leave(slow, Left::Failed(&busy(1_000)), seconds(300), 0.0), Some(seconds(1_000)));
    assert_eq!(pace.enter(seconds(600)), Enter::At(seconds(1_300)));

    let asked_all = Fault::Busy { status: 503, after: Some(seconds(1_000_000)) };
    let probe = go(&mut pace, seconds(1_300));
    assert_eq!(pace.leave(probe, Left::Failed(&asked_all), seconds(1_300), 1.0), Some(seconds(3_600)));
}

#[test]
fn a_person_who_says_that_it_is_time_lets_one_go_and_see() {
    let mut pace = Pace::new(4);
    let asked = Duration::from_secs(3600);
    let until = close(&mut pace, &Fault::Busy { status: 503, after: Some(asked) }, seconds(0));
    assert!(until >= asked);
    pace.try_now(seconds(5));
    let probe = go(&mut pace, seconds(5));
    assert!(probe.is_probe());
    pace.try_now(seconds(6));
    assert_eq!(pace.enter(seconds(6)), Enter::WhenChanged, "no crowd for all that");
}

#[test]
fn a_file_that_is_refused_closes_nothing() {
    let mut pace = Pace::new(4);
    let refused = Fault::Refused { status: 400, message: String::new() };
    let ticket = go(&mut pace, seconds(0));
    assert_eq!(pace.leave(ticket, Left::Failed(&refused), seconds(0), 0.0), None);
    assert!(!go(&mut pace, seconds(0)).is_probe());
    assert_eq!(pace.facts().reachable, Some(true));
}

// E13
#[test]
fn credentials_are_looked_at_every_fifteen_seconds_and_say_nothing_of_the_network() {
    let mut pace = Pace::new(4);
    let refused = Fault::Credentials("refused".into());
    let mut now = seconds(0);
    for _ in 0..100 {
        now = close(&mut pace, &refused, now);
    }
    assert_eq!(now, seconds(1_500));
    assert_eq!(
        pace.facts(),
        GateFacts { reachable: None, last_error: Some("refused".into()), failures: 100, is_broken_off: false }
    );
}

// E16
#[test]
fn a_fault_halves_what_may_be_under_way_and_answers_win_it_back_one_by_one() {
    let mut pace = Pace::new(16);
    assert_eq!(pace.in_flight_limit(), 4);
    go_well(&mut pace, 2, seconds(0));
    assert_eq!(pace.in_flight_limit(), 16, "nothing failed yet: quickly to all of them");
    go_well(&mut pace, 100, seconds(0));
    assert_eq!(pace.in_flight_limit(), 16);

    // Eight fail together: that is one fault.
    let all: Vec<Ticket> = (0..8).map(|_| go(&mut pace, seconds(0))).collect();
    for ticket in all {
        pace.leave(ticket, Left::Failed(&down()), seconds(0), 0.0);
    }
    assert_eq!((pace.in_flight_limit(), pace.in_flight()), (8, 0));
    let again = close(&mut pace, &down(), seconds(2));
    assert_eq!(pace.in_flight_limit(), 4);

    go_well(&mut pace, 1, again);
    assert_eq!(pace.in_flight_limit(), 1, "the gate opens for one at a time");
    go_well(&mut pace, 3, again);
    assert_eq!(pace.in_flight_limit(), 4, "quickly to the half of where it failed");
    go_well(&mut pace, 3, again);
    assert_eq!(pace.in_flight_limit(), 4);
    go_well(&mut pace, 1, again);
    assert_eq!(pace.in_flight_limit(), 5, "then one more for each round");
    go_well(&mut pace, (5..16).sum::<usize>() - 1, again);
    assert_eq!(pace.in_flight_limit(), 15);
    go_well(&mut pace, 1, again);
    assert_eq!(pace.in_flight_limit(), 16);
}

#[test]
fn a_refusal_of_the_account_makes_nothing_slower_afterwards() {
    let mut pace = Pace::new(4);
    go_well(&mut pace, 1, seconds(0));
    let at = close(&mut pace, &Fault::Credentials("refused".into()), seconds(0));
    go_well(&mut pace, 4, at);
    assert_eq!(pace.in_flight_limit(), 4);
}

#[test]
fn word_from_before_the_gate_closed_neither_opens_nor_closes_it() {
    let mut pace = Pace::new(4);
    let (early, late) = (go(&mut pace, seconds(0)), go(&mut pace, seconds(0)));
    let at = close(&mut pace, &down(), seconds(0));
    pace.leave(early, Left::Answered, seconds(0), 0.0);
    let last_error = Some(down().message());
    assert_eq!(pace.facts(), GateFacts { reachable: Some(true), last_error, failures: 1, is_broken_off: false });
    assert_eq!(pace.enter(seconds(0)), Enter::At(at));
    let probe = go(&mut pace, at);
    assert!(pace.leave(late, Left::Failed(&down()), at, 0.0).is_some());
    assert_eq!(pace.enter(at), Enter::WhenChanged, "the probe is still out");
    pace.leave(probe, Left::Answered, at, 0.0);
    assert!(!go(&mut pace, at).is_probe());
}

mod over_time {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Deed {
        Enter,
        Leave(usize, u8),
        Rest(usize),
        Rise(usize),
        Pass(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => Just(Deed::Enter),
            4 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Deed::Leave(which, how)),
            2 => any::<usize>().prop_map(Deed::Rest),
            1 => any::<usize>().prop_map(Deed::Rise),
            2 => (0u64..70_000).prop_map(Deed::Pass),
        ]
    }

    fn fault(number: u8) -> Fault {
        match number % 9 {
            0 => down(),
            1 => Fault::ServerError(500),
            2 => Fault::Busy { status: 429, after: None },
            3 => Fault::Busy { status: 503, after: Some(seconds(u64::from(number))) },
            4 => Fault::Credentials("refused".into()),
            5 => Fault::Quota(402),
            6 => Fault::Protocol("no hash".into()),
            7 => Fault::Refused { status: 413, message: String::new() },
            _ => Fault::Moved,
        }
    }

    proptest! {
        /// Whatever comes: no more than allowed, one probe, closed is closed, and nobody waits for what never comes.
        #[test]
        fn the_gate_keeps_its_promises(most in 0usize..20, deeds in proptest::collection::vec(deed(), 1..300), chance in 0.0f64..1.0) {
            let mut pace = Pace::new(most);
            let mut now = Duration::ZERO;
            let mut out: Vec<Ticket> = Vec::new();
            let mut closed_until: Option<Duration> = None;
            for deed in deeds {
                let under_way = pace.in_flight();
                match deed {
                    Deed::Rest(which) if !out.is_empty() => {
                        let which = which % out.len();
                        let is_probe = out[which].is_probe();
                        let may = pace.rest(&mut out[which]);
                        prop_assert!(!may || (!is_probe && closed_until.is_none()), "only while dStor answers well");
                        prop_assert!(!may || pace.resting <= pace.in_flight_limit());
                    }
                    Deed::Rise(which) if !out.is_empty() => {
                        let which = which % out.len();
                        pace.rise(&mut out[which]);
                    }
                    Deed::Rest(_) | Deed::Rise(_) => {}
                    Deed::Pass(ms) => now += Duration::from_millis(ms),
                    Deed::Enter => match pace.enter(now) {
                        Enter::Go(ticket) => {
                            prop_assert!(closed_until.is_none_or(|until| now >= until), "closed is closed");
                            prop_assert_eq!(ticket.is_probe(), closed_until.is_some(), "after it was closed one goes alone");
                            prop_assert!(ticket.is_probe() || under_way < pace.in_flight_limit());
                            prop_assert!(!out.iter().any(Ticket::is_probe), "nobody goes beside a probe");
                            out.push(ticket);
                        }
                        Enter::At(at) => {
                            prop_assert!(at > now);
                            prop_assert_eq!(pace.closed_for(now), at - now);
                            prop_assert_eq!(closed_until, Some(at), "what the last one to leave was told holds");
                            prop_assert_eq!(pace.enter(now), Enter::At(at), "asking changes nothing");
                        }
                        Enter::WhenChanged => {
                            prop_assert!(out.iter().any(|ticket| !ticket.is_resting), "someone will leave");
                            prop_assert_eq!(pace.enter(now + seconds(1_000_000)), Enter::WhenChanged, "time changes nothing");
                        }
                    },
                    Deed::Leave(which, how) => {
                        if out.is_empty() {
                            continue;
                        }
                        let ticket = out.swap_remove(which % out.len());
                        let is_probe = ticket.is_probe();
                        let fault = fault(how / 3);
                        let how = match how % 3 {
                            0 => Left::Unasked,
                            1 => Left::Answered,
                            _ => Left::Failed(&fault),
                        };
                        let probe_is_out = out.iter().any(Ticket::is_probe);
                        let wait = pace.leave(ticket, how, now, chance);
                        let concerns_all = matches!(how, Left::Failed(fault) if fault.scope() == Scope::Account);
                        prop_assert_eq!(wait.is_some(), concerns_all);
                        match (wait, how) {
                            (Some(wait), _) if !probe_is_out => {
                                prop_assert_eq!(pace.closed_for(now), wait);
                                closed_until = Some(now + wait);
                            }
                            (_, Left::Answered | Left::Failed(Fault::Refused { .. })) if is_probe => closed_until = None,
                            _ => {}
                        }
                    }
                }
                let resting = out.iter().filter(|ticket| ticket.is_resting).count();
                prop_assert_eq!((pace.in_flight(), pace.resting), (out.len() - resting, resting));
                prop_assert!((1..=most.max(1)).contains(&pace.in_flight_limit()));
            }
            // However it stands: once all have left and the time has come, one may go.
            for ticket in out {
                pace.leave(ticket, Left::Unasked, now, chance);
            }
            let at = now + pace.closed_for(now);
            prop_assert!(matches!(pace.enter(at), Enter::Go(_)));
        }
    }
}

// E7: what is always broken off holds nobody up for long, once dStor is known to be there.
#[test]
fn after_a_sign_of_life_the_gate_is_closed_for_seconds_and_not_for_longer_and_longer() {
    let mut pace = Pace::new(1);
    let mut now = Duration::ZERO;
    for _ in 0..20 {
        let Enter::Go(ticket) = pace.enter(now) else { panic!("nobody may go") };
        let broken = Fault::BrokenOff("reset".into());
        let wait = pace.leave(ticket, Left::Failed(&broken), now, 1.0).expect("closed");
        assert!(wait <= Duration::from_secs(8), "{wait:?}");
        now += wait;
        pace.gave_sign();
        assert_eq!((pace.facts().reachable, pace.facts().last_error.is_some()), (Some(true), true));
    }
}

#[test]
fn who_rests_makes_room_for_as_many_as_may_be_under_way_and_no_more() {
    let mut pace = Pace::new(2);
    let now = seconds(0);
    let mut out = vec![go(&mut pace, now), go(&mut pace, now)];
    assert_eq!(pace.enter(now), Enter::WhenChanged);
    assert!(pace.rest(&mut out[0]) && !pace.rest(&mut out[0]), "once");
    out.push(go(&mut pace, now));
    assert!(pace.rest(&mut out[1]));
    out.push(go(&mut pace, now));
    assert_eq!((pace.in_flight(), pace.enter(now)), (2, Enter::WhenChanged));
    assert!(!pace.rest(&mut out[2]), "as many rest as may be under way");
    // One that has more to send counts again, though there is no room.
    pace.rise(&mut out[0]);
    assert_eq!(pace.in_flight(), 3);
    pace.rise(&mut out[0]);
    for ticket in out {
        pace.leave(ticket, Left::Answered, now, 0.0);
    }
    assert_eq!(pace.in_flight(), 0);
    let mut both = [go(&mut pace, now), go(&mut pace, now)];
    assert!(pace.rest(&mut both[0]));
    let [resting, mut other] = both;
    pace.leave(resting, Left::Failed(&down()), now, 0.0);
    assert!(!pace.rest(&mut other), "dStor does not answer well");
    pace.leave(other, Left::Unasked, now, 0.0);
    assert_eq!((pace.in_flight(), pace.resting), (0, 0));
}

// What takes a second to be stored need not be waited for to learn that dStor is well.
#[test]
fn what_dstor_took_is_as_good_an_answer_as_its_end_and_is_counted_once() {
    let mut pace = Pace::new(64);
    let now = seconds(0);
    let mut out: Vec<Ticket> = (0..4).map(|_| go(&mut pace, now)).collect();
    assert_eq!((pace.enter(now), pace.facts().reachable), (Enter::WhenChanged, None));
    assert!(pace.rest(&mut out[0]));
    assert_eq!((pace.in_flight_limit(), pace.facts().reachable), (8, Some(true)));
    pace.rise(&mut out[0]);
    assert!(pace.rest(&mut out[0]), "it had more to send");
    pace.leave(out.swap_remove(0), Left::Answered, now, 0.0);
    assert_eq!(pace.in_flight_limit(), 8);
    pace.leave(out.swap_remove(0), Left::Answered, now, 0.0);
    assert_eq!(pace.in_flight_limit(), 16);
    for ticket in out {
        pace.leave(ticket, Left::Unasked, now, 0.0);
    }
}

// E5: whoever waits for as long as the service asks is told why.
#[test]
fn a_session_that_ends_well_while_the_gate_is_closed_does_not_take_the_reason_away() {
    let mut pace = Pace::new(2);
    go_well(&mut pace, 1, seconds(0));
    let mut resting = go(&mut pace, seconds(0));
    assert!(pace.rest(&mut resting));
    let busy = Fault::Busy { status: 429, after: Some(seconds(600)) };
    let at = close(&mut pace, &busy, seconds(0));
    pace.leave(resting, Left::Answered, seconds(1), 0.0);
    assert_eq!(pace.facts().last_error, Some(busy.message()));
    let probe = go(&mut pace, at);
    pace.leave(probe, Left::Answered, at, 0.0);
    assert_eq!(pace.facts().last_error, None);
}
