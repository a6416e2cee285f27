"""What theory says of learning rates, computed in Rust."""

from typing import Literal, SupportsFloat

from torchpace import _native
from torchpace.control._numbers import flag, number


def max_stable_lr(
    lambda_max: SupportsFloat,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> float:
    r"""The learning rate below which SGD is stable: :math:`2 / \lambda_{max}`, and what momentum makes of it.

    On a quadratic with the positive eigenvalues :math:`\lambda \le \lambda_{max}`, gradient descent converges from
    anywhere below the bound and diverges above; with momentum :math:`\beta`, dampening :math:`d` and coupled weight
    decay :math:`w`:

    .. math::
        \eta < \frac{2 (1 + \beta)}{(1 - d) (\lambda_{max} + w)} \quad \text{(heavy ball)} \qquad
        \eta < \frac{2 (1 + \beta)}{(1 + 2 \beta) (\lambda_{max} + w)} \quad \text{(Nesterov)}

    On another loss it tells where descent near a minimum begins to oscillate across the sharpest direction; the loss
    may still fall beyond it, as the curvature changes on the way.

    Args:
        lambda_max: :math:`\lambda_{max} \ge 0`, the largest eigenvalue of the Hessian, in units of the loss by
            parameter units squared; `sharpness` measures it, and what it returns may be given as it is.
        momentum: :math:`0 \le \beta < 1` (default: 0).
        dampening: :math:`0 \le d < 1`; as in torch, without effect where there is no momentum. The averaged form
            :math:`v = \beta v + (1 - \beta) g` is the dampening :math:`d = \beta`; torch's first step is not dampened,
            on which stability does not depend (default: 0).
        nesterov: Nesterov's momentum, which as in torch goes with ``dampening=0`` (default: False).
        weight_decay: :math:`w \ge 0`, coupled (default: 0).

    Returns:
        The bound, in units of a learning rate; infinite where there is no curvature.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964. Cohen, Kaur, Li, Kolter and
        Talwalkar, Gradient descent on neural networks typically occurs at the edge of stability, 2021.

    Example:
        >>> from torchpace.control import max_stable_lr
        >>> max_stable_lr(4.0)
        0.5
        >>> [round(max_stable_lr(1.0, 0.9, d, nesterov), 3) for d, nesterov in [(0, False), (0.9, False), (0, True)]]
        [3.8, 38.0, 1.357]
    """
    return _native.max_stable_lr(
        number("lambda_max", lambda_max),
        number("momentum", momentum),
        number("dampening", dampening),
        flag("nesterov", nesterov),
        number("weight_decay", weight_decay),
    )


def max_stable_lr_rmsprop(lambda_max: SupportsFloat, momentum: float = 0.0) -> float:
    r"""The learning rate below which RMSprop, or Adagrad, is stable: :math:`2 (1 + \beta) / \lambda_{max}(P^{-1} H)`.

    :math:`P` is the diagonal of what the step divides by, :math:`\sqrt{v} + \epsilon`, taken as constant: it changes
    slowly where :math:`\alpha` is near 1.

    Args:
        lambda_max: the largest eigenvalue of :math:`P^{-1} H`, at least 0; ``sharpness(..., optimizer=...)``
            measures it, and what it returns may be given as it is.
        momentum: :math:`0 \le \beta < 1`, RMSprop's (default: 0).

    Returns:
        The bound, in units of a learning rate; infinite where there is no curvature.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Cohen, Ghorbani, Krishnan, Agarwal, Medapati, Badura, Suo, Cardoze, Nado, Dahl and Gilmer, Adaptive gradient
        methods at the edge of stability, 2022.

    Example:
        >>> from torchpace.control import max_stable_lr_rmsprop
        >>> max_stable_lr_rmsprop(4.0), max_stable_lr_rmsprop(4.0, momentum=0.5)
        (0.5, 0.75)
    """
    return _native.max_stable_lr_rmsprop(number("lambda_max", lambda_max), number("momentum", momentum))


def max_stable_lr_adam(lambda_max: SupportsFloat, beta1: float = 0.9, decoupled_weight_decay: float = 0.0) -> float:
    r"""The learning rate below which Adam, or AdamW, is stable.

    With the averaged momentum :math:`\beta_1` and AdamW's decay :math:`w`, which shrinks the parameters apart from the
    gradient:

    .. math::
        \eta < \frac{2 (1 + \beta_1)}{(1 - \beta_1) \lambda_{max}(P^{-1} H) + (1 + \beta_1) w}

    Args:
        lambda_max: the largest eigenvalue of :math:`P^{-1} H`, at least 0, :math:`P` being the diagonal of what the
            step divides by; ``sharpness(..., optimizer=...)`` measures it, and what it returns may be given as it is.
        beta1: :math:`0 \le \beta_1 < 1` (default: 0.9).
        decoupled_weight_decay: :math:`w \ge 0`, AdamW's ``weight_decay``; Adam's coupled one belongs to :math:`H`
            (default: 0).

    Returns:
        The bound, in units of a learning rate; infinite where there is neither curvature nor decay.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Cohen et al., Adaptive gradient methods at the edge of stability, 2022.

    Example:
        >>> from torchpace.control import max_stable_lr_adam
        >>> round(max_stable_lr_adam(1.0), 6), max_stable_lr_adam(1.0, beta1=0.0)
        (38.0, 2.0)
    """
    return _native.max_stable_lr_adam(
        number("lambda_max", lambda_max),
        number("beta1", beta1),
        number("decoupled_weight_decay", decoupled_weight_decay),
    )


def scale_lr(lr: float, batch: float, to_batch: float, rule: Literal["linear", "sqrt"] = "linear") -> float:
    r"""The learning rate for another batch size: :math:`\eta B' / B`, or :math:`\eta \sqrt{B' / B}`.

    The linear rule keeps the expected progress for each sample seen, to first order in :math:`\eta \lambda`; the square
    root keeps the variance of a step, :math:`\eta^2 \sigma^2 / B`, and is the usual one for Adam. Neither holds where
    the scaled rate comes near the stability bound, which does not grow with the batch.

    Args:
        lr: the rate that is right for ``batch``, at least 0, in units of a learning rate.
        batch: :math:`B > 0`, in samples.
        to_batch: :math:`B' > 0`, in samples.
        rule: "linear" or "sqrt" (default: "linear").

    Returns:
        The rate for ``to_batch``.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Goyal et al., Accurate, large minibatch SGD, 2017 (linear). Krizhevsky, One weird trick for parallelizing
        convolutional neural networks, 2014; Malladi, Lyu, Panigrahi and Arora, On the SDEs and scaling rules for
        adaptive gradient algorithms, 2022 (square root).

    Example:
        >>> from torchpace.control import scale_lr
        >>> scale_lr(0.1, 256, 1024), scale_lr(0.1, 256, 1024, rule="sqrt")
        (0.4, 0.2)
    """
    if not isinstance(rule, str):
        raise TypeError(f"rule is of type {type(rule).__name__}, expected 'linear' or 'sqrt'")
    return _native.scale_lr(number("lr", lr), number("batch", batch), number("to_batch", to_batch), rule)


def effective_lr(lr: float, momentum: float, dampening: float = 0.0) -> float:
    r"""The rate at which SGD with momentum goes once the momentum has settled: :math:`\eta (1 - d) / (1 - \beta)`.

    Under a constant gradient :math:`g` the velocity :math:`v = \beta v + (1 - d) g` tends to
    :math:`g (1 - d) / (1 - \beta)`: 10 g at :math:`\beta` 0.9, 100 g at 0.99.

    Args:
        lr: :math:`\eta \ge 0`, in units of a learning rate.
        momentum: :math:`0 \le \beta < 1`.
        dampening: :math:`0 \le d < 1`; as in torch, without effect where there is no momentum (default: 0).

    Returns:
        The effective rate.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Example:
        >>> from torchpace.control import effective_lr
        >>> round(effective_lr(0.1, 0.9), 6), effective_lr(0.1, 0.9, dampening=0.9)
        (1.0, 0.1)
    """
    return _native.effective_lr(number("lr", lr), number("momentum", momentum), number("dampening", dampening))


def retune(lr: float, momentum: float, to_momentum: float) -> float:
    r"""The rate that, under another momentum, keeps the steady step: :math:`\eta (1 - \beta') / (1 - \beta)`.

    It keeps the effective rate :math:`\eta / (1 - \beta)`. Where the dampening is the momentum (the averaged form)
    there is nothing to keep, for there the effective rate is :math:`\eta` itself.

    Args:
        lr: :math:`\eta \ge 0`, the rate that is right for ``momentum``, in units of a learning rate.
        momentum: :math:`0 \le \beta < 1`.
        to_momentum: :math:`0 \le \beta' < 1`.

    Returns:
        The rate for ``to_momentum``.

    Raises:
        ValueError: an argument is out of its range.
        TypeError: one is of a wrong type.

    Paper:
        Polyak, Some methods of speeding up the convergence of iteration methods, 1964.

    Example:
        >>> from torchpace.control import retune
        >>> round(retune(0.1, 0.9, 0.99), 6)
        0.01
    """
    return _native.retune(number("lr", lr), number("momentum", momentum), number("to_momentum", to_momentum))
