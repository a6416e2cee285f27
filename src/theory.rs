//! What theory says of learning rates: the bounds within which descent is stable on a quadratic, and how a rate follows
//! the batch size and the momentum. Pure functions.

use crate::check::Check;
use crate::error::Error;

/// The largest stable learning rate of gradient descent, as `torch.optim.SGD` does it, with the curvature `lambda_max`:
///
/// ```text
/// eta < 2 * (1 + beta) / ((1 - d) * (lambda_max + w))       heavy ball: momentum beta, dampening d, coupled decay w
/// eta < 2 * (1 + beta) / ((1 + 2 * beta) * (lambda_max + w))       Nesterov
/// ```
///
/// On a quadratic with eigenvalues in `(0, lambda_max]` it converges below the bound, from anywhere, and diverges above.
/// Infinite where there is no curvature. Without momentum torch does not dampen.
///
/// ```
/// use torchpace::theory::max_stable_lr;
/// assert_eq!(max_stable_lr(4.0, 0.0, 0.0, false, 0.0)?, 0.5);
/// assert!((max_stable_lr(1.0, 0.9, 0.0, false, 0.0)? - 3.8).abs() < 1e-14);
/// assert!((max_stable_lr(1.0, 0.9, 0.9, false, 0.0)? - 38.0).abs() < 1e-12);
/// assert!((max_stable_lr(1.0, 0.9, 0.0, true, 0.0)? - 3.8 / 2.8).abs() < 1e-14);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn max_stable_lr(
    lambda_max: f64,
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
) -> Result<f64, Error> {
    let check = Check("max_stable_lr");
    check.not_negative("lambda_max", lambda_max)?;
    check.below_one("momentum", momentum)?;
    check.below_one("dampening", dampening)?;
    check.not_negative("weight_decay", weight_decay)?;
    if nesterov && (momentum == 0.0 || dampening != 0.0) {
        check.that(false, "nesterov", &nesterov, "False, or a momentum and zero dampening")?;
    }
    let intake = match momentum {
        0.0 => 1.0,
        _ if nesterov => 1.0 + 2.0 * momentum,
        _ => 1.0 - dampening,
    };
    Ok(2.0 * (1.0 + momentum) / (intake * (lambda_max + weight_decay)))
}

/// The same for RMSprop, `lambda_max` being the largest eigenvalue of `P^-1 H`, with `P` the diagonal of the roots that
/// it divides by: `eta < 2 * (1 + beta) / lambda_max`.
///
/// ```
/// use torchpace::theory::max_stable_lr_rmsprop;
/// assert_eq!(max_stable_lr_rmsprop(4.0, 0.0)?, 0.5);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn max_stable_lr_rmsprop(lambda_max: f64, momentum: f64) -> Result<f64, Error> {
    let check = Check("max_stable_lr_rmsprop");
    check.not_negative("lambda_max", lambda_max)?;
    check.below_one("momentum", momentum)?;
    Ok(2.0 * (1.0 + momentum) / lambda_max)
}

/// The same for Adam, whose momentum is averaged, and for AdamW with the decoupled decay `w`:
/// `eta < 2 * (1 + beta1) / ((1 - beta1) * lambda_max + (1 + beta1) * w)`.
///
/// ```
/// use torchpace::theory::max_stable_lr_adam;
/// assert!((max_stable_lr_adam(1.0, 0.9, 0.0)? - 38.0).abs() < 1e-12);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn max_stable_lr_adam(lambda_max: f64, beta1: f64, decoupled_weight_decay: f64) -> Result<f64, Error> {
    let check = Check("max_stable_lr_adam");
    check.not_negative("lambda_max", lambda_max)?;
    check.below_one("beta1", beta1)?;
    check.not_negative("decoupled_weight_decay", decoupled_weight_decay)?;
    let (sum, rest) = (1.0 + beta1, 1.0 - beta1);
    Ok(2.0 * sum / (rest * lambda_max + sum * decoupled_weight_decay))
}

/// How a learning rate follows the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalingRule {
    /// In proportion: the expected progress for each sample stays.
    Linear,
    /// As the square root: the variance of a step stays.
    Sqrt,
}

impl ScalingRule {
    /// The rule of this name.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "linear" => Ok(Self::Linear),
            "sqrt" => Ok(Self::Sqrt),
            _ => Err(Error::Argument {
                schedule: "scale_lr",
                name: "rule",
                found: format!("{name:?}"),
                expected: "\"linear\" or \"sqrt\"",
            }),
        }
    }
}

