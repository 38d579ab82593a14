use proptest::prelude::*;

use super::*;

type Numbers = Lease<u64, u64>;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hour(token: u64) -> Result<Granted<u64>, Fault> {
    Ok(Granted { token, lifetime: Some(seconds(3600)) })
}

fn refused() -> Fault {
    Fault::Credentials("dStor refuses the API key".into())
}

/// Asks with the credentials 7, which are read exactly if it was said that they would be.
fn want(lease: &mut Numbers, refused: Option<u64>, now: Duration) -> Want<u64, u64> {
    let wish = lease.wish(refused);
    let asks = lease.asks_for_credentials(&wish, now);
    let mut are_read = false;
    let read = || {
        are_read = true;
        Ok(Some(7))
    };
    let want = lease.want(&wish, read, now);
    assert_eq!(are_read, asks);
    want
}

fn order(want: Want<u64, u64>) -> Order<u64> {
    match want {
        Want::Fetch(order) => order,
        other => panic!("no fetch: {other:?}"),
    }
}

fn in_use(want: Want<u64, u64>) -> u64 {
    match want {
        Want::Use(leased) => leased.token,
        other => panic!("no token: {other:?}"),
    }
}

fn fault(want: Want<u64, u64>) -> Fault {
    match want {
        Want::No(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// A lease that was given the token 1 for an hour at the beginning.
fn with_a_token() -> Numbers {
    let mut lease = Numbers::default();
    let order = order(want(&mut lease, None, seconds(0)));
    lease.fetched(order, hour(1), seconds(1)).expect("given");
    lease
}

// E10
#[test]
fn one_fetches_and_the_others_wait_for_it() {
    let mut lease = Numbers::default();
    let order = order(want(&mut lease, None, seconds(0)));
    assert!(matches!(want(&mut lease, None, seconds(0)), Want::Wait));
    lease.fetched(order, hour(1), seconds(1)).expect("given");
    assert_eq!(in_use(want(&mut lease, None, seconds(1))), 1);
    assert_eq!((lease.requests(), lease.standing()), (1, Standing::Accepted));
}

// E9, E10
#[test]
fn a_refused_token_is_replaced_once_and_latecomers_get_what_replaced_it() {
    let mut lease = with_a_token();
    let order = order(want(&mut lease, Some(1), seconds(5)));
    assert!(matches!(want(&mut lease, Some(1), seconds(5)), Want::Wait));
    assert!(matches!(want(&mut lease, None, seconds(5)), Want::Wait), "the refused one is used by nobody");
    lease.fetched(order, hour(2), seconds(6)).expect("given");
    for late in [None, Some(1)] {
        assert_eq!(in_use(want(&mut lease, late, seconds(7))), 2);
    }
    assert_eq!(lease.requests(), 2);
}

// E11, E12
#[test]
fn a_token_is_renewed_before_it_ends_and_one_that_does_not_say_when_is_kept() {
    let mut lease = with_a_token();
    assert_eq!(in_use(want(&mut lease, None, seconds(3_299))), 1);
    let renewal = order(want(&mut lease, None, seconds(3_300)));
    // A short life: a fifth of it. It counts from when it was asked for, not from when it came.
    let short = Granted { token: 2, lifetime: Some(seconds(100)) };
    lease.fetched(renewal, Ok(short), seconds(3_350)).expect("given");
    assert_eq!(in_use(want(&mut lease, None, seconds(3_379))), 2);
    let renewal = order(want(&mut lease, None, seconds(3_380)));
    for senseless in [None, Some(Duration::ZERO)] {
        let mut lease = with_a_token();
        let order = order(want(&mut lease, Some(1), seconds(1)));
        lease.fetched(order, Ok(Granted { token: 3, lifetime: senseless }), seconds(1)).expect("given");
        assert_eq!(in_use(want(&mut lease, None, seconds(1_000_000_000))), 3);
    }
    drop(renewal);
}

// E13
#[test]
fn refused_credentials_are_asked_about_every_fifteen_minutes_or_when_they_change() {
    let mut lease = Numbers::default();
    let first = order(want(&mut lease, None, seconds(0)));
    assert_eq!(lease.fetched(first, Err(refused()), seconds(10)), Err(refused()));
    assert_eq!(fault(want(&mut lease, None, seconds(909))), refused());
    assert_eq!((lease.requests(), lease.standing()), (1, Standing::Refused));

    let wish = lease.wish(None);
    let Want::Fetch(changed) = lease.want(&wish, || Ok(Some(8)), seconds(20)) else { panic!("others are asked about") };
    lease.fetched(changed, Err(refused()), seconds(20)).expect_err("refused");
    assert!(matches!(want(&mut lease, None, seconds(21)), Want::Fetch(_)), "and so are those from before");

    let mut lease = Numbers::default();
    let first = order(want(&mut lease, None, seconds(0)));
    lease.fetched(first, Err(refused()), seconds(10)).expect_err("refused");
    assert!(matches!(want(&mut lease, None, seconds(910)), Want::Fetch(_)));
}

// E13: everything that may happen in a day, every second.
#[test]
fn a_refused_key_costs_one_request_in_fifteen_minutes() {
    let mut lease = Numbers::default();
    for now in 0..24 * 3600 {
        if let Want::Fetch(order) = want(&mut lease, None, seconds(now)) {
            lease.fetched(order, Err(refused()), seconds(now)).expect_err("refused");
        }
        assert_eq!(lease.requests(), now / 900 + 1);
    }
    assert_eq!(lease.requests(), 96);
}

// E9
#[test]
fn a_new_token_that_is_refused_stands_for_its_credentials() {
    let mut lease = with_a_token();
    assert!(matches!(lease.refused_again(1, seconds(2)), Fault::Credentials(_)));
    assert!(matches!(want(&mut lease, None, seconds(3)), Want::No(Fault::Credentials(_))));
    assert_eq!(lease.standing(), Standing::Refused);

    let mut lease = with_a_token();
    let order = order(want(&mut lease, Some(1), seconds(2)));
    lease.fetched(order, hour(2), seconds(2)).expect("given");
    lease.refused_again(1, seconds(3));
    assert_eq!(in_use(want(&mut lease, None, seconds(3))), 2, "the one from before says nothing of the new one");
}

#[test]
fn without_credentials_nothing_is_asked_and_a_refused_token_is_not_used_again() {
    let mut lease = with_a_token();
    let wish = lease.wish(Some(1));
    assert!(matches!(lease.want(&wish, || Ok(None), seconds(1)), Want::No(Fault::Credentials(_))));
    assert_eq!(lease.standing(), Standing::Missing);
    let wish = lease.wish(None);
    let unreadable = lease.want(&wish, || Err("it is a directory".into()), seconds(1));
    assert_eq!(fault(unreadable), Fault::Credentials("it is a directory".into()));
    assert_eq!(lease.requests(), 1);
}

#[test]
fn a_fetch_that_fails_is_the_answer_for_all_who_waited_and_the_next_one_asks_anew() {
    let mut lease = with_a_token();
    let waiting: Vec<Wish> = (0..1_000).map(|_| lease.wish(Some(1))).collect();
    let order = order(want(&mut lease, Some(1), seconds(5)));
    let down = Fault::ServerError(500);
    lease.fetched(order, Err(down.clone()), seconds(6)).expect_err("failed");
    for wish in waiting {
        assert_eq!(fault(lease.want(&wish, || Ok(Some(7)), seconds(6))), down);
    }
    assert_eq!((lease.requests(), lease.standing()), (2, Standing::Accepted));
    assert!(matches!(want(&mut lease, Some(1), seconds(6)), Want::Fetch(_)));
}

#[test]
fn a_fetch_that_is_given_up_is_made_by_the_next() {
    let mut lease = Numbers::default();
    let wish = lease.wish(None);
    let given_up = order(want(&mut lease, None, seconds(0)));
    lease.give_up(given_up.number);
    let next = order(lease.want(&wish, || Ok(Some(7)), seconds(0)));
    lease.give_up(given_up.number);
    assert!(matches!(want(&mut lease, None, seconds(0)), Want::Wait), "the other one is still out");
    lease.fetched(next, hour(1), seconds(1)).expect("given");
    lease.give_up(2);
    assert_eq!(in_use(want(&mut lease, None, seconds(1))), 1);
}

proptest! {
    /// Whoever wants a token, in whatever order things happen: one fetch is out at a time, nobody is handed a token that
    /// was refused or has ended, and nobody waits while nothing is under way.
    #[test]
    fn one_fetch_is_out_at_a_time(deeds in proptest::collection::vec((0u8..7, any::<u8>()), 1..200)) {
        let mut lease = Numbers::default();
        let (mut now, mut out, mut latest, mut ends) = (seconds(0), None, None::<u64>, seconds(0));
        for (deed, with) in deeds {
            match deed {
                0..=2 => {
                    let refused = match deed { 0 => None, 1 => latest, _ => Some(u64::from(with)) };
                    match want(&mut lease, refused, now) {
                        Want::Use(leased) => {
                            prop_assert_eq!(Some(leased.number), latest);
                            prop_assert!(refused != Some(leased.number) && now < ends);
                        }
                        Want::Fetch(order) => {
                            prop_assert!(out.is_none());
                            out = Some(order);
                        }
                        Want::Wait => prop_assert!(out.is_some()),
                        Want::No(fault) => prop_assert!(matches!(fault, Fault::Credentials(_))),
                    }
                }
                3 => now += seconds(u64::from(with) * 20),
                _ => {
                    let Some(order) = out.take() else { continue };
                    let number = order.number;
                    match deed {
                        4 => {
                            lease.fetched(order, hour(number), now).expect("given");
                            (latest, ends) = (Some(number), now + seconds(3600));
                        }
                        5 => {
                            let fault = if with % 2 == 0 { refused() } else { Fault::ServerError(500) };
                            lease.fetched(order, Err(fault), now).expect_err("failed");
                        }
                        _ => lease.give_up(number),
                    }
                }
            }
        }
    }
}
