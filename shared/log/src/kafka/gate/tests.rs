use super::*;

#[test]
fn nothing_goes_while_something_is_under_way_and_then_all_that_waits_goes_at_once() {
    let mut gate = Gate::default();
    gate.enter(10, 1);
    assert_eq!(gate.next(100, 10), [1]);
    for what in 2..=4 {
        gate.enter(10, what);
        assert!(gate.next(100, 10).is_empty());
    }
    assert!(gate.done(), "others wait");
    assert_eq!(gate.next(100, 10), [2, 3, 4]);
    assert!(!gate.done() && !gate.done());
    gate.enter(10, 5);
    assert!(gate.next(100, 10).is_empty(), "one of three is not reported yet");
    assert!(gate.done());
    assert_eq!(gate.next(100, 10), [5]);
    assert!(!gate.done(), "nobody waits");
}

#[test]
fn a_group_is_one_batch_and_what_is_too_much_waits_for_the_next() {
    let mut gate = Gate::default();
    for (bytes, what) in [(500, 1), (60, 2), (50, 3), (1, 4), (1, 5), (1, 6)] {
        gate.enter(bytes, what);
    }
    assert_eq!(gate.next(100, 3), [1], "the first goes whatever its size");
    assert!(gate.done());
    assert_eq!(gate.next(100, 3), [2]);
    assert!(gate.done());
    assert_eq!(gate.next(100, 3), [3, 4, 5]);
    assert_eq!(gate.give_up().collect::<Vec<_>>(), [6]);
    assert!(!gate.done() && !gate.done() && !gate.done());
    assert!(gate.next(100, 3).is_empty());
}