/// The learning rate for batches of `to_batch`, where `lr` is right for batches of `batch`: `lr * to_batch / batch`, or
/// `lr * sqrt(to_batch / batch)`.
///
/// ```
/// use torchpace::theory::{ScalingRule, scale_lr};
/// assert_eq!(scale_lr(0.1, 256.0, 1024.0, ScalingRule::Linear)?, 0.4);
/// assert_eq!(scale_lr(0.1, 256.0, 1024.0, ScalingRule::Sqrt)?, 0.2);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn scale_lr(lr: f64, batch: f64, to_batch: f64, rule: ScalingRule) -> Result<f64, Error> {
    let check = Check("scale_lr");
    check.not_negative("lr", lr)?;
    check.positive("batch", batch)?;
    check.positive("to_batch", to_batch)?;
    let ratio = to_batch / batch;
    Ok(lr
        * match rule {
            ScalingRule::Linear => ratio,
            ScalingRule::Sqrt => ratio.sqrt(),
        })
}

/// The length of a step under a constant gradient of length 1, when the momentum has settled:
/// `lr * (1 - dampening) / (1 - momentum)`. Without momentum torch does not dampen.
///
/// ```
/// use torchpace::theory::effective_lr;
/// assert!((effective_lr(0.1, 0.9, 0.0)? - 1.0).abs() < 1e-15);
/// assert_eq!(effective_lr(0.1, 0.9, 0.9)?, 0.1);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn effective_lr(lr: f64, momentum: f64, dampening: f64) -> Result<f64, Error> {
    let check = Check("effective_lr");
    check.not_negative("lr", lr)?;
    check.below_one("momentum", momentum)?;
    check.below_one("dampening", dampening)?;
    if momentum == 0.0 {
        return Ok(lr);
    }
    Ok(lr * ((1.0 - dampening) / (1.0 - momentum)))
}

