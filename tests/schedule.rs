//! Schedules of any arguments: nothing panics, rates are numbers, JSON keeps every bit, operators keep their laws.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use torchpace::error::Error;
use torchpace::schedule::*;

/// Lengths from tiny to huge.
fn length() -> impl Strategy<Value = f64> {
    prop_oneof![(1_u32..200).prop_map(f64::from), 1e-3..1e6, Just(1e-300), Just(1e300)]
}

fn floor() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1.0]
}

fn share() -> impl Strategy<Value = f64> {
    0.01..0.99
}

fn milestones() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.5..100.0, 1..5).prop_map(|steps| {
        steps
            .iter()
            .scan(0.0, |sum, step| {
                *sum += step;
                Some(*sum)
            })
            .collect()
    })
}

fn node(curve: impl Into<Node>) -> Node {
    curve.into()
}

fn pick<T: Copy + std::fmt::Debug>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

/// One of every curve that stands alone, with any arguments.
fn curve() -> impl Strategy<Value = Schedule> {
    let decay = prop_oneof![
        (-2.0..2.0).prop_map(|factor| node(Constant { factor })),
        (length(), -2.0..2.0, -2.0..2.0).prop_map(|(steps, start, end)| node(Linear { steps, start, end })),
        (length(), 0.1..5.0, floor()).prop_map(|(steps, power, floor)| node(Polynomial { steps, power, floor })),
        (length(), floor()).prop_map(|(steps, floor)| node(Cosine { steps, floor })),
        (0.1..2.0, length(), floor()).prop_map(|(factor, period, floor)| node(Exponential { factor, period, floor })),
        (length(), 0.1..=1.0, floor()).prop_map(|(period, factor, floor)| node(Step { period, factor, floor })),
        (milestones(), 0.1..2.0, floor()).prop_map(|(milestones, factor, floor)| node(MultiStep {
            milestones,
            factor,
            floor
        })),
        milestones().prop_map(|milestones| {
            let values = (0..=milestones.len()).map(|value| value as f64).collect();
            node(Piecewise { milestones, values })
        }),
        (length(), floor()).prop_map(|(timescale, floor)| node(InverseSqrt { timescale, floor })),
        (length(), floor()).prop_map(|(timescale, floor)| node(InverseTime { timescale, floor })),
        (1.0..4096.0, length()).prop_map(|(model_size, warmup)| node(Noam { model_size, warmup })),
    ];
    let cycles = prop_oneof![
        (length(), share(), floor(), floor(), floor(), pick(Anneal::ALL))
            .prop_map(|(steps, rise, start, peak, end, shape)| node(OneCycle { steps, rise, start, peak, end, shape })),
        (length(), length(), floor(), floor(), pick(Wave::ALL), share()).prop_map(
            |(up, down, low, high, shape, gamma)| {
                let gamma = if shape == Wave::ExpRange { gamma } else { 1.0 };
                node(Cyclic { up, down, low, high, shape, gamma })
            }
        ),
        (length(), prop_oneof![Just(1.0), 0.2..3.0], prop_oneof![Just(1.0), share()], floor())
            .prop_map(|(period, growth, decay, floor)| node(WarmRestarts { period, growth, decay, floor })),
        (length(), share(), pick(Ramp::ALL)).prop_map(|(steps, start, shape)| node(Warmup { steps, start, shape })),
        (floor(), length(), length(), floor(), floor(), pick(Fall::ALL)).prop_map(
            |(warmup, stable, decay, start, floor, shape)| {
                node(WarmupStableDecay { warmup, stable, decay, start, floor, shape })
            }
        ),
        Just(node(plateau())),
    ];
    prop_oneof![decay, cycles].prop_map(|node| Schedule::new(node).unwrap())
}

/// Schedules of schedules.
fn schedule() -> impl Strategy<Value = Schedule> {
    curve().prop_recursive(3, 12, 2, |part| {
        prop_oneof![
            (part.clone(), part.clone(), length()).prop_map(|(a, b, at)| a.then(&b, Some(at)).unwrap()),
            (part.clone(), part.clone()).prop_map(|(a, b)| a.times(&b).unwrap()),
            (part.clone(), part.clone()).prop_map(|(a, b)| a.plus(&b).unwrap()),
            part.clone().prop_map(|a| a.clamp(Some(0.1), Some(0.5)).unwrap()),
            (part.clone(), 0.5..100.0).prop_map(|(a, every)| a.repeat(Some(every), Some(3.0)).unwrap()),
            (part.clone(), -2.0..2.0).prop_map(|(a, factor)| a.scale(factor).unwrap()),
            (part.clone(), -50.0..50.0).prop_map(|(a, steps)| a.shift(steps).unwrap()),
            (part.clone(), 0.5..100.0).prop_map(|(a, steps)| a.reverse(Some(steps)).unwrap()),
            (part.clone(), -1.0..1.0).prop_map(|(a, low)| a.above(low).unwrap()),
            (part, -1.0..1.0).prop_map(|(a, base)| a.rebase(base).unwrap()),
        ]
    })
}

