//! The update rules: one file an optimizer, and the one list of them.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod ademamix;
mod asgd;
mod lamb;
mod lars;
mod lion;
mod nadam;
mod prodigy;
mod radam;
mod rmsprop;
mod rprop;
mod schedule_free;
mod schedule_free_adamw;
mod schedule_free_sgd;
mod sgd;
mod terms;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::Adam;
pub use adamax::Adamax;
pub use ademamix::AdEMAMix;
pub use asgd::Asgd;
pub use lamb::Lamb;
pub use lars::Lars;
pub use lion::Lion;
pub use nadam::NAdam;
pub use prodigy::Prodigy;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use rprop::Rprop;
pub use schedule_free_adamw::ScheduleFreeAdamW;
pub use schedule_free_sgd::ScheduleFreeSgd;
pub use sgd::Sgd;

use crate::error::Error;
use crate::rule::Rule;

/// Something to do with a rule whose type is known only by its name.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output;
}

macro_rules! list {
    ($($rule:ty),+ $(,)?) => {
        /// The names of all rules.
        pub fn names() -> Vec<&'static str> {
            vec![$(<$rule as Rule<_, _>>::NAME),+]
        }

        /// Calls `visitor` with the rule of this name.
        pub fn visit<V: Visitor>(name: &str, visitor: V) -> Result<V::Output, Error> {
            $(
                if name == <$rule as Rule<_, _>>::NAME {
                    return Ok(visitor.visit::<$rule, _, _>());
                }
            )+
            Err(Error::UnknownRule { found: name.to_owned(), expected: names() })
        }
    };
}

list![
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdEMAMix,
    Asgd,
    Lamb,
    Lars,
    Lion,
    NAdam,
    Prodigy,
    RAdam,
    RmsProp,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSgd,
    Sgd
];