/// The learning rate that keeps the effective one, `lr / (1 - momentum)`, under another momentum:
/// `lr * (1 - to_momentum) / (1 - momentum)`.
///
/// ```
/// use torchpace::theory::retune;
/// assert!((retune(0.1, 0.9, 0.99)? - 0.01).abs() < 1e-15);
/// # Ok::<(), torchpace::error::Error>(())
/// ```
///
/// # Errors
///
/// An argument is out of its range.
pub fn retune(lr: f64, momentum: f64, to_momentum: f64) -> Result<f64, Error> {
    let check = Check("retune");
    check.not_negative("lr", lr)?;
    check.below_one("momentum", momentum)?;
    check.below_one("to_momentum", to_momentum)?;
    Ok(lr * ((1.0 - to_momentum) / (1.0 - momentum)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The larger absolute value of the roots of `z^2 - trace * z + det`: the spectral radius of a 2 x 2 matrix.
    fn radius(trace: f64, det: f64) -> f64 {
        let quarter = trace * trace / 4.0 - det;
        if quarter < 0.0 { det.sqrt() } else { trace.abs() / 2.0 + quarter.sqrt() }
    }

    /// Of the matrix that takes `(theta, v)` to the next, from its entries.
    fn of_matrix(m: [[f64; 2]; 2]) -> f64 {
        radius(m[0][0] + m[1][1], m[0][0] * m[1][1] - m[0][1] * m[1][0])
    }

    /// `v = beta * v + intake * a * theta; theta -= eta * v`, or Nesterov's `theta -= eta * (a * theta + beta * v)`.
    fn of_sgd(eta: f64, a: f64, beta: f64, intake: f64, nesterov: bool) -> f64 {
        let v = [intake * a, beta];
        let direction = if nesterov { [a + beta * v[0], beta * v[1]] } else { v };
        of_matrix([[1.0 - eta * direction[0], -eta * direction[1]], v])
    }

    /// AdamW with its preconditioner held fixed: `m = beta * m + (1 - beta) * a * theta; theta = (1 - eta * w) * theta -
    /// eta * m`.
    fn of_adam(eta: f64, a: f64, beta: f64, decay: f64) -> f64 {
        let m = [(1.0 - beta) * a, beta];
        of_matrix([[1.0 - eta * decay - eta * m[0], -eta * m[1]], m])
    }

    proptest! {
        #[test]
        fn stable_just_below_and_not_just_above(
            lambda in 1e-3_f64..1e3,
            share in 1e-6_f64..1.0,
            beta in 0.0_f64..0.999,
            dampening in 0.0_f64..0.999,
            nesterov: bool,
            decay in 0.0_f64..10.0,
        ) {
            let nesterov = nesterov && beta > 0.0;
            let dampening = if nesterov { 0.0 } else { dampening };
            let bound = max_stable_lr(lambda, beta, dampening, nesterov, decay).unwrap();
            let intake = if beta == 0.0 { 1.0 } else { 1.0 - dampening };
            let at = |eta: f64, lambda: f64| of_sgd(eta, lambda + decay, beta, intake, nesterov);
            prop_assert!(at(bound * (1.0 - 1e-6), lambda) < 1.0);
            prop_assert!(at(bound * (1.0 - 1e-6), lambda * share) < 1.0, "a smaller eigenvalue");
            prop_assert!(at(bound * (1.0 + 1e-6), lambda) > 1.0);
            prop_assert!((at(bound, lambda) - 1.0).abs() < 1e-9);
        }

        #[test]
        fn the_same_with_a_preconditioner(
            lambda in 1e-3_f64..1e3,
            share in 1e-6_f64..1.0,
            beta in 0.0_f64..0.999,
            decay in 0.0_f64..10.0,
        ) {
            let bound = max_stable_lr_adam(lambda, beta, decay).unwrap();
            prop_assert!(of_adam(bound * (1.0 - 1e-6), lambda, beta, decay) < 1.0);
            prop_assert!(of_adam(bound * (1.0 - 1e-6), lambda * share, beta, decay) < 1.0);
            prop_assert!(of_adam(bound * (1.0 + 1e-6), lambda, beta, decay) > 1.0);
            let bound = max_stable_lr_rmsprop(lambda, beta).unwrap();
            prop_assert!(of_sgd(bound * (1.0 - 1e-6), lambda, beta, 1.0, false) < 1.0);
            prop_assert!(of_sgd(bound * (1.0 + 1e-6), lambda, beta, 1.0, false) > 1.0);
        }

        #[test]
        fn what_is_kept(lr in 0.0_f64..10.0, beta in 0.0_f64..0.99, to in 0.0_f64..0.99, b in 1.0_f64..1e5, c in 1.0_f64..1e5) {
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs());
            let again = retune(lr, beta, to).unwrap();
            prop_assert!(close(effective_lr(again, to, 0.0).unwrap(), effective_lr(lr, beta, 0.0).unwrap()));
            let linear = scale_lr(lr, b, c, ScalingRule::Linear).unwrap();
            prop_assert!(close(linear / c, lr / b), "progress a sample");
            let sqrt = scale_lr(lr, b, c, ScalingRule::Sqrt).unwrap();
            prop_assert!(close(sqrt * sqrt / c, lr * lr / b), "variance of a step");
        }
    }

    #[test]
    fn arguments_out_of_range_are_named() {
        let message = |result: Result<f64, Error>| result.unwrap_err().to_string();
        assert_eq!(
            message(max_stable_lr(-1.0, 0.0, 0.0, false, 0.0)),
            "max_stable_lr: lambda_max is -1, expected a finite number >= 0"
        );
        assert_eq!(
            message(max_stable_lr(1.0, 0.9, 0.1, true, 0.0)),
            "max_stable_lr: nesterov is True, expected False, or a momentum and zero dampening"
        );
        assert!(message(max_stable_lr(1.0, 1.0, 0.0, false, 0.0)).contains("momentum is 1,"));
        assert!(message(max_stable_lr(1.0, 0.9, 1.0, false, 0.0)).contains("dampening is 1,"));
        assert!(message(max_stable_lr(1.0, 0.0, 0.0, false, f64::NAN)).contains("weight_decay is NaN"));
        assert!(message(max_stable_lr_adam(1.0, -0.1, 0.0)).contains("beta1 is -0.1"));
        assert!(message(max_stable_lr_rmsprop(f64::INFINITY, 0.0)).contains("lambda_max is inf"));
        assert!(message(scale_lr(0.1, 0.0, 1.0, ScalingRule::Linear)).contains("batch is 0,"));
        assert!(message(effective_lr(0.1, 1.0, 0.0)).contains("momentum is 1,"));
        assert!(message(retune(0.1, 0.0, 1.5)).contains("to_momentum is 1.5"));
        assert!(ScalingRule::named("cubic").unwrap_err().to_string().contains("rule is \"cubic\""));
        assert_eq!(max_stable_lr(0.0, 0.0, 0.0, false, 0.0), Ok(f64::INFINITY));
        assert_eq!(max_stable_lr(0.0, 0.0, 0.0, false, 0.5), Ok(4.0));
    }
}
