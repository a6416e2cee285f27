//! Schedule-free rules: by hand, and their two modes.

use torchpace::tch::{AdamW, Error, Group, ScheduleFreeAdamW, ScheduleFreeSgd};

use super::{by_hand, by_hand_whole, file, leaf, loss, store, values, variables};
use tch::Kind;

#[test]
fn sgd_by_hand() {
    let options = ScheduleFreeSgd { momentum: 0.8, weight_decay: 0.1, warmup_steps: 4.0, ..Default::default() };
    // The points z and their average, and the sum of all weights.
    by_hand(
        |store| options.build(store, 0.05),
        [f64::NAN, f64::NAN, 0.0],
        |y, grad, [z, x, sum], step| {
            if step == 1 {
                (*z, *x) = (y, y);
            }
            let rate = 0.05 * f64::min(1.0, f64::from(step) / 4.0);
            *sum += rate * rate;
            *z -= rate * (grad + 0.1 * y);
            *x += rate * rate / *sum * (*z - *x);
            0.2 * *z + 0.8 * *x
        },
    );
}

#[test]
fn adamw_by_hand() {
    let options = ScheduleFreeAdamW { betas: [0.8, 0.9], eps: 1e-3, weight_decay: 0.1, r: 1.0, ..Default::default() };
    by_hand_whole(
        |store| options.build(store, 0.05),
        [f64::NAN, f64::NAN, 0.0],
        |params, grads, kept, step| {
            let share = f64::from(step) / (1..=step).map(f64::from).sum::<f64>();
            for ((y, grad), [z, x, square]) in params.iter_mut().zip(grads).zip(kept) {
                if step == 1 {
                    (*z, *x) = (*y, *y);
                }
                *square = 0.9 * *square + 0.1 * grad * grad;
                let root = (*square / (1.0 - 0.9_f64.powi(step))).sqrt() + 1e-3;
                *z -= 0.05 * (grad / root + 0.1 * *y);
                *x += share * (*z - *x);
                *y = 0.2 * *z + 0.8 * *x;
            }
        },
    );
}

#[test]
fn modes() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::ComplexFloat] {
        let store = store(kind);
        let params = variables(&store);
        let mut optimizer = ScheduleFreeAdamW::default().build(&store, 0.01).unwrap();
        assert!(optimizer.is_training());
        for step in 0..3 {
            optimizer.backward_step(&loss(&params, step)).unwrap();
        }
        let before: Vec<_> = params.iter().map(tch::Tensor::copy).collect();
        optimizer.eval().unwrap();
        optimizer.eval().unwrap();
        assert!(!optimizer.is_training());
        assert!(params.iter().zip(&before).any(|(param, before)| !param.equal(before)));
        let averages: Vec<_> = params.iter().map(tch::Tensor::copy).collect();
        loss(&params, 3).backward();
        let grads: Vec<_> = params.iter().map(|param| param.grad().copy()).collect();
        assert!(matches!(optimizer.backward_step(&loss(&params, 4)).unwrap_err(), Error::EvalMode { group: 0 }));
        assert!(params.iter().zip(&grads).all(|(param, grad)| param.grad().equal(grad)));
        let error = optimizer.step().unwrap_err();
        assert!(matches!(error, Error::EvalMode { group: 0 }), "{error}");
        assert_eq!(
            error.to_string(),
            "group 0 is in eval mode, its parameters are averages: call train() before the loss and the step"
        );
        assert!(params.iter().zip(&averages).all(|(param, average)| param.equal(average)));
        optimizer.train().unwrap();
        let tolerance = if kind == Kind::BFloat16 { 0.02 } else { 1e-6 };
        assert!(params.iter().zip(&before).all(|(param, before)| param.allclose(before, tolerance, tolerance, false)));
        optimizer.step().unwrap();
    }
}

#[test]
fn a_file_knows_its_mode() {
    let path = file("schedule-free");
    let (left, right) = (store(Kind::Float), store(Kind::Float));
    let mut first = ScheduleFreeSgd::default().build(&left, 0.5).unwrap();
    first.backward_step(&loss(&variables(&left), 0)).unwrap();
    first.backward_step(&loss(&variables(&left), 1)).unwrap();
    first.eval().unwrap();
    first.save(&path).unwrap();
    let mut second = ScheduleFreeSgd::default().build(&right, 0.1).unwrap();
    second.load(&path).unwrap();
    assert!(!second.is_training());
    tch::no_grad(|| variables(&right).iter_mut().zip(variables(&left)).for_each(|(to, from)| to.copy_(&from)));
    for (optimizer, store) in [(&mut first, &left), (&mut second, &right)] {
        optimizer.train().unwrap();
        optimizer.backward_step(&loss(&variables(store), 2)).unwrap();
    }
    for (a, b) in variables(&left).iter().zip(variables(&right)) {
        assert_eq!(values(a), values(&b));
    }
}

#[test]
fn a_group_that_comes_later_is_in_the_mode_of_the_others() {
    let group = |name| Group::new([(name, leaf(&[1.0]))], 0.1, ScheduleFreeSgd::default());
    let mut optimizer = ScheduleFreeSgd::build_groups(vec![group("first")]).unwrap();
    optimizer.eval().unwrap();
    optimizer.add_group(group("second")).unwrap();
    assert!(matches!(optimizer.step().unwrap_err(), Error::EvalMode { .. }));
    optimizer.train().unwrap();
    assert!(optimizer.is_training());
    optimizer.step().unwrap();
}

#[test]
fn shares_out_of_their_range_and_rules_without_modes() {
    for momentum in [0.0, 1.0, -0.1] {
        let group = Group::new([("weight", leaf(&[1.0]))], 0.1, ScheduleFreeSgd { momentum, ..Default::default() });
        assert!(matches!(ScheduleFreeSgd::build_groups(vec![group]).unwrap_err(), Error::Option { .. }));
    }
    let betas = [0.0, 0.9];
    let group = Group::new([("weight", leaf(&[1.0]))], 0.1, ScheduleFreeAdamW { betas, ..Default::default() });
    let error = ScheduleFreeAdamW::build_groups(vec![group]).unwrap_err();
    assert_eq!(error.to_string(), "group 0: betas[0] is 0, expected a number > 0 and < 1");
    let store = store(Kind::Float);
    let mut plain = AdamW::default().build(&store, 0.1).unwrap();
    plain.eval().unwrap();
    assert!(plain.is_training());
}