fn step() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0_u32..500).prop_map(f64::from),
        0.0..1e7,
        Just(0.0),
        Just(1e300),
        Just(f64::MAX),
        Just(f64::INFINITY),
        Just(f64::NAN),
        Just(-1.0)
    ]
}

fn plateau() -> Plateau {
    Plateau {
        factor: 0.5,
        patience: 1.0,
        mode: Mode::Min,
        threshold: 0.0,
        threshold_mode: ThresholdMode::Relative,
        cooldown: 0.0,
        floor: 0.1,
        ceiling: 4.0,
        raises: true,
    }
}

fn bits(rate: f64) -> u64 {
    rate.to_bits()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_curve_has_a_finite_rate_at_every_finite_step(curve in curve(), step in step()) {
        let rate = curve.lr(1.0, step);
        prop_assert!(rate.is_finite() || step.is_infinite(), "{curve} at {step}: {rate}");
    }

    #[test]
    fn json_keeps_every_bit(schedule in schedule(), step in step()) {
        let text = schedule.to_json().unwrap();
        let again = Schedule::from_json(&text).unwrap();
        prop_assert_eq!(&again, &schedule);
        prop_assert_eq!(bits(again.lr(0.3, step)), bits(schedule.lr(0.3, step)));
        prop_assert_eq!(again.to_json().unwrap(), text);
    }

    #[test]
    fn broken_json_is_an_error_and_nothing_worse(schedule in schedule(), at in any::<prop::sample::Index>(), byte in 32_u8..127) {
        let mut text = schedule.to_json().unwrap().into_bytes();
        let place = at.index(text.len());
        text[place] = byte;
        if let Ok(read) = Schedule::from_json(&String::from_utf8(text).unwrap()) {
            read.lr(1.0, 3.0);
        }
    }

    #[test]
    fn after_its_length_nothing_changes(curve in curve(), more in 0.0..1e6) {
        if let Some(length) = curve.length().filter(|length| *length < 1e6) {
            prop_assert_eq!(curve.lr(1.0, length), curve.lr(1.0, length + more), "{}", curve);
        }
    }

    #[test]
    fn the_laws_of_the_operators(a in schedule(), b in schedule(), at in 1_u32..100, step in 0_u32..300) {
        let (start, t) = (f64::from(at), f64::from(step));
        let joined = a.then(&b, Some(start)).unwrap();
        let expected = if step < at { a.lr(0.3, t) } else { b.lr(0.3, f64::from(step - at)) };
        prop_assert_eq!(bits(joined.lr(0.3, t)), bits(expected));
        prop_assert_eq!(bits(a.shift(start).unwrap().lr(0.3, t)), bits(a.lr(0.3, f64::from(step.saturating_sub(at)))));
        prop_assert_eq!(bits(a.shift(-start).unwrap().lr(0.3, t)), bits(a.lr(0.3, f64::from(step + at))));
        prop_assert_eq!(bits(a.repeat(Some(start), None).unwrap().lr(0.3, t)), bits(a.lr(0.3, f64::from(step % at))));
        let twice = a.repeat(Some(start), Some(2.0)).unwrap();
        let expected = a.lr(0.3, if step < 2 * at { f64::from(step % at) } else { start });
        prop_assert_eq!(bits(twice.lr(0.3, t)), bits(expected));
        prop_assert_eq!(bits(twice.lr(0.3, 2.0 * start)), bits(a.lr(0.3, start)));
        let reversed = a.reverse(Some(start)).unwrap();
        prop_assert_eq!(bits(reversed.lr(0.3, t)), bits(a.lr(0.3, f64::from(at.saturating_sub(step)))));
        prop_assert_eq!(bits(a.rebase(0.7).unwrap().lr(0.3, t)), bits(a.lr(0.7, t)));
        prop_assert_eq!(bits(a.scale(0.7).unwrap().lr(0.3, t)), bits(0.7 * a.lr(0.3, t)));
    }

    #[test]
    fn a_restart_is_where_the_sum_of_periods_says(period in 1_u32..50, growth in 1_u32..4, cycle in 0_u32..6) {
        let restarts = WarmRestarts { period: period.into(), growth: growth.into(), decay: 0.5, floor: 0.0 };
        let start: u32 = (0..cycle).map(|before| period * growth.pow(before)).sum();
        prop_assert_eq!(restarts.lr(1.0, start.into()), 0.5_f64.powi(cycle as i32));
        if cycle > 0 {
            prop_assert!(restarts.lr(1.0, f64::from(start) - 1e-6) < 1e-6);
        }
    }
}

