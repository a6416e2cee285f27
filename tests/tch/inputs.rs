//! What is no good input: an error that names it, and nothing has changed. Never a panic.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use torchpace::schedule::{Constant, Schedule};
use torchpace::tch::{
    AdEMAMix, Adadelta, Adagrad, Adam, AdamW, Adamax, Asgd, Config, Error, Group, Lamb, Lars, Lion, NAdam, Nonfinite,
    Optimizer, Outcome, Prodigy, RAdam, RmsProp, Rprop, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd,
};

use super::{cosine, leaf, named, values};

fn said<T>(result: Result<T, Error>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

/// What a step was refused for, of parameters in a group each.
fn refused(params: &[(&str, &Tensor)]) -> String {
    let groups = params.iter().map(|param| Group::new(named(&[*param]), 0.1, Adam::default()));
    said(Adam::build_groups(groups.collect()))
}

#[test]
fn types_are_what_users_expect() {
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    fn options<T: Config + Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static>() {}
    fn movable<T: std::fmt::Debug + Send + 'static>() {}
    error::<Error>();
    options::<Sgd>();
    options::<RmsProp>();
    options::<Adagrad>();
    options::<Adam>();
    options::<AdamW>();
    options::<Adadelta>();
    options::<Adamax>();
    options::<RAdam>();
    options::<Rprop>();
    options::<AdEMAMix>();
    options::<Lamb>();
    options::<Lars>();
    options::<Lion>();
    options::<Prodigy>();
    options::<ScheduleFreeAdamW>();
    options::<ScheduleFreeSgd>();
    options::<NAdam>();
    options::<Asgd>();
    movable::<Optimizer>();
    movable::<Group<Adam>>();
    movable::<Outcome>();
    movable::<Nonfinite>();
}

#[test]
fn tensors_that_are_no_parameters() {
    let a = leaf(&[1.0]);
    let of = |tensor: Tensor| refused(&[("a", &a), ("b", &tensor)]);
    assert_eq!(of(Tensor::new()), "parameter \"b\": param is undefined, expected a tensor");
    assert_eq!(
        of(Tensor::from_slice(&[1_i64])),
        "parameter \"b\": param is of kind Int64, expected a floating-point or complex tensor"
    );
    assert_eq!(
        of(Tensor::from_slice(&[true])),
        "parameter \"b\": param is of kind Bool, expected a floating-point or complex tensor"
    );
    assert_eq!(
        of(Tensor::from_slice(&[1.0])),
        "parameter \"b\": param is one that requires no gradient, expected one that does"
    );
    assert_eq!(of(&a * 2), "parameter \"b\": param is the result of an operation, expected a leaf of the graph");
    // The same one, and the same name, in another group.
    assert_eq!(of(a.shallow_clone()), "parameter \"b\" is there twice: its tensor is that of \"a\"");
    assert_eq!(
        refused(&[("a", &a), ("a", &leaf(&[1.0]))]),
        "parameter \"a\" is there twice: its name is that of \"a\""
    );
    assert_eq!(refused(&[("", &a), ("a.b", &leaf(&[1.0]))]), "");
}

#[test]
fn a_store_without_variables_waits_for_some() {
    let store = VarStore::new(Device::Cpu);
    let mut optimizer = Adam::default().build(&store, 0.1).unwrap();
    optimizer.zero_grad().unwrap();
    assert_eq!(optimizer.step().unwrap(), Outcome::Stepped);
    let path = super::file("empty");
    optimizer.save(&path).unwrap();
    optimizer.load(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let weight = store.root().ones("weight", &[2]);
    optimizer.backward_step(&weight.sum(Kind::Float)).unwrap();
    assert!(values(&weight).iter().all(|value| (value - 0.9).abs() < 1e-6));
}

#[test]
fn variables_that_cannot_be_taken_up() {
    let store = VarStore::new(Device::Cpu);
    let first = store.root().ones("first", &[2]);
    let mut optimizer = Sgd::default().build(&store, 0.1).unwrap();
    let far = store.root().set_group(usize::MAX);
    let second = far.ones("second", &[2]);
    let expected = format!("parameter \"second\": the number of its group is {}, expected one below 65536", usize::MAX);
    // At every call, and no gradient has gone.
    (&first + &second).sum(Kind::Float).backward();
    assert_eq!(said(optimizer.zero_grad()), expected);
    assert_eq!(said(optimizer.step()), expected);
    assert_eq!(said(Sgd::default().build(&store, 0.1)), expected);
    assert_eq!((values(&first), first.grad().defined(), optimizer.group_count()), (vec![1.0; 2], true, 1));

    let store = VarStore::new(Device::Cpu);
    let first = store.root().ones("first", &[2]);
    let _tied = store.root().add("tied", first.shallow_clone(), true);
    let error = Sgd::default().build(&store, 0.1).unwrap_err();
    assert!(matches!(error, Error::Duplicate { what: "tensor", .. }), "{error}");
}

#[test]
fn frozen_variables_stay_until_they_are_not() {
    let mut store = VarStore::new(Device::Cpu);
    let weight = store.root().ones("weight", &[2]);
    store.freeze();
    let mut optimizer = Sgd::default().build(&store, 0.1).unwrap();
    assert_eq!(optimizer.step().unwrap(), Outcome::Stepped);
    assert_eq!(values(&weight), [1.0, 1.0]);
    store.unfreeze();
    optimizer.backward_step(&weight.sum(Kind::Float)).unwrap();
    assert!((values(&weight)[0] - 0.9).abs() < 1e-6);
}

#[test]
fn losses_that_have_no_gradient() {
    let weight = leaf(&[1.0, 2.0]);
    let mut optimizer =
        Sgd::build_groups(vec![Group::new(named(&[("weight", &weight)]), 0.1, Sgd::default())]).unwrap();
    // Before there was any backward pass.
    assert_eq!(optimizer.step().unwrap(), Outcome::Stepped);
    for loss in [Tensor::new(), Tensor::from_slice(&[1.0]), &weight * 2, Tensor::from_slice(&[1_i64]).sum(Kind::Int64)]
    {
        let error = optimizer.backward_step(&loss).unwrap_err();
        assert!(matches!(&error, Error::Torch { message } if !message.is_empty()), "{error}");
    }
    assert_eq!(values(&weight), [1.0, 2.0]);
}

/// Sets every number of an optimizer's options to others, good and bad.
fn set_all<O: Config>(build: impl Fn(Vec<Group<O>>) -> Result<Optimizer, Error>, options: O, names: &[&str]) {
    let weight = leaf(&[1.0]);
    let mut optimizer = build(vec![Group::new(named(&[("weight", &weight)]), 0.1, options)]).unwrap();
    for name in names {
        let before = optimizer.option(0, name).unwrap();
        for wrong in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            if ["dampening", "d_numerator"].contains(name) && !wrong.is_nan() {
                continue;
            }
            match optimizer.set_option(0, name, wrong).unwrap_err() {
                Error::Option { group: 0, name: found, .. } => assert_eq!(Some(found.as_str()), name.split('[').next()),
                error => panic!("{name} {wrong}: {error}"),
            }
            assert_eq!(optimizer.option(0, name).unwrap(), before);
        }
        let good = if ["etas[1]", "growth_rate"].contains(name) { 1.5 } else { 0.5 };
        optimizer.set_option(0, name, good).unwrap();
        assert_eq!(optimizer.option(0, name).unwrap(), good);
    }
    let wrong = ["", "[", "]", "[]", "[0]", "lr[0]", "lr[", "betas", "betas[3]", "betas[00]", "betas[+1]", "betas[-1]"];
    for name in
        wrong.into_iter().chain(["Lr", "nesterov", "nonfinite_norm", "clip_value", "params", "\u{3b2}[0]", "betas[2]"])
    {
        if names.contains(&name) {
            continue;
        }
        let schedule = cosine(1.0);
        let all = [
            optimizer.option(0, name).map(drop),
            optimizer.set_option(0, name, 0.5),
            optimizer.set_group_schedule(0, name, &schedule),
        ];
        for result in all {
            match result.unwrap_err() {
                Error::UnknownOption { group: 0, name: found, expected } => {
                    assert_eq!((found.as_str(), expected), (name, names.iter().map(ToString::to_string).collect()));
                }
                error => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn options_out_of_their_ranges_and_of_no_name() {
    let max_grad_norm = Some(1.0);
    let names = ["lr", "momentum", "dampening", "weight_decay", "max_grad_norm"];
    set_all(Sgd::build_groups, Sgd { max_grad_norm, ..Sgd::default() }, &names);
    let names = ["lr", "alpha", "eps", "weight_decay", "momentum", "max_grad_norm"];
    set_all(RmsProp::build_groups, RmsProp { max_grad_norm, ..RmsProp::default() }, &names);
    let names = ["lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "max_grad_norm"];
    set_all(Adagrad::build_groups, Adagrad { max_grad_norm, ..Adagrad::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "eps", "weight_decay", "max_grad_norm"];
    set_all(Adam::build_groups, Adam { max_grad_norm, ..Adam::default() }, &names);
    set_all(AdamW::build_groups, AdamW { max_grad_norm, ..AdamW::default() }, &names);
    let names = ["lr", "rho", "eps", "weight_decay", "max_grad_norm"];
    set_all(Adadelta::build_groups, Adadelta { max_grad_norm, ..Adadelta::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "eps", "weight_decay", "max_grad_norm"];
    set_all(Adamax::build_groups, Adamax { max_grad_norm, ..Adamax::default() }, &names);
    set_all(RAdam::build_groups, RAdam { max_grad_norm, ..RAdam::default() }, &names);
    let names = ["lr", "etas[0]", "etas[1]", "step_sizes[0]", "step_sizes[1]", "max_grad_norm"];
    set_all(Rprop::build_groups, Rprop { max_grad_norm, ..Rprop::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "weight_decay", "max_grad_norm"];
    set_all(Lion::build_groups, Lion { max_grad_norm, ..Lion::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "eps", "weight_decay", "max_grad_norm"];
    set_all(Lamb::build_groups, Lamb { max_grad_norm, ..Lamb::default() }, &names);
    let names = ["lr", "momentum", "dampening", "weight_decay", "trust_coefficient", "eps", "max_grad_norm"];
    set_all(Lars::build_groups, Lars { max_grad_norm, ..Lars::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "beta3", "eps", "weight_decay", "d0", "d_coef", "growth_rate"];
    let names = [&names[..], &["d", "d_max", "d_numerator", "k", "max_grad_norm"]].concat();
    let options = Prodigy { beta3: Some(0.9), max_grad_norm, ..Prodigy::default() };
    set_all(Prodigy::build_groups, options, &names);
    let averaging = ["warmup_steps", "r", "weight_lr_power", "max_grad_norm"];
    let names = [&["lr", "betas[0]", "betas[1]", "eps", "weight_decay"][..], &averaging].concat();
    set_all(ScheduleFreeAdamW::build_groups, ScheduleFreeAdamW { max_grad_norm, ..Default::default() }, &names);
    let names = [&["lr", "momentum", "weight_decay"][..], &averaging].concat();
    set_all(ScheduleFreeSgd::build_groups, ScheduleFreeSgd { max_grad_norm, ..Default::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "betas[2]", "alpha", "eps", "weight_decay", "max_grad_norm"];
    set_all(AdEMAMix::build_groups, AdEMAMix { max_grad_norm, ..AdEMAMix::default() }, &names);
    let names = ["lr", "betas[0]", "betas[1]", "eps", "weight_decay", "momentum_decay", "max_grad_norm"];
    set_all(NAdam::build_groups, NAdam { max_grad_norm, ..NAdam::default() }, &names);
    let names = ["lr", "lambd", "alpha", "t0", "weight_decay", "max_grad_norm"];
    set_all(Asgd::build_groups, Asgd { max_grad_norm, ..Asgd::default() }, &names);
}

#[test]
fn schedules_that_cannot_be_followed() {
    let weight = leaf(&[1.0]);
    let mut optimizer =
        Adam::build_groups(vec![Group::new(named(&[("weight", &weight)]), 0.1, Adam::default())]).unwrap();
    for group in [1, usize::MAX] {
        let unknown = format!("group is {group}, expected a number below 1");
        assert_eq!(said(optimizer.set_group_schedule(group, "lr", &cosine(4.0))), unknown);
        assert_eq!(said(optimizer.lr(group)), unknown);
        assert_eq!(said(optimizer.set_group_lr(group, 0.1)), unknown);
        assert_eq!(said(optimizer.set_option(group, "eps", 0.1)), unknown);
    }
    // Good at its step 0, and out of range at 2: all stay at 1, also the one before it.
    let constant = |factor| Schedule::new(Constant { factor }).unwrap();
    let late = constant(1.0).then(&constant(1.2), Some(2.0)).unwrap();
    optimizer.set_schedule(&cosine(4.0)).unwrap();
    optimizer.set_group_schedule(0, "betas[0]", &late).unwrap();
    optimizer.advance().unwrap();
    let lr = optimizer.lr(0).unwrap();
    for _ in 0..2 {
        let error = said(optimizer.advance());
        assert!(error.starts_with("group 0: betas is [1.08, "), "{error}");
        assert_eq!((optimizer.lr(0).unwrap(), optimizer.option(0, "betas[0]").unwrap()), (lr, 0.9));
    }
    for step in [f64::NAN, f64::INFINITY, -0.5] {
        assert!(matches!(optimizer.seek(step), Err(Error::StepRange { .. })), "{step}");
        assert_eq!(optimizer.lr(0).unwrap(), lr);
    }
}
