use super::*;

fn write(value: u64, begun: u64, ended: u64) -> Op {
    Op { span: Span { begun, ended }, what: What::Write(Some(value), Fate::Done) }
}

fn unknown(value: u64, begun: u64) -> Op {
    Op { span: Span { begun, ended: begun + 1 }, what: What::Write(Some(value), Fate::Unknown) }
}

fn read(value: impl Into<Value>, begun: u64, ended: u64) -> Op {
    Op { span: Span { begun, ended }, what: What::Read(value.into()) }
}

fn holds(ops: &[Op]) -> bool {
    match check(None, ops) {
        Verdict::Linearizable => true,
        Verdict::Not { .. } => false,
        Verdict::TooLong => panic!("too long"),
    }
}

#[test]
fn one_after_the_other_holds() {
    assert!(holds(&[]));
    assert!(holds(&[read(None, 0, 1), write(1, 2, 3), read(1, 4, 5), write(2, 6, 7), read(2, 8, 9)]));
}

#[test]
fn a_lost_write_is_found() {
    assert!(!holds(&[write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]));
    assert!(!holds(&[write(1, 0, 1), read(None, 2, 3)]));
}

#[test]
fn a_stale_read_is_found_and_one_beside_the_write_is_none() {
    assert!(!holds(&[write(1, 0, 1), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)]));
    assert!(holds(&[write(1, 0, 1), write(2, 2, 10), read(1, 3, 4), read(2, 5, 6)]));
    assert!(!holds(&[write(1, 0, 1), write(2, 2, 10), read(2, 3, 4), read(1, 5, 6)]), "forth and back");
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    assert!(!holds(&[write(1, 0, 1), read(7, 2, 3)]));
    let refused = Op { span: Span { begun: 0, ended: 1 }, what: What::Write(Some(7), Fate::Not) };
    assert!(!holds(&[refused, read(7, 2, 3)]), "refused, and there");
}

#[test]
fn an_unknown_write_happens_late_once_or_never() {
    let late = [unknown(1, 0), write(2, 2, 3), read(2, 4, 5), read(1, 6, 7)];
    assert!(holds(&late));
    assert!(holds(&[unknown(1, 0), write(2, 2, 3), read(2, 4, 5)]));
    let doubled = [unknown(1, 0), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7), read(1, 8, 9)];
    assert!(!holds(&doubled));
    assert!(!holds(&[read(1, 0, 1), unknown(1, 2)]), "before it began");
}

#[test]
fn a_delete_is_a_write_of_nothing() {
    let delete = |begun, ended| Op { span: Span { begun, ended }, what: What::Write(None, Fate::Done) };
    assert!(holds(&[write(1, 0, 1), delete(2, 3), read(None, 4, 5)]));
    assert!(!holds(&[write(1, 0, 1), delete(2, 3), read(1, 4, 5)]));
}

#[test]
fn the_first_value_is_given() {
    assert_eq!(check(Some(4), &[read(4, 0, 1)]), Verdict::Linearizable);
    assert!(matches!(check(Some(4), &[read(None, 0, 1)]), Verdict::Not { explained: 0, .. }));
}

/// Histories of a register that really is one, with operations that overlap, hold; with one answer changed they mostly do
/// not.
#[test]
fn histories_of_a_real_register_hold_and_changed_ones_are_found() {
    let mut random = crate::chaos::random::Random::new(7);
    let mut found = 0;
    for _ in 0..300 {
        let (mut ops, mut held, mut clock) = (Vec::new(), None, 0);
        for value in 1..40 {
            clock += random.below(4);
            let effect = clock + random.below(5);
            let span =
                Span { begun: clock.saturating_sub(random.below(12)), ended: effect + random.below(12) };
            ops.push((effect, value, span, random.below(2) == 0, random.below(8) == 0));
        }
        ops.sort_by_key(|op| (op.0, op.1));
        let mut history: Vec<Op> = Vec::new();
        for (_, value, span, is_write, is_unknown) in ops {
            history.push(if is_write {
                held = Some(value);
                let fate = if is_unknown { Fate::Unknown } else { Fate::Done };
                Op { span, what: What::Write(held, fate) }
            } else {
                Op { span, what: What::Read(held) }
            });
        }
        // The moments of the effects may tie; ends are widened so that the order above fits.
        for op in &mut history {
            op.span.ended += 1;
        }
        assert_eq!(check(None, &history), Verdict::Linearizable, "{history:?}");
        let reads: Vec<usize> =
            (0..history.len()).filter(|at| matches!(history[*at].what, What::Read(_))).collect();
        let at = reads[random.below(reads.len() as u64) as usize];
        history[at].what = What::Read(Some(1 + random.below(39)));
        found += usize::from(check(None, &history) != Verdict::Linearizable);
    }
    assert!(found > 200, "{found} of 300 changed histories were found");
}