#[test]
fn a_curve_may_be_asked_without_checks() {
    // A plain struct can hold anything; its rate may be NaN, and that is all.
    Cosine { steps: f64::NAN, floor: f64::NAN }.lr(1.0, 1.0);
    Piecewise { milestones: vec![1.0], values: vec![] }.lr(1.0, 1.0);
    compose::Sequence { parts: vec![], at: vec![1.0, 2.0] }.lr(1.0, 1.5);
    Cyclic { up: 0.0, down: 0.0, low: 0.0, high: 1.0, shape: Wave::Sine, gamma: 0.0 }.lr(1.0, 1.0);
    WarmRestarts { period: 0.0, growth: 0.0, decay: 0.0, floor: 0.0 }.lr(1.0, 1.0);
}

#[test]
fn errors_name_schedule_argument_value_and_range() {
    let error = Schedule::new(Cosine { steps: 0.0, floor: 0.0 }).unwrap_err();
    assert_eq!(error.to_string(), "cosine: steps is 0, expected a finite number > 0");
    let error = Schedule::new(MultiStep { milestones: vec![2.0, 1.0], factor: 0.1, floor: 0.0 }).unwrap_err();
    assert!(error.to_string().starts_with("multi_step: milestones is [2, 1], expected at least one step"));
    let error = Schedule::new(Warmup { steps: f64::NAN, start: 0.0, shape: Ramp::Linear }).unwrap_err();
    assert_eq!(error.to_string(), "warmup: steps is NaN, expected a finite number > 0");
    assert!("round".parse::<Wave>().unwrap_err().to_string().contains("shape is \"round\", expected 'triangular'"));
    let endless = Schedule::new(Exponential { factor: 0.9, period: 1.0, floor: 0.0 }).unwrap();
    assert!(endless.then(&endless, None).unwrap_err().to_string().starts_with("then: at is None"));
    for (at, text) in [(-1.0, "-1"), (0.0, "0"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let error = endless.then(&endless, Some(at)).unwrap_err();
        assert_eq!(error.to_string(), format!("then: at is {text}, expected a finite number > 0"));
    }
    // The other way round.
    let error = Schedule::new(Step { period: 0.1, factor: 30.0, floor: 0.0 }).unwrap_err();
    assert_eq!(error.to_string(), "step: factor is 30, expected a number > 0 and <= 1");
}

#[test]
fn json_is_strict() {
    let good = r#"{"version": 1, "schedule": {"cosine": {"steps": 10, "floor": 0}}}"#;
    assert!(Schedule::from_json(good).is_ok());
    let read = |from: &str, to: &str| {
        assert!(good.contains(from));
        Schedule::from_json(&good.replace(from, to)).unwrap_err()
    };
    assert_eq!(read(r#""version": 1"#, r#""version": 2, "new": 0"#), Error::JsonVersion { found: 2, expected: 1 });
    for (from, to, part) in [
        (r#""floor": 0"#, r#""floor": 0, "more": 1"#, "unknown field `more`"),
        (r#", "floor": 0"#, "", "missing field `floor`"),
        (r#"{"version": 1,"#, r#"{"version": 1, "more": 1,"#, "unknown field `more`"),
        (r#""version": 1,"#, "", "missing field `version`"),
        ("cosine", "sinus", "unknown variant `sinus`"),
        ("10", "-10", "cosine: steps is -10, expected a finite number > 0"),
        ("10", "null", "invalid type: null"),
        (r#"{"cosine": {"steps": 10, "floor": 0}}"#, r#"{"function": 0}"#, "places for 1 functions"),
    ] {
        assert!(read(from, to).to_string().contains(part), "{}", read(from, to));
    }
}

#[test]
fn nesting_has_a_limit_and_all_below_it_can_be_read_back() {
    let mut deep = Schedule::new(Constant { factor: 1.0 }).unwrap();
    let one = deep.clone();
    // The form whose JSON is nested deepest.
    for _ in 1..MAX_DEPTH {
        deep = one.times(&deep).unwrap();
    }
    assert_eq!(Schedule::from_json(&deep.to_json().unwrap()).unwrap(), deep);
    let error = one.times(&deep).unwrap_err();
    assert_eq!(error.to_string(), "the schedule is 33 levels deep, expected at most 32");
    let (open, close) = (r#"{"scale": {"schedule": "#.repeat(100_000), r#", "factor": 1}}"#.repeat(100_000));
    let text = format!(r#"{{"version": 1, "schedule": {open}{{"constant": {{"factor": 1}}}}{close}}}"#);
    assert!(Schedule::from_json(&text).unwrap_err().to_string().contains("recursion limit"));
}

#[test]
fn size_has_a_limit() {
    let mut large = Schedule::new(Constant { factor: 1.0 }).unwrap();
    let error = loop {
        match large.rebase(1.0).unwrap().plus(&large) {
            Ok(twice) => large = twice,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::ScheduleTooLarge { .. }));
}

#[test]
fn long_chains_stay_flat() {
    let part = Schedule::new(Cosine { steps: 1.0, floor: 0.0 }).unwrap();
    let mut chain = part.clone();
    for at in 1..1000 {
        chain = chain.then(&part, Some(f64::from(at))).unwrap();
    }
    assert_eq!(chain.lr(1.0, 999.0), 1.0);
    assert_eq!(chain.parts().len(), 1000);
}

#[test]
fn a_plateau_goes_both_ways_within_its_bounds() {
    let rule = plateau();
    let mut memory = Memory::new(&rule);
    let mut after = |metrics: &[f64]| {
        metrics.iter().for_each(|metric| rule.observe(&mut memory, *metric));
        memory.scale
    };
    assert_eq!(after(&[5.0]), 1.0);
    assert_eq!(after(&[4.0]), 2.0); // two better ones in a row, more than the patience of one
    assert_eq!(after(&[9.0]), 2.0);
    assert_eq!(after(&[3.0, 9.0]), 2.0); // a better one in between
    assert_eq!(after(&[9.0]), 1.0);
    assert_eq!(after(&[f64::NAN; 20]), 0.1);
    assert_eq!(after(&[2.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.09]), 4.0);
}

#[test]
fn better_ones_count_only_in_a_row() {
    let rule = plateau();
    let mut memory = Memory::new(&rule);
    [5.0, 9.0, 4.0, 9.0, 3.0].iter().for_each(|metric| rule.observe(&mut memory, *metric));
    assert_eq!((memory.scale, memory.better, memory.worse), (1.0, 1.0, 0.0));
}

#[test]
fn each_plateau_has_a_scale_of_its_own() {
    let plateau = Schedule::new(plateau()).unwrap();
    let constant = Schedule::new(Constant { factor: 1.0 }).unwrap();
    let both = constant.then(&plateau, Some(10.0)).unwrap().then(&plateau, Some(20.0)).unwrap();
    let all = both.times(&plateau.shift(5.0).unwrap()).unwrap();
    assert_eq!(all.plateau_count(), 3);
    assert_eq!([5.0, 10.0, 20.0].map(|step| all.active(step)), [vec![2], vec![0, 2], vec![1, 2]]);
    assert_eq!([5.0, 10.0, 20.0].map(|step| all.lr_scaled(1.0, step, &[2.0, 3.0, 5.0])), [5.0, 10.0, 15.0]);
    assert_eq!(all.lr(1.0, 20.0), 1.0);
}

#[test]
fn functions_compose_but_have_no_json() {
    struct Square(usize);
    impl Call for Square {
        fn call(&self, step: f64) -> f64 {
            step * step
        }
        fn name(&self) -> String {
            "square".to_owned()
        }
        fn identity(&self) -> usize {
            self.0
        }
    }
    let square = |identity| Schedule::new(Function::new(Arc::new(Square(identity)))).unwrap();
    assert_eq!(square(1), square(1));
    assert_ne!(square(1), square(2));
    let whole = square(1).shift(2.0).unwrap();
    assert_eq!(whole.lr(0.5, 5.0), 4.5);
    assert_eq!(whole.to_string(), "function(square).shift(steps=2)");
    assert!(whole.to_json().unwrap_err().to_string().contains("function(square) cannot be written as JSON"));
}
